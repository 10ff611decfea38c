//! The second controller: tells on each `CachePolicy` whether its rules can be used, which caches follow it, and how far it got in them.
//!
//! It reads nothing but the policy itself, in a version that has at least its own last status: caches and other policies come from its own watches. What a status says follows from them alone, so one
//! that was missed is made up for by the next event.

mod announce;
mod conflicts;
mod coverage;
mod status;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt as _, Stream, StreamExt as _};
use kube::core::error_boundary::InvalidObject;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::observe::get;
use crate::reconcile::now;
use crate::report::chain;
use crate::retry;
use crate::status::{of, replace, stored, write};
use crate::watches::{GuardedCache, GuardedPolicy, scoped};

use announce::announce;
pub use conflicts::{Conflict, conflicts};
pub use status::{Neighbours, of_malformed, status};

const CONCURRENCY: u16 = 4;
/// Many caches that appear at once are one change of the list. Short: each event puts the look off by as much again, so a policy
/// whose caches change more often than this is told of nothing until they rest.
const DEBOUNCE: Duration = Duration::from_millis(200);
const TIMEOUT: Duration = Duration::from_mins(1);

/// Why a policy's status is not up to date.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read the CachePolicy")]
    Policy { source: Box<kube::Error> },
    #[error("failed to write the status of the CachePolicy")]
    Write { source: Box<kube::Error> },
    #[error("failed to finish within {} s", TIMEOUT.as_secs())]
    Timeout,
    #[error("failed to learn which caches and policies there are: the operator ends")]
    Ends,
}

impl Error {
    fn of_write(source: kube::Error) -> Self {
        Self::Write {
            source: Box::new(source),
        }
    }
}

/// What one reconcile needs.
struct Parts {
    context: Arc<Context>,
    known: Known,
}

/// What the watches have shown.
#[derive(Clone)]
struct Known {
    policies: Store<GuardedPolicy>,
    caches: Store<GuardedCache>,
    /// Whether all caches are known; `false`: they never will be. The store itself wakes only one of those who wait for it.
    complete: Shared<BoxFuture<'static, bool>>,
}

