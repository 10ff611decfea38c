//! The second half of step 5: writes the status if it changed, and an event if a condition turned.

use crds::conditions::{
    EXPOSURE_READY, MIRRORS_READY, MONITORING_READY, NODES_WIRED, NOT_ENFORCEABLE, NOT_PULLABLE,
    POLICY_APPLIED, READY, RISKY, Reason, STALLED, STORAGE_READY, SUSPENDED, UPSTREAMS_REACHABLE,
};
use crds::registry_cache::{RegistryCache, RegistryCacheStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use kube::api::ObjectMeta;
use kube::runtime::events::{Event, EventType};

use crate::apply::plan::Plan;
use crate::events::Recorder;
use crate::report::{Condition, Conditions, State, chain, restarts};
use crate::status;

/// Why the status was not written.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the status of RegistryCache {namespace}/{name}")]
pub struct Error {
    namespace: String,
    name: String,
    source: Box<kube::Error>,
}

impl Error {
    fn new(metadata: &ObjectMeta, source: kube::Error) -> Self {
        Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            source: Box::new(source),
        }
    }
}

/// Writes the status if it is another than the cache has, and tells what turned.
pub async fn publish(
    client: &Client,
    recorder: &Recorder,
    metadata: &ObjectMeta,
    previous: &RegistryCacheStatus,
    status: &RegistryCacheStatus,
) -> Result<bool, Error> {
    if previous == status {
        return Ok(false);
    }
    let is_there = status::write::<RegistryCache>(client, metadata, status)
        .await
        .map_err(|source| Error::new(metadata, source))?;
    if is_there {
        tell(recorder, metadata, previous, status).await;
    }
    Ok(is_there)
}

/// Writes an event for each condition that turned.
async fn tell(
    recorder: &Recorder,
    metadata: &ObjectMeta,
    previous: &RegistryCacheStatus,
    status: &RegistryCacheStatus,
) {
    for event in events(&previous.conditions, &status.conditions) {
        recorder.tell::<RegistryCache>(metadata, event).await;
    }
}

/// Says which pods are about to restart, and why.
pub async fn announce(recorder: &Recorder, metadata: &ObjectMeta, plan: &Plan, replicas: i32) {
    let event = Event {
        type_: EventType::Normal,
        reason: "RolloutBegins".to_owned(),
        note: Some(restarts(&plan.changes, replicas)),
        action: "Rollout".to_owned(),
        secondary: None,
    };
    recorder.tell::<RegistryCache>(metadata, event).await;
}

/// Says on a cache that it can't be read, by an event, and in its status where the API server takes one: rules of the definition that can't be asked
/// of such an object refuse all. Failures are only logged.
pub async fn malformed(
    client: &Client,
    recorder: &Recorder,
    metadata: &ObjectMeta,
    reason: &str,
    now: &Time,
) {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let stored = match status::stored::<RegistryCache>(client, metadata).await {
        Ok(Some(stored)) => stored,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "failed to read RegistryCache {namespace}/{name}");
            return;
        }
    };
    let previous = status::of::<RegistryCache>(&stored).unwrap_or_default();
    let message = format!(
        "The object can't be read: {reason}. Apply it again in a form that fits the installed definition."
    );
    let mut conditions = Conditions::new(&previous.conditions, metadata.generation, now);
    conditions.set(READY, State::new(false, Reason::InvalidSpec, &message));
    conditions.set(STALLED, State::new(true, Reason::InvalidSpec, &message));
    let status = RegistryCacheStatus {
        observed_generation: metadata.generation,
        conditions: conditions.finish(),
        ..previous.clone()
    };
    if status == previous {
        return;
    }
    // First: a status may be refused, and the next look finds there what was told.
    tell(recorder, metadata, &previous, &status).await;
    let written = status::replace::<RegistryCache>(client, metadata, &stored, &status).await;
    if let Err(source) = written {
        let error = Error::new(metadata, source);
        tracing::warn!(%namespace, %name, error = %chain(&error), "failed to say that RegistryCache {namespace}/{name} can't be read");
    }
}

/// One event for each condition that turned, unless it only tells of work in progress.
fn events(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let find = |conditions: &[Condition], type_: &str| {
        let mut all = conditions.iter();
        all.find(|condition| condition.type_ == type_).cloned()
    };
    let event = |type_, reason: String, message: &str| Event {
        type_,
        reason,
        note: Some(message.to_owned()),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let turned = after.iter().filter(|condition| {
        let previous = find(before, &condition.type_);
        let same = |previous: &Condition| {
            (&previous.status, &previous.reason) == (&condition.status, &condition.reason)
        };
        tells(condition, previous.is_some()) && !previous.as_ref().is_some_and(same)
    });
    let mut events: Vec<Event> = turned
        .map(|condition| {
            let good = condition.status == "True" && !warns(condition);
            let harmless = good || condition.reason == Reason::Progressing.as_str();
            let type_ = if harmless {
                EventType::Normal
            } else {
                EventType::Warning
            };
            let reason = if condition.type_ == condition.reason {
                condition.reason.clone()
            } else {
                format!("{}{}", condition.type_, condition.reason)
            };
            event(type_, reason, &condition.message)
        })
        .collect();
    if find(before, SUSPENDED).is_some() && find(after, SUSPENDED).is_none() {
        let message = "The operator looks after the cache again.";
        events.push(event(EventType::Normal, "Resumed".to_owned(), message));
    }
    events
}

/// Whether people want to hear of it. `known`: the cache had such a condition before.
fn tells(condition: &Condition, known: bool) -> bool {
    let quiet = [
        Reason::Progressing,
        Reason::Propagating,
        Reason::NoPods,
        Reason::ApiMissing,
        Reason::Disabled,
        Reason::Suspended,
    ]
    .map(Reason::as_str);
    let is_news = !quiet.contains(&condition.reason.as_str());
    match condition.type_.as_str() {
        READY | POLICY_APPLIED | MONITORING_READY | EXPOSURE_READY | NODES_WIRED => is_news,
        // A new cache has its mirrors at once, and upstreams that answer; only that it has not, and what becomes of them later, is news.
        MIRRORS_READY | UPSTREAMS_REACHABLE => is_news && (known || condition.status != "True"),
        SUSPENDED | RISKY | NOT_ENFORCEABLE | NOT_PULLABLE => true,
        // A new cache has volumes as declared; only what becomes of them later is news.
        STORAGE_READY => known,
        _ => false,
    }
}

/// Of a condition that is there only while something is wrong.
fn warns(condition: &Condition) -> bool {
    [RISKY, NOT_ENFORCEABLE, NOT_PULLABLE].contains(&condition.type_.as_str())
}
