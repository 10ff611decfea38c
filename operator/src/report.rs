//! Step 5: what happened becomes the status. Pure: the time is passed in.
//!
//! `Ready=True` can be built only from a [`Settled`] reconcile. `Reconciling` and `Stalled` stand in the status only while they are true (kstatus).

mod conditions;
mod exposure;
mod in_force;
mod messages;
mod mirrors;
mod storage;
mod upstreams;

use crds::conditions::{self as names, Reason};
use crds::registry_cache::{
    NodesStatus, PolicyStatus, RegistryCacheStatus, ReplicaBehind, RolloutStatus,
};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::apply::{self, Applied};
use crate::confirm::{Confirmation, PodState};
use crate::nodes::count::Trouble;
use crate::nodes::{NodesSeen, Sighting};
use crate::observe::Observed;
use crate::optional_apis::OptionalKind;
use crate::render::names::REQUESTED_AT;
use crate::render::unknown_alerts;
use crate::resolve::ResolvedCache;

pub use conditions::{Condition, Conditions, State};
pub use messages::{chain, restarts, truncate};
pub use mirrors::conflicts;

/// The definition allows no longer ones.
const MAXIMUM_REQUEST: usize = 256;

/// A reconcile that went through all steps.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    pub cache: &'a ResolvedCache,
    pub applied: &'a Applied,
    pub confirmation: &'a Confirmation,
}

/// A reconcile that did not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    pub message: String,
    /// Whether a person has to act. Otherwise it is tried again, and may pass.
    pub stalled: bool,
    /// Whether it is the declaration of the policy that can't be followed.
    pub policy: bool,
}

impl Failure {
    /// The failure of an object.
    pub fn of_apply(error: &apply::Error) -> Self {
        let not_owned = matches!(error, apply::Error::NotOwned { .. });
        Self {
            reason: if not_owned {
                Reason::NotOwned
            } else {
                Reason::Failed
            },
            message: chain(error) + ".",
            stalled: not_owned,
            policy: false,
        }
    }
}

/// The status that tells what happened.
pub fn report(
    observed: &Observed,
    outcome: Result<Settled<'_>, &Failure>,
    now: &Time,
) -> RegistryCacheStatus {
    let previous = observed.cache.status.clone().unwrap_or_default();
    let generation = observed.cache.metadata.generation;
    let mut conditions = Conditions::new(&previous.conditions, generation, now);
    let mut status = match outcome {
        Ok(settled) => {
            let mut status = of_settled(settled, &previous, &mut conditions);
            if let Some(policy) = &mut status.policy {
                policy.policies = in_force::policies(observed, settled.cache, &previous);
            }
            status
        }
        Err(failure) => {
            of_failure(failure, &mut conditions);
            previous.clone()
        }
    };
    if observed.cache.spec.suspend {
        let state = State::new(true, Reason::Suspended, messages::SUSPENDED);
        conditions.set(names::SUSPENDED, state);
    }
    status.nodes = match &observed.nodes {
        Sighting::Unknown => {
            conditions.keep(names::NODES_WIRED);
            previous.nodes.clone()
        }
        Sighting::NotWired => None,
        Sighting::Seen(nodes) => {
            conditions.set(names::NODES_WIRED, nodes_state(nodes));
            Some(NodesStatus {
                ready: nodes.ready,
                total: nodes.total,
                summary: format!("{}/{} wired", nodes.ready, nodes.total),
            })
        }
    };
    status.usage = match &observed.figures.usage {
        Some(usage) => Some(upstreams::usage(usage)),
        None => previous.usage.clone(),
    };
    status.upstreams = upstreams::statuses(observed, &previous);
    if let Some(state) = upstreams::state(&status.upstreams) {
        conditions.set(names::UPSTREAMS_REACHABLE, state);
    }
    status.observed_generation = generation;
    status.last_handled_reconcile_at = requested_at(observed).or(status.last_handled_reconcile_at);
    status.conditions = conditions.finish();
    status
}

/// The request that this reconcile answers.
fn requested_at(observed: &Observed) -> Option<String> {
    let annotations = observed.cache.annotations();
    let value = annotations.get(REQUESTED_AT)?;
    Some(truncate(value, MAXIMUM_REQUEST))
}

fn of_failure(failure: &Failure, conditions: &mut Conditions<'_>) {
    let state = State::new(false, failure.reason, &failure.message);
    conditions.set(names::READY, state.clone());
    let busy = if failure.stalled {
        names::STALLED
    } else {
        names::RECONCILING
    };
    conditions.set(busy, State::new(true, failure.reason, &failure.message));
    if failure.policy {
        conditions.set(names::POLICY_APPLIED, state);
    } else {
        conditions.keep(names::POLICY_APPLIED);
    }
    conditions.keep(names::MONITORING_READY);
    conditions.keep(names::RISKY);
    conditions.keep(names::STORAGE_READY);
    conditions.keep(names::MIRRORS_READY);
    conditions.keep(names::EXPOSURE_READY);
    conditions.keep(names::NOT_ENFORCEABLE);
    conditions.keep(names::NOT_PULLABLE);
}