/// Keeps the status of all policies of a namespace, or of all namespaces, until told to stop.
pub async fn run(context: Arc<Context>, namespace: Option<String>, stop: CancellationToken) {
    let client = &context.client;
    let (policies, policy_writer) = reflector::store();
    let (caches, cache_writer) = reflector::store();
    let known = Known::new(policies, caches);
    let policy_events = watcher(
        scoped::<GuardedPolicy>(client, namespace.as_deref()),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(|policy| policy.managed_fields_mut().clear())
    .reflect(policy_writer);
    let cache_events = watcher(
        scoped::<GuardedCache>(client, namespace.as_deref()),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(without_words)
    .reflect(cache_writer);
    let (of_policy, of_cache) = (known.clone(), known.clone());
    let shared = Arc::new(Parts {
        context: context.clone(),
        known: known.clone(),
    });
    Controller::for_stream(futures::stream::pending(), known.policies.clone())
        .reconcile_on(wakes(policy_events, move |event| {
            of_policy.on_policy(event)
        }))
        .reconcile_on(wakes(cache_events, move |event| of_cache.on_cache(event)))
        .with_config(
            Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(one, retry_later, shared)
        .for_each(|_| ready(()))
        .await;
}

/// What a cache says to people is no part of what is said of its policies, and most of what there is of it.
fn without_words(cache: &mut GuardedCache) {
    cache.managed_fields_mut().clear();
    cache.annotations_mut().clear();
    if let Ok(RegistryCache {
        status: Some(status),
        ..
    }) = &mut cache.0
    {
        status.conditions.clear();
        status.mirrors.clear();
    }
}

/// The policies that the events of a watch wake.
fn wakes<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    targets: impl Fn(&Event<K>) -> Vec<ObjectRef<GuardedPolicy>> + Send + 'static,
) -> impl Stream<Item = ObjectRef<GuardedPolicy>> + Send + 'static
where
    K: Send + 'static,
{
    events.flat_map(move |event| {
        let woken = match event {
            Ok(event) => targets(&event),
            Err(error) => {
                tracing::warn!(%error, "a watch failed and starts anew");
                Vec::new()
            }
        };
        futures::stream::iter(woken)
    })
}

impl Known {
    fn new(policies: Store<GuardedPolicy>, caches: Store<GuardedCache>) -> Self {
        let all = caches.clone();
        let complete = async move { all.wait_until_ready().await.is_ok() };
        Self {
            policies,
            caches,
            complete: complete.boxed().shared(),
        }
    }

    /// An edited policy may hide the rules of those that stand behind it in a cache. A list that is complete may lack what an earlier one had.
    fn on_policy(&self, event: &Event<GuardedPolicy>) -> Vec<ObjectRef<GuardedPolicy>> {
        match event {
            Event::Init | Event::InitApply(_) => Vec::new(),
            Event::InitDone => self.all(),
            Event::Apply(policy) | Event::Delete(policy) => {
                let (namespace, name) = (policy.namespace(), policy.name_any());
                let mut woken = self.those(namespace.as_deref(), |other| {
                    other != name && self.share_a_cache(namespace.as_deref(), other, &name)
                });
                woken.push(ObjectRef::from_obj(policy));
                woken
            }
        }
    }

    /// The policies that the cache names, and those that list it.
    fn on_cache(&self, event: &Event<GuardedCache>) -> Vec<ObjectRef<GuardedPolicy>> {
        match event {
            Event::Init | Event::InitApply(_) => Vec::new(),
            Event::InitDone => self.all(),
            Event::Apply(cache) | Event::Delete(cache) => {
                let name = cache.name_any();
                self.policies
                    .state()
                    .iter()
                    .filter(|policy| policy.namespace() == cache.namespace())
                    .filter(|policy| names(cache, &policy.name_any()) || lists(policy, &name))
                    .map(|policy| ObjectRef::from_obj(&**policy))
                    .collect()
            }
        }
    }

    /// Shows the readable caches and policies of a namespace.
    fn with_neighbours<T>(&self, namespace: &str, visit: impl FnOnce(&Neighbours<'_>) -> T) -> T {
        let (caches, policies) = (self.caches.state(), self.policies.state());
        let here = |object: Option<String>| object.as_deref() == Some(namespace);
        visit(&Neighbours::new(
            caches
                .iter()
                .filter(|cache| here(cache.namespace()))
                .filter_map(|cache| cache.0.as_ref().ok()),
            policies
                .iter()
                .filter(|policy| here(policy.namespace()))
                .filter_map(|policy| policy.0.as_ref().ok()),
        ))
    }

    fn all(&self) -> Vec<ObjectRef<GuardedPolicy>> {
        let policies = self.policies.state();
        let references = policies.iter().map(|one| ObjectRef::from_obj(&**one));
        references.collect()
    }

    fn those(
        &self,
        namespace: Option<&str>,
        chosen: impl Fn(&str) -> bool,
    ) -> Vec<ObjectRef<GuardedPolicy>> {
        self.policies
            .state()
            .iter()
            .filter(|policy| policy.namespace().as_deref() == namespace)
            .filter(|policy| chosen(&policy.name_any()))
            .map(|policy| ObjectRef::from_obj(&**policy))
            .collect()
    }

    fn share_a_cache(&self, namespace: Option<&str>, one: &str, other: &str) -> bool {
        self.caches
            .state()
            .iter()
            .filter(|cache| cache.namespace().as_deref() == namespace)
            .any(|cache| names(cache, one) && names(cache, other))
    }
}

/// Whether the cache follows the policy.
fn names(cache: &GuardedCache, policy: &str) -> bool {
    let refers =
        |cache: &RegistryCache| cache.spec.policy_refs.iter().any(|one| one.name == policy);
    cache.0.as_ref().is_ok_and(refers)
}

/// Whether the policy's status names the cache. One that names as many as it can may follow from any.
fn lists(policy: &GuardedPolicy, cache: &str) -> bool {
    let status = policy.0.as_ref().ok().and_then(|one| one.status.as_ref());
    status.is_some_and(|status| {
        status.bindings.iter().any(|binding| binding.cache == cache)
            || usize::try_from(status.cache_count).is_ok_and(|all| all > status.bindings.len())
    })
}

async fn one(policy: Arc<GuardedPolicy>, shared: Arc<Parts>) -> Result<Action, Error> {
    let context = &shared.context;
    let namespace = policy.namespace().unwrap_or_default();
    let name = policy.name_any();
    let reconcile = async {
        match &policy.0 {
            Ok(_) => reconcile(&shared, &namespace, &name).await,
            Err(invalid) => tell_malformed(&shared, invalid).await,
        }
    };
    let result = tokio::time::timeout(TIMEOUT, reconcile)
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

async fn reconcile(shared: &Parts, namespace: &str, name: &str) -> Result<(), Error> {
    let Parts { context, known } = shared;
    // Without it, a new operator would write that no cache follows the policy.
    if !known.complete.clone().await {
        return Err(Error::Ends);
    }
    let policies: Api<CachePolicy> = Api::namespaced(context.client.clone(), namespace);
    let policy = get(&policies, name).await.map_err(|source| Error::Policy {
        source: Box::new(source),
    })?;
    let Some(policy) = policy.filter(|policy| policy.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let status = known.with_neighbours(namespace, |neighbours| status(&policy, neighbours, &now()));
    if policy.status.as_ref() == Some(&status) {
        return Ok(());
    }
    let written = write::<CachePolicy>(&context.client, &policy.metadata, &status).await;
    written.map(drop).map_err(Error::of_write)
}

/// Says on a policy that it can't be read: in its status, as far as the API server lets a broken object have one, and by an event.
async fn tell_malformed(shared: &Parts, invalid: &InvalidObject) -> Result<(), Error> {
    let Parts { context, known } = shared;
    if !known.complete.clone().await {
        return Err(Error::Ends);
    }
    let metadata = &invalid.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let read = stored::<CachePolicy>(&context.client, metadata).await;
    let read = read.map_err(|source| Error::Policy {
        source: Box::new(source),
    })?;
    let Some(object) = read.filter(|object| object.metadata.deletion_timestamp.is_none()) else {
        return Ok(());
    };
    let previous = of::<CachePolicy>(&object);
    let told = previous.clone().unwrap_or_default();
    let status = known.with_neighbours(namespace, |neighbours| {
        of_malformed(metadata, &told, &invalid.error, neighbours, &now())
    });
    if previous.as_ref() == Some(&status) {
        return Ok(());
    }
    tracing::warn!(%namespace, %name, error = %invalid.error, "CachePolicy {namespace}/{name} can't be read");
    announce(&context.recorder, metadata, &told, &status).await;
    let written = replace::<CachePolicy>(&context.client, metadata, &object, &status).await;
    if let Err(error) = written.map_err(Error::of_write) {
        tracing::warn!(%namespace, %name, error = %chain(&error), "failed to say in its status that CachePolicy {namespace}/{name} can't be read");
    }
    Ok(())
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller passes its parts by value"
)]
fn retry_later(policy: Arc<GuardedPolicy>, error: &Error, shared: Arc<Parts>) -> Action {
    let namespace = policy.namespace().unwrap_or_default();
    let name = policy.name_any();
    let wait = shared.context.failures.failed(&key(&namespace, &name));
    tracing::warn!(
        %namespace, %name, error = %chain(error), retry_ms = wait.as_millis(),
        "the status of CachePolicy {namespace}/{name} is not up to date and is tried again"
    );
    Action::requeue(wait)
}

fn key(namespace: &str, name: &str) -> String {
    format!("policy {namespace}/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_that_wait_for_the_caches_are_woken() {
        let (policies, _policy_writer) = reflector::store();
        let (caches, mut writer) = reflector::store();
        let known = Known::new(policies, caches);
        let waiting: Vec<_> = (0..3)
            .map(|_| tokio::spawn(known.complete.clone()))
            .collect();
        // On this one thread, each of them comes to its wait meanwhile.
        tokio::task::yield_now().await;
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        for one in waiting {
            let woken = tokio::time::timeout(Duration::from_secs(10), one).await;
            assert!(woken.expect("it hangs").unwrap());
        }
    }
}
