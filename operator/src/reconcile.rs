//! The steps in their order.

use std::time::Duration;

use crds::conditions::Reason;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use crate::confirm::{self, Confirmation, PodState, Target};
use crate::context::Context;
use crate::figures::AnsweringPod;
use crate::observe::Observed;
use crate::report::{Failure, Settled, chain};
use crate::resolve::{Growth, ResolvedCache};
use crate::watches::CacheRef;
use crate::{apply, observe, publish, render, report, resolve, retry};

/// Until the deadline, pods with another policy are asked again after this.
const ASK_SOON: Duration = Duration::from_millis(500);
/// And later after this.
const ASK_LATER: Duration = Duration::from_secs(5);
/// Until the deadline, pods that give no answer are asked again after this.
const ASK_SILENT: Duration = Duration::from_secs(2);
/// And later ever more rarely, up to this. A pod that becomes ready wakes the cache anyway.
const ASK_SILENT_AT_LAST: Duration = Duration::from_mins(1);
/// A growth that can go on is looked at again after this,
const GROW_SOON: Duration = Duration::from_secs(1);
/// one that Kubernetes is at work on after this: claims are not watched,
const GROW_LATER: Duration = Duration::from_secs(5);
/// and one that a person has to clear the way for after this: storage classes are not watched either.
const GROW_AT_LAST: Duration = Duration::from_mins(1);

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to observe")]
    Observe { source: observe::Error },
    #[error("failed to resolve")]
    Resolve { source: resolve::Error },
    #[error("failed to apply")]
    Apply { source: apply::Error },
    #[error("failed to go on before there is a certificate: {message}")]
    Pending { message: String },
    #[error("failed to publish")]
    Publish { source: publish::Error },
}

/// Brings one cache in line with its declaration, and returns when to look again at the latest. `turn` is dropped when the API server has
/// been asked for all of it: what is left is to wait for pods.
pub async fn reconcile(
    context: &Context,
    turn: impl Send,
    namespace: &str,
    name: &str,
) -> Result<Duration, Error> {
    let started = Instant::now();
    let cache_ref: CacheRef = ObjectRef::new(name).within(namespace);
    let apis = context.apis.borrow().clone();
    let observed = observe::observe(&context.client, namespace, name, apis)
        .await
        .map_err(|source| Error::Observe { source })?;
    let Some(mut observed) = observed else {
        context.forget(&cache_ref);
        return Ok(retry::periodic());
    };
    observed.nodes = context.nodes.seen(namespace, name);
    observed.nodes_behind = context.nodes.may_lack(namespace, name);
    observed.figures = context.figures.told(&cache_ref);
    let mut applied = Box::pin(bring_in_line(context, &observed)).await;
    // What could not be resolved has made no Service.
    let went_on = matches!(applied, Ok(_) | Err(Error::Pending { .. }));
    if went_on && let Some(now) = with_address(context, &observed).await {
        observed = now;
        let before = applied.is_ok_and(|(_, applied)| applied.policy_changed);
        applied = Box::pin(bring_in_line(context, &observed)).await;
        if let Ok((_, applied)) = &mut applied {
            applied.policy_changed |= before;
        }
    }
    drop(turn);
    context
        .metrics
        .reconcile_seconds
        .observe(started.elapsed().as_secs_f64());

    let (status, next) = match &applied {
        Ok((cache, applied)) => {
            let confirmation = confirmation(context, &observed, cache, applied).await;
            let settled = Settled {
                cache,
                applied,
                confirmation: &confirmation,
            };
            let pods = answering(&observed, &confirmation);
            let previous = observed.cache.status.clone().unwrap_or_default();
            context
                .figures
                .declare(cache_ref, pods, &previous, Instant::now());
            let status = report::report(&observed, Ok(settled), &now());
            let elapsed = context.propagations.elapsed(&cache.owner.uid);
            let authorities = cache.authorities().and_then(|all| all.next);
            let next = if applied.suspended.is_some() {
                look_at_suspended(&confirmation)
            } else {
                next_look(&confirmation, elapsed).min(look_at_growth(&cache.growth))
            };
            (status, authorities.map_or(next, |change| next.min(change)))
        }
        Err(error) => {
            let failure = failure(error);
            let status = report::report(&observed, Err(&failure), &now());
            (status, Duration::ZERO)
        }
    };
    let previous = observed.cache.status.clone().unwrap_or_default();
    publish::publish(
        &context.client,
        &context.recorder,
        &observed.cache.metadata,
        &previous,
        &status,
    )
    .await
    .map_err(|source| Error::Publish { source })?;
    let (_, mut applied) = applied?;
    match applied.failures.pop() {
        // Seen to with all other steps done, and a reason to come back.
        Some(source) => Err(Error::Apply { source }),
        None => Ok(next),
    }
}

