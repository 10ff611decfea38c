//! Step 5: what happened becomes the status. Pure: the time is passed in.
//!
//! `Ready=True` can be built only from a [`Settled`] reconcile. `Reconciling` and `Stalled` stand in the status only while they are true (kstatus).

mod conditions;
mod messages;

use crds::conditions::{self as names, Reason};
use crds::registry_cache::{NodesStatus, PolicyStatus, RegistryCacheStatus, RenderedMirror};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::apply::{self, Applied};
use crate::confirm::{Confirmation, PodState};
use crate::nodes::count::Trouble;
use crate::nodes::{NodesSeen, Sighting};
use crate::observe::Observed;
use crate::resolve::ResolvedCache;

pub use conditions::{Condition, Conditions, State};
pub use messages::{chain, truncate};

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
        Ok(settled) => of_settled(settled, &mut conditions),
        Err(failure) => {
            of_failure(failure, &mut conditions);
            previous.clone()
        }
    };
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
    status.observed_generation = generation;
    status.conditions = conditions.finish();
    status
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
}

fn of_settled(settled: Settled<'_>, conditions: &mut Conditions<'_>) -> RegistryCacheStatus {
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
    let failure = applied.failures.first().map(Failure::of_apply);
    let stalled = policy.stalled || failure.as_ref().is_some_and(|failure| failure.stalled);
    let ready_state = if policy.problem {
        State::new(false, policy.state.reason, &policy.state.message)
    } else if let Some(failure) = failure {
        State::new(false, failure.reason, &failure.message)
    } else if let Some(message) = rollout {
        State::new(false, Reason::Progressing, &message)
    } else if policy.state.holds {
        State::new(
            true,
            Reason::Succeeded,
            &messages::ready(replicas, &cache.policy.hash),
        )
    } else {
        State::new(false, policy.state.reason, &policy.state.message)
    };
    if !ready_state.holds {
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
    let confirmed = i32::try_from(confirmation.confirmed()).unwrap_or(i32::MAX);
    RegistryCacheStatus {
        observed_generation: None,
        endpoint: cache.endpoint.clone(),
        replicas_ready: Some(format!("{ready}/{replicas}")),
        policy: Some(PolicyStatus {
            desired_hash: cache.policy.hash.clone(),
            applied_replicas: confirmed,
            replicas,
            summary: format!("{confirmed}/{replicas} applied"),
        }),
        mirrors: cache
            .mirrors
            .iter()
            .zip(&applied.mirrors)
            .map(|(mirror, config_map)| RenderedMirror {
                name: mirror.name.clone(),
                config_map: config_map.clone(),
            })
            .collect(),
        conditions: Vec::new(),
        nodes: None,
    }
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
                    last_error: Some(_)
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
    let api = cache.monitoring_api;
    let missing: Vec<&str> = [
        (
            spec.service_monitor.enabled && !api.service_monitor,
            "ServiceMonitor",
        ),
        (
            spec.alerts.enabled && !api.prometheus_rule,
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
