//! The second controller: tells on each `CachePolicy` whether its rules can be used, and which caches follow it.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use crds::cache_policy::{CachePolicy, CachePolicyStatus};
use crds::conditions::{ACCEPTED, Reason};
use crds::registry_cache::RegistryCache;
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{Controller, watcher};
use kube::{Api, Resource as _, ResourceExt};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::reconcile::now;
use crate::report::{Conditions, State, chain};
use crate::watches::{GuardedCache, GuardedPolicy, scoped};
use crate::{resolve, retry};

const STATUS_MANAGER: &str = "larder.dev/operator-status";
const CONCURRENCY: u16 = 4;
/// Many caches that appear at once are one change of the list.
const DEBOUNCE: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why a policy's status is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the CachePolicy")]
    Policy { source: Box<kube::Error> },
    #[error("failed to list the RegistryCaches")]
    Caches { source: Box<kube::Error> },
    #[error("failed to write the status of the CachePolicy")]
    Write { source: Box<kube::Error> },
    #[error("failed to finish within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Keeps the status of all policies until told to stop.
pub async fn run(context: Arc<Context>, namespace: Option<String>, stop: CancellationToken) {
    let client = &context.client;
    let controller = Controller::new(
        scoped::<GuardedPolicy>(client, namespace.as_deref()),
        watcher::Config::default(),
    );
    let policies = controller.store();
    controller
        .watches(
            scoped::<GuardedCache>(client, namespace.as_deref()),
            watcher::Config::default(),
            move |cache| affected(&policies, &cache),
        )
        .with_config(
            Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(one, retry_later, context)
        .for_each(|_| ready(()))
        .await;
}

/// The policies whose list of caches may have to change: those that the cache names, and those that list it.
fn affected(
    policies: &Store<GuardedPolicy>,
    cache: &GuardedCache,
) -> Vec<ObjectRef<GuardedPolicy>> {
    let name = cache.name_any();
    let refers = |policy: &str| {
        cache.meta().deletion_timestamp.is_none()
            && cache
                .0
                .as_ref()
                .is_ok_and(|cache| cache.spec.policy_refs.iter().any(|one| one.name == policy))
    };
    policies
        .state()
        .iter()
        .filter(|policy| policy.namespace() == cache.namespace())
        .filter(|policy| {
            let listed = policy.0.as_ref().is_ok_and(|policy| {
                policy
                    .status
                    .as_ref()
                    .is_some_and(|status| status.caches.contains(&name))
            });
            listed || refers(&policy.name_any())
        })
        .map(|policy| ObjectRef::from_obj(&**policy))
        .collect()
}

async fn one(policy: Arc<GuardedPolicy>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = policy.namespace().unwrap_or_default();
    let name = policy.name_any();
    if let Err(invalid) = &policy.0 {
        tracing::warn!(%namespace, %name, error = %invalid.error, "CachePolicy {namespace}/{name} can't be read");
        return Ok(Action::requeue(retry::periodic()));
    }
    let result = tokio::time::timeout(TIMEOUT, reconcile(&context, &namespace, &name))
        .await
        .unwrap_or(Err(Error::Timeout));
    let outcome = match &result {
        Ok(()) => "ok",
        Err(Error::Timeout) => "timeout",
        Err(_) => "error",
    };
    context
        .metrics
        .reconciles
        .with_label_values(&["cachepolicy", outcome])
        .inc();
    result?;
    context.failures.succeeded(&key(&namespace, &name));
    Ok(Action::requeue(retry::periodic()))
}

async fn reconcile(context: &Context, namespace: &str, name: &str) -> Result<(), Error> {
    let policies: Api<CachePolicy> = Api::namespaced(context.client.clone(), namespace);
    let caches: Api<GuardedCache> = Api::namespaced(context.client.clone(), namespace);
    let policy = policies
        .get_opt(name)
        .await
        .map_err(|source| Error::Policy {
            source: Box::new(source),
        })?;
    let Some(policy) = policy.filter(|policy| policy.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let caches = caches
        .list(&ListParams::default().match_any())
        .await
        .map_err(|source| Error::Caches {
            source: Box::new(source),
        })?;
    let caches = caches
        .items
        .iter()
        .filter_map(|guard| guard.0.as_ref().ok());
    let status = status(&policy, caches, &now());
    if policy.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let patch = json!({
        "apiVersion": CachePolicy::api_version(&()),
        "kind": CachePolicy::kind(&()),
        "metadata": {"name": name, "uid": policy.uid()},
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    match policies
        .patch_status(name, &parameters, &Patch::Apply(&patch))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::Write {
            source: Box::new(source),
        }),
    }
}

/// What stands in the status. Pure.
pub fn status<'a>(
    policy: &CachePolicy,
    caches: impl Iterator<Item = &'a RegistryCache>,
    now: &Time,
) -> CachePolicyStatus {
    let name = policy.name_any();
    let mut caches: Vec<String> = caches
        .filter(|cache| cache.metadata.deletion_timestamp.is_none())
        .filter(|cache| cache.spec.policy_refs.iter().any(|one| one.name == name))
        .map(ResourceExt::name_any)
        .collect();
    caches.sort_unstable();
    let previous = policy.status.clone().unwrap_or_default();
    let generation = policy.metadata.generation;
    let mut conditions = Conditions::new(&previous.conditions, generation, now);
    let state = match resolve::rules(&name, &policy.spec) {
        Ok(rules) => State::new(
            true,
            Reason::Accepted,
            &format!("All {} rules can be used.", rules.len()),
        ),
        Err(problems) => {
            let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
            State::new(
                false,
                Reason::PolicyInvalid,
                &(texts.join("; ") + ". Caches that follow this policy keep the last valid one."),
            )
        }
    };
    conditions.set(ACCEPTED, state);
    CachePolicyStatus {
        observed_generation: generation,
        caches,
        conditions: conditions.finish(),
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller passes its parts by value"
)]
fn retry_later(policy: Arc<GuardedPolicy>, error: &Error, context: Arc<Context>) -> Action {
    let namespace = policy.namespace().unwrap_or_default();
    let name = policy.name_any();
    let wait = context.failures.failed(&key(&namespace, &name));
    tracing::warn!(
        %namespace, %name, error = %chain(error), retry_ms = wait.as_millis(),
        "the status of CachePolicy {namespace}/{name} is not up to date and is tried again"
    );
    Action::requeue(wait)
}

fn key(namespace: &str, name: &str) -> String {
    format!("policy {namespace}/{name}")
}