fn of_settled(
    settled: Settled<'_>,
    previous: &RegistryCacheStatus,
    conditions: &mut Conditions<'_>,
) -> RegistryCacheStatus {
    let Settled {
        cache,
        applied,
        confirmation,
    } = settled;
    let replicas = cache.replicas;
    let ready = applied
        .stateful_set
        .as_ref()
        .and_then(|stateful_set| stateful_set.status.as_ref())
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0);
    let policy = policy_state(cache, confirmation);
    let rollout = applied
        .stateful_set
        .as_ref()
        .and_then(|stateful_set| rollout(stateful_set, replicas));
    let restart = rollout
        .is_some()
        .then(|| restart(previous, applied))
        .flatten();
    let failure = applied.failures.first().map(Failure::of_apply);
    let (storage, storage_stalled) = storage::state(cache, applied);
    let pending = applied.suspended.as_deref().unwrap_or_default();
    let mirrors = mirrors::state(cache, applied);
    let mirrors_hold = cache.mirror_problems.is_empty();
    let stalled = policy.stalled
        || storage_stalled
        || !mirrors_hold
        || failure.as_ref().is_some_and(|failure| failure.stalled);
    let ready_state = if policy.problem {
        State::new(false, policy.state.reason, &policy.state.message)
    } else if !mirrors_hold {
        mirrors.clone()
    } else if let Some(failure) = failure {
        State::new(false, failure.reason, &failure.message)
    } else if !pending.is_empty() {
        State::new(false, Reason::Suspended, &messages::pending(pending))
    } else if storage_stalled {
        storage.clone()
    } else if let Some(message) = rollout {
        let because = restart.as_ref().map_or_else(String::new, |restart| {
            format!(" {}", restarts(&restart.changes, replicas))
        });
        State::new(false, Reason::Progressing, &format!("{message}{because}"))
    } else if !storage.holds {
        storage.clone()
    } else if policy.state.holds {
        State::new(
            true,
            Reason::Succeeded,
            &messages::ready(replicas, &cache.policy.hash),
        )
    } else {
        State::new(false, policy.state.reason, &policy.state.message)
    };
    // Nobody is at work on a suspended cache.
    if !ready_state.holds && applied.suspended.is_none() {
        let busy = if stalled {
            names::STALLED
        } else {
            names::RECONCILING
        };
        conditions.set(
            busy,
            State::new(true, ready_state.reason, &ready_state.message),
        );
    }
    conditions.set(names::READY, ready_state);
    conditions.set(names::POLICY_APPLIED, policy.state);
    conditions.set(names::MONITORING_READY, monitoring_state(cache, applied));
    if let Some(state) = risky(cache) {
        conditions.set(names::RISKY, state);
    }
    conditions.set(names::STORAGE_READY, storage);
    conditions.set(names::MIRRORS_READY, mirrors);
    if let Some(state) = exposure::state(cache, applied) {
        conditions.set(names::EXPOSURE_READY, state);
    }
    for (type_, state) in conflicts(&cache.enforcement) {
        conditions.set(type_, state);
    }
    let confirmed = i32::try_from(confirmation.confirmed()).unwrap_or(i32::MAX);
    RegistryCacheStatus {
        endpoint: cache.endpoint.clone(),
        replicas_ready: Some(format!("{ready}/{replicas}")),
        policy: Some(PolicyStatus {
            desired_hash: cache.policy.hash.clone(),
            applied_replicas: confirmed,
            replicas,
            summary: format!("{confirmed}/{replicas} applied"),
            policies: Vec::new(),
            behind: behind(confirmation),
        }),
        mirrors: mirrors::rendered(cache, applied),
        rollout: restart,
        ..RegistryCacheStatus::default()
    }
}

/// The restart that is under way: what began now, and what had begun before.
fn restart(previous: &RegistryCacheStatus, applied: &Applied) -> Option<RolloutStatus> {
    let before = previous.rollout.iter().flat_map(|one| &one.changes);
    let now = applied.rollout.iter().flat_map(|one| &one.changes);
    let mut changes: Vec<String> = Vec::new();
    for change in before.chain(now) {
        if !changes.contains(change) {
            changes.push(change.clone());
        }
    }
    (!changes.is_empty()).then_some(RolloutStatus { changes })
}

fn nodes_state(nodes: &NodesSeen) -> State {
    let reason = match &nodes.trouble {
        Some(Trouble::NotOwned { .. }) => Reason::NotOwned,
        None if nodes.complete() => Reason::Succeeded,
        None if nodes.total == 0 => Reason::Progressing,
        Some(Trouble::Other { .. }) | None => Reason::NotWired,
    };
    State::new(nodes.complete(), reason, &nodes.message())
}

