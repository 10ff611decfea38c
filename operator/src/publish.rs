//! The second half of step 5: writes the status if it changed, and an event if a condition turned.

use crds::conditions::{
    EXPOSURE_READY, MIRRORS_READY, MONITORING_READY, NODES_WIRED, NOT_ENFORCEABLE, NOT_PULLABLE,
    POLICY_APPLIED, READY, RISKY, Reason, STALLED, STORAGE_READY, SUSPENDED, UPSTREAMS_REACHABLE,
};
use crds::registry_cache::{RegistryCache, RegistryCacheStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, Resource as _};
use serde_json::json;

use crate::apply::plan::Plan;
use crate::events::Recorder;
use crate::report::{Condition, Conditions, State, chain, restarts, truncate};

const STATUS_MANAGER: &str = "larder.dev/operator-status";
/// The API server refuses longer notes.
const MAXIMUM_NOTE: usize = 1024;

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
    let (api, name) = untyped(client, metadata);
    let patch = json!({
        "apiVersion": RegistryCache::api_version(&()),
        "kind": RegistryCache::kind(&()),
        // A cache that was made anew under this name has another UID, and refuses this.
        "metadata": {"name": name, "uid": metadata.uid},
        "status": status,
    });
    let written = api
        .patch_status(
            &name,
            &PatchParams::apply(STATUS_MANAGER).force(),
            &Patch::Apply(&patch),
        )
        .await;
    let written = match written {
        // Under another definition a list may have been written as a whole, and what is left of it belongs to nobody now.
        Ok(cache) if !shows(&cache, status) => replace(client, metadata, status).await,
        written => written,
    };
    match written {
        Ok(_) => {}
        // The cache is gone, and its status with it.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        Err(source) => return Err(Error::new(metadata, source)),
    }
    tell(recorder, metadata, previous, status).await;
    Ok(true)
}

/// Caches as they are stored: the rest of one that can't be read does not matter to its status.
fn untyped(client: &Client, metadata: &ObjectMeta) -> (Api<DynamicObject>, String) {
    let resource = ApiResource::erase::<RegistryCache>(&());
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::namespaced_with(client.clone(), namespace, &resource);
    (api, metadata.name.clone().unwrap_or_default())
}

/// Writes the status as a whole, whoever owns its parts.
async fn replace(
    client: &Client,
    metadata: &ObjectMeta,
    status: &RegistryCacheStatus,
) -> Result<DynamicObject, kube::Error> {
    let (api, name) = untyped(client, metadata);
    let parameters = PatchParams {
        field_manager: Some(STATUS_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let whole = json!({"metadata": {"uid": metadata.uid}, "status": status});
    api.patch_status(&name, &parameters, &Patch::Merge(&whole))
        .await
}

/// Writes an event for each condition that turned. A failure is only logged.
async fn tell(
    recorder: &Recorder,
    metadata: &ObjectMeta,
    previous: &RegistryCacheStatus,
    status: &RegistryCacheStatus,
) {
    let reference = reference(metadata);
    for event in events(&previous.conditions, &status.conditions) {
        if let Err(error) = recorder.publish(&event, &reference).await {
            let (namespace, name) = (&metadata.namespace, &metadata.name);
            tracing::warn!(?namespace, ?name, %error, "failed to write an event for a RegistryCache");
        }
    }
}

fn shows(cache: &DynamicObject, status: &RegistryCacheStatus) -> bool {
    let shown = cache.data.get("status").cloned();
    let shown = shown.and_then(|shown| serde_json::from_value::<RegistryCacheStatus>(shown).ok());
    shown.as_ref() == Some(status)
}

/// Says which pods are about to restart, and why.
pub async fn announce(recorder: &Recorder, metadata: &ObjectMeta, plan: &Plan, replicas: i32) {
    let event = Event {
        type_: EventType::Normal,
        reason: "RolloutBegins".to_owned(),
        note: Some(truncate(&restarts(&plan.changes, replicas), MAXIMUM_NOTE)),
        action: "Rollout".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &reference(metadata)).await {
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        tracing::warn!(?namespace, ?name, %error, "failed to write an event about a rollout");
    }
}

fn reference(metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(RegistryCache::api_version(&()).into_owned()),
        kind: Some(RegistryCache::kind(&()).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    }
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
    let (api, name) = untyped(client, metadata);
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let previous: RegistryCacheStatus = match api.get_opt(&name).await {
        Ok(Some(object)) => object
            .data
            .get("status")
            .and_then(|status| serde_json::from_value(status.clone()).ok())
            .unwrap_or_default(),
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%namespace, %name, %error, "failed to read RegistryCache {namespace}/{name}");
            return;
        }
    };
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
    // The API server applies nothing to an object that does not fit its definition.
    if let Err(source) = replace(client, metadata, &status).await {
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
        note: Some(truncate(message, MAXIMUM_NOTE)),
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