/// What there is now, if the clients' Service has just got its address. Mirrors and certificates are made of it, and are then
/// made at once: a status in between would tell what is over before it is read.
async fn with_address(context: &Context, before: &Observed) -> Option<Observed> {
    let (namespace, name) = (before.cache.namespace()?, before.cache.name_any());
    if before.cache.spec.suspend || before.live.cluster_ip(&name).is_some() {
        return None;
    }
    let apis = before.apis.clone();
    // A failure is told by the next reconcile, which begins with the same look.
    let now = observe::observe(&context.client, &namespace, &name, apis).await;
    let now = now.ok()??;
    now.live.cluster_ip(&name)?;
    Some(Observed {
        nodes: before.nodes.clone(),
        nodes_behind: before.nodes_behind,
        figures: before.figures.clone(),
        ..now
    })
}

async fn bring_in_line(
    context: &Context,
    observed: &Observed,
) -> Result<(ResolvedCache, apply::Applied), Error> {
    let cache = resolve::resolve(observed, &context.settings)
        .map_err(|source| Error::Resolve { source })?;
    let rendered = render::render(&cache);
    let failed = |source| Error::Apply { source };
    if observed.cache.spec.suspend {
        let applied = apply::compare(&cache.owner, &observed.live, rendered).map_err(failed)?;
        return Ok((cache, applied));
    }
    if let Some(message) = cache.tls.as_ref().and_then(|tls| tls.pending.clone()) {
        let ahead =
            apply::before_certificate(&context.client, &cache.owner, &observed.live, rendered);
        Box::pin(ahead).await.map_err(failed)?;
        return Err(Error::Pending { message });
    }
    let for_nodes = cache.mirrors.iter().zip(&rendered.mirrors);
    let for_nodes: Vec<_> = for_nodes
        .map(|(mirror, object)| (mirror.name.as_str(), object))
        .collect();
    let kept: Vec<&str> = cache
        .kept_mirrors
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    context.nodes.declare(&cache.owner, &for_nodes, &kept);
    let (client, owner) = (&context.client, &cache.owner);
    let stateful_set = rendered
        .stateful_set()
        .map_err(|source| failed(apply::Error::Render { source }))?;
    let rollout = apply::plan::upcoming(client, owner, &observed.live, &stateful_set).await;
    if let Some(plan) = &rollout {
        let metadata = &observed.cache.metadata;
        publish::announce(&context.recorder, metadata, plan, cache.replicas).await;
    }
    let mut applied = Box::pin(apply::apply(
        client,
        owner,
        &observed.live,
        rendered,
        &observed.apis,
    ))
    .await
    .map_err(failed)?;
    applied.rollout = rollout;
    let on_delete = cache.volume.on_delete;
    let claimed = apply::claims::own(client, owner, on_delete, &observed.claims).await;
    applied.failures.extend(claimed.err());
    let size = &cache.volume.size.0;
    let grown = apply::grow::carry_out(client, owner, &cache.growth, size).await;
    applied.failures.extend(grown.err());
    Ok((cache, applied))
}

