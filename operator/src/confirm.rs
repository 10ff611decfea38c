//! Between steps 4 and 5: makes the pods take the policy at once, and asks each whether it did.
//!
//! A `ConfigMap` reaches a running pod with the pod's next sync, up to 90 s later. A changed annotation on the pod makes
//! the kubelet sync at once. It may overtake the kubelet's own watch of the `ConfigMap`, so it is repeated.

mod configz;
mod propagation;

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout_at};

use crate::FIELD_MANAGER;
use crate::observe::CachePod;
use crate::render::names::{self, Owner};

pub use configz::{PodAccess, Question};
pub use propagation::{DEADLINE, Propagations};

/// Longest time within one reconcile; the next one goes on.
const BUDGET: Duration = Duration::from_millis(2_500);
/// Pause between two questions to a pod that answers.
const POLL: Duration = Duration::from_millis(100);
/// Time between two changes of the annotation.
const BUMP: Duration = Duration::from_millis(500);

/// How far the policy got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// One entry for each pod that should run, in their order.
    pub pods: Vec<PodPolicy>,
    /// Whether some pod that runs has disagreed for so long that people should know.
    pub overdue: bool,
}

/// A pod, and the policy it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPolicy {
    pub name: String,
    pub state: PodState,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodState {
    /// It follows the policy.
    Confirmed,
    /// It follows another one, or none yet, perhaps because it refused this one.
    Differs {
        hash: Option<String>,
        last_error: Option<String>,
    },
    /// It runs, and gave no answer.
    Silent { reason: String },
    /// It does not run.
    NotRunning,
}

impl Confirmation {
    /// Number of pods that follow the policy.
    pub fn confirmed(&self) -> usize {
        let confirmed = |pod: &&PodPolicy| pod.state == PodState::Confirmed;
        self.pods.iter().filter(confirmed).count()
    }

    /// Whether every pod that should run follows the policy.
    pub fn complete(&self) -> bool {
        self.confirmed() == self.pods.len()
    }

    /// Pods that run and don't follow the policy.
    pub fn disagreeing(&self) -> impl Iterator<Item = &PodPolicy> {
        self.pods.iter().filter(|pod| {
            matches!(
                pod.state,
                PodState::Differs { .. } | PodState::Silent { .. }
            )
        })
    }
}

/// What is to be confirmed.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub owner: &'a Owner,
    pub hash: &'a str,
    pub replicas: i32,
    pub pods: &'a [CachePod],
    /// Whether the `ConfigMap` was changed a moment ago, so that asking before the first bump is a waste.
    pub just_changed: bool,
    /// Whether the pods have disagreed for so long that waiting for them here only keeps a worker busy.
    pub overdue: bool,
    /// Whether the pods are only asked, once, and not made to do anything.
    pub only_ask: bool,
}

/// Asks, bumps and asks again until all pods that run agree, or the budget is used up.
pub async fn confirm(client: &Client, access: &PodAccess, target: Target<'_>) -> Vec<PodPolicy> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &target.owner.namespace);
    let deadline = Instant::now() + BUDGET;
    let mut last_bump = None;
    if target.just_changed {
        let running = running(&target).map(|(name, _)| name).collect();
        bump(&api, &target, running).await;
        last_bump = Some(Instant::now());
    }
    loop {
        let pods = ask(access, &target).await;
        let behind: Vec<String> = pods
            .iter()
            .filter(|pod| {
                matches!(
                    pod.state,
                    PodState::Differs { .. } | PodState::Silent { .. }
                )
            })
            .map(|pod| pod.name.clone())
            .collect();
        if behind.is_empty() || target.only_ask {
            return pods;
        }
        let differs = |pod: &PodPolicy| matches!(pod.state, PodState::Differs { .. });
        let someone_answers = pods.iter().any(differs);
        // A pod that gives no answer has not started yet, or is beyond the reach of an annotation.
        if someone_answers && last_bump.is_none_or(|at| at.elapsed() >= BUMP) {
            let behind = pods.iter().filter(|pod| differs(pod));
            bump(&api, &target, behind.map(|pod| pod.name.clone()).collect()).await;
            last_bump = Some(Instant::now());
        }
        let pause = if someone_answers { POLL } else { BUMP };
        if target.overdue || timeout_at(deadline, sleep(pause)).await.is_err() {
            return pods;
        }
    }
}

/// The pods that should run and do, with their addresses.
fn running<'a>(target: &Target<'a>) -> impl Iterator<Item = (String, &'a str)> + use<'a> {
    let pods = target.pods;
    let cache = target.owner.name.clone();
    (0..target.replicas).filter_map(move |ordinal| {
        let name = names::pod(&cache, ordinal);
        let pod = pods.iter().find(|pod| pod.name == name && !pod.deleting)?;
        Some((name, pod.running_at.as_deref()?))
    })
}

async fn ask(access: &PodAccess, target: &Target<'_>) -> Vec<PodPolicy> {
    let running: Vec<(String, &str)> = running(target).collect();
    let questions = (0..target.replicas).map(|ordinal| {
        let name = names::pod(&target.owner.name, ordinal);
        let address = running
            .iter()
            .find(|(pod, _)| *pod == name)
            .map(|(_, address)| *address);
        async move {
            let state = match address {
                None => PodState::NotRunning,
                Some(address) => {
                    let answer = access
                        .configz(&target.owner.namespace, &name, address)
                        .await;
                    match answer {
                        Ok(answer) if answer.policy_hash.as_deref() == Some(target.hash) => {
                            PodState::Confirmed
                        }
                        Ok(answer) => PodState::Differs {
                            hash: answer.policy_hash,
                            last_error: answer.last_error,
                        },
                        Err(error) => PodState::Silent {
                            reason: error.to_string(),
                        },
                    }
                }
            };
            PodPolicy { name, state }
        }
    });
    join_all(questions).await
}

/// Changes the pods' annotation. A failure is only logged: the next bump, or the kubelet's own sync, makes up for it.
async fn bump(api: &Api<Pod>, target: &Target<'_>, pods: Vec<String>) {
    // Patching an unchanged value would do nothing.
    let nonce = format!(
        "{}-{:08x}",
        &target.hash.get(..12).unwrap_or_default(),
        fastrand::u32(..)
    );
    let patch = &Patch::Merge(json!({"metadata": {"annotations": {names::POLICY_NONCE: nonce}}}));
    let parameters = &PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let namespace = &target.owner.namespace;
    join_all(pods.iter().map(|pod| async move {
        if let Err(error) = api.patch_metadata(pod, parameters, patch).await {
            tracing::warn!(%namespace, %pod, %error, "failed to annotate pod {namespace}/{pod}");
        }
    }))
    .await;
}
