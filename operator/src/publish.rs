//! The second half of step 5: writes the status if it changed, and an event if a condition turned.

use crds::conditions::{MONITORING_READY, NODES_WIRED, POLICY_APPLIED, READY, Reason, STALLED};
use crds::registry_cache::{RegistryCache, RegistryCacheStatus};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource as _};
use serde_json::json;

use crate::report::{Condition, Conditions, State, chain, truncate};

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
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let api: Api<RegistryCache> = Api::namespaced(client.clone(), &namespace);
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
    match written {
        Ok(_) => {}
        // The cache is gone, and its status with it.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(false),
        Err(source) => {
            return Err(Error {
                namespace,
                name,
                source: Box::new(source),
            });
        }
    }
    let reference = ObjectReference {
        api_version: Some(RegistryCache::api_version(&()).into_owned()),
        kind: Some(RegistryCache::kind(&()).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    };
    for event in events(&previous.conditions, &status.conditions) {
        if let Err(error) = recorder.publish(&event, &reference).await {
            tracing::warn!(%namespace, %name, %error, "failed to write an event for RegistryCache {namespace}/{name}");
        }
    }
    Ok(true)
}

/// Says on a cache that it can't be read, as far as the API server lets a broken object have a status. Failures are only logged.
pub async fn malformed(
    client: &Client,
    recorder: &Recorder,
    metadata: &ObjectMeta,
    reason: &str,
    now: &Time,
) {
    let namespace = metadata.namespace.clone().unwrap_or_default();
    let name = metadata.name.clone().unwrap_or_default();
    let resource = ApiResource::erase::<RegistryCache>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
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
    if let Err(error) = publish(client, recorder, metadata, &previous, &status).await {
        tracing::warn!(%namespace, %name, error = %chain(&error), "failed to say that RegistryCache {namespace}/{name} can't be read");
    }
}

/// One event for each condition that turned, unless it only tells of work in progress.
fn events(before: &[Condition], after: &[Condition]) -> Vec<Event> {
    let status_of = |conditions: &[Condition], type_: &str| {
        conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .map(|condition| (condition.status.clone(), condition.reason.clone()))
    };
    let quiet = [
        Reason::Progressing,
        Reason::Propagating,
        Reason::NoPods,
        Reason::ApiMissing,
        Reason::Disabled,
    ]
    .map(Reason::as_str);
    after
        .iter()
        .filter(|condition| {
            [READY, POLICY_APPLIED, MONITORING_READY, NODES_WIRED]
                .contains(&condition.type_.as_str())
        })
        .filter(|condition| !quiet.contains(&condition.reason.as_str()))
        .filter(|condition| {
            status_of(before, &condition.type_)
                != Some((condition.status.clone(), condition.reason.clone()))
        })
        .map(|condition| Event {
            type_: if condition.status == "True" {
                EventType::Normal
            } else {
                EventType::Warning
            },
            reason: format!("{}{}", condition.type_, condition.reason),
            note: Some(truncate(&condition.message, MAXIMUM_NOTE)),
            action: "Reconcile".to_owned(),
            secondary: None,
        })
        .collect()
}