async fn confirmation(
    context: &Context,
    observed: &Observed,
    cache: &ResolvedCache,
    applied: &apply::Applied,
) -> Confirmation {
    let (uid, hash) = (&cache.owner.uid, &cache.policy.hash);
    let waited = context
        .propagations
        .wants(uid, hash, applied.policy_changed);
    let target = Target {
        owner: &cache.owner,
        hash,
        replicas: cache.replicas,
        pods: &observed.pods,
        just_changed: applied.policy_changed,
        overdue: waited >= confirm::DEADLINE,
        only_ask: applied.suspended.is_some(),
    };
    let pods = confirm::confirm(&context.client, &context.access, target).await;
    let mut confirmation = Confirmation {
        pods,
        overdue: false,
    };
    if confirmation.disagreeing().next().is_none() {
        if let Some(duration) = context.propagations.agreed(uid) {
            context
                .metrics
                .propagation_seconds
                .observe(duration.as_secs_f64());
        }
    } else {
        confirmation.overdue = context.propagations.elapsed(uid) >= confirm::DEADLINE;
    }
    confirmation
}

/// The pods that say which policy they follow, and can be asked for more.
fn answering(observed: &Observed, confirmation: &Confirmation) -> Vec<AnsweringPod> {
    let answers = confirmation
        .pods
        .iter()
        .filter(|pod| matches!(pod.state, PodState::Confirmed | PodState::Differs { .. }));
    answers
        .filter_map(|answer| {
            let mut pods = observed.pods.iter();
            let pod = pods.find(|pod| pod.name == answer.name)?;
            Some(AnsweringPod {
                name: pod.name.clone(),
                address: pod.running_at.clone()?,
            })
        })
        .collect()
}

/// Pods that don't run wake the cache when they do; pods that disagree have to be asked.
fn next_look(confirmation: &Confirmation, elapsed: Duration) -> Duration {
    if confirmation.disagreeing().next().is_none() {
        return retry::periodic();
    }
    let answered = confirmation
        .disagreeing()
        .any(|pod| matches!(pod.state, PodState::Differs { .. }));
    match (answered, confirmation.overdue) {
        (true, false) => ASK_SOON,
        (true, true) => ASK_LATER,
        (false, false) => ASK_SILENT,
        (false, true) => (elapsed / 3).clamp(ASK_LATER, ASK_SILENT_AT_LAST),
    }
}

/// What wakes a cache wakes a suspended one as well; only what its pods follow must be asked for.
fn look_at_suspended(confirmation: &Confirmation) -> Duration {
    if confirmation.disagreeing().next().is_none() {
        retry::periodic()
    } else {
        ASK_SILENT_AT_LAST
    }
}

fn look_at_growth(growth: &Growth) -> Duration {
    match growth {
        Growth::Done => retry::periodic(),
        Growth::Claims(_) | Growth::Replace { .. } | Growth::Removal => GROW_SOON,
        Growth::Volumes(_) => GROW_LATER,
        Growth::Stuck(_) => GROW_AT_LAST,
    }
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Resolve { source } => {
            let reason = source
                .problems
                .first()
                .map_or(Reason::InvalidSpec, resolve::Problem::reason);
            Failure {
                reason,
                message: resolve::sentence(&source.problems) + ".",
                stalled: true,
                policy: true,
            }
        }
        Error::Apply { source } => Failure::of_apply(source),
        Error::Pending { message } => Failure {
            reason: Reason::CertificatePending,
            message: format!("{message}."),
            stalled: false,
            // No part of what is declared is followed before.
            policy: true,
        },
        Error::Observe { .. } | Error::Publish { .. } => Failure {
            reason: Reason::Failed,
            message: chain(error) + ".",
            stalled: false,
            policy: false,
        },
    }
}

/// Kubernetes keeps whole seconds, so a finer time would differ from what is read back.
pub fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