/// What is declared and allowed, and regretted later.
fn risky(cache: &ResolvedCache) -> Option<State> {
    let unknown = unknown_alerts(&cache.monitoring.alerts);
    let risks = cache.risks.iter().map(String::as_str);
    let risks: Vec<&str> = risks.chain(unknown.as_deref()).collect();
    (!risks.is_empty()).then(|| State::new(true, Reason::RiskyChoice, &risks.join(" ")))
}

/// Pods that don't follow the policy, and what they follow.
fn behind(confirmation: &Confirmation) -> Vec<ReplicaBehind> {
    let others = confirmation.pods.iter().filter_map(|pod| {
        let hash = match &pod.state {
            PodState::Confirmed => return None,
            PodState::Differs { hash, .. } => hash.clone(),
            PodState::Silent { .. } | PodState::NotRunning => None,
        };
        Some(ReplicaBehind {
            pod: pod.name.clone(),
            hash,
        })
    });
    others.collect()
}

struct PolicyState {
    state: State,
    /// Whether the declared policy can't be followed at all.
    problem: bool,
    stalled: bool,
}

fn policy_state(cache: &ResolvedCache, confirmation: &Confirmation) -> PolicyState {
    let (hash, total) = (&cache.policy.hash, confirmation.pods.len());
    let state = |reason, message: String| PolicyState {
        state: State::new(reason == Reason::Succeeded, reason, &message),
        problem: false,
        stalled: false,
    };
    if let Some(problem) = cache.policy.problems.first() {
        let message = messages::last_good(
            &cache.policy.problems,
            hash,
            confirmation.confirmed(),
            total,
        );
        return PolicyState {
            problem: true,
            stalled: true,
            ..state(problem.reason(), message)
        };
    }
    let runs = |state: &PodState| *state != PodState::NotRunning;
    if confirmation.complete() {
        state(Reason::Succeeded, messages::applied(total, hash))
    } else if !confirmation.pods.iter().any(|pod| runs(&pod.state)) {
        state(
            Reason::NoPods,
            "No pod runs yet that could confirm the policy.".to_owned(),
        )
    } else if confirmation.overdue {
        let refused = confirmation.pods.iter().any(|pod| {
            matches!(
                pod.state,
                PodState::Differs {
                    last_error: Some(_),
                    ..
                }
            )
        });
        PolicyState {
            stalled: refused,
            ..state(Reason::NotConfirmed, messages::not_confirmed(confirmation))
        }
    } else {
        state(
            Reason::Propagating,
            messages::propagating(confirmation, hash),
        )
    }
}

/// What is missing until the rollout is complete.
fn rollout(stateful_set: &StatefulSet, replicas: i32) -> Option<String> {
    let name = stateful_set.name_any();
    if stateful_set.metadata.deletion_timestamp.is_some() {
        return Some(format!(
            "StatefulSet {name} is being removed, and is made anew when it is gone."
        ));
    }
    let status = stateful_set.status.clone().unwrap_or_default();
    if status.observed_generation < stateful_set.metadata.generation {
        return Some(format!(
            "StatefulSet {name} was changed, and Kubernetes has not taken it up yet."
        ));
    }
    let updated = status.updated_replicas.unwrap_or(0);
    let ready = status.ready_replicas.unwrap_or(0);
    if ready < replicas {
        Some(format!(
            "{ready} of {replicas} replicas of StatefulSet {name} are ready."
        ))
    } else if updated < replicas {
        Some(format!(
            "{updated} of {replicas} replicas of StatefulSet {name} are updated."
        ))
    } else if status.replicas > replicas {
        Some(format!(
            "StatefulSet {name} has {} replicas, and goes down to {replicas}.",
            status.replicas
        ))
    } else {
        None
    }
}

fn monitoring_state(cache: &ResolvedCache, applied: &Applied) -> State {
    let spec = &cache.monitoring;
    if !spec.service_monitor.enabled && !spec.alerts.enabled {
        return State::new(true, Reason::Disabled, "Monitoring is switched off.");
    }
    let lacks = |kind| !cache.apis.has(kind);
    let missing: Vec<&str> = [
        (
            spec.service_monitor.enabled && lacks(OptionalKind::ServiceMonitor),
            "ServiceMonitor",
        ),
        (
            spec.alerts.enabled && lacks(OptionalKind::PrometheusRule),
            "PrometheusRule",
        ),
    ]
    .into_iter()
    .filter_map(|(missing, kind)| missing.then_some(kind))
    .collect();
    if !missing.is_empty() {
        return State::new(false, Reason::ApiMissing, &messages::api_missing(&missing));
    }
    match applied.optional_failures.first() {
        Some(error) => {
            let failure = Failure::of_apply(error);
            State::new(false, failure.reason, &failure.message)
        }
        None => State::new(
            true,
            Reason::Succeeded,
            "The objects for the Prometheus operator are as declared.",
        ),
    }
}
