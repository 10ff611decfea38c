//! Writes the status of a policy, and tells of one that can't be read.

use crds::cache_policy::{CachePolicy, CachePolicyStatus};
use crds::conditions::ACCEPTED;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Client, Resource as _};
use serde_json::{Value, json};

use super::Error;
use crate::events::Recorder;
use crate::report::truncate;

const STATUS_MANAGER: &str = "larder.dev/operator-status";
/// The API server refuses longer notes.
const MAXIMUM_NOTE: usize = 1024;

/// Policies as they are stored: the rest of one that can't be read does not matter to its status.
pub(super) fn untyped(client: &Client, namespace: &str) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<CachePolicy>(&());
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// What stands in the status, if that can be read.
pub(super) fn status_of(policy: &DynamicObject) -> Option<CachePolicyStatus> {
    serde_json::from_value(policy.data.get("status")?.clone()).ok()
}

/// Writes the status of a policy. One that is gone has none.
pub(super) async fn write(
    client: &Client,
    metadata: &ObjectMeta,
    status: &CachePolicyStatus,
) -> Result<(), Error> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let patch = json!({
        "apiVersion": CachePolicy::api_version(&()),
        "kind": CachePolicy::kind(&()),
        "metadata": {"name": name, "uid": metadata.uid},
        "status": status,
    });
    let parameters = PatchParams::apply(STATUS_MANAGER).force();
    let written = untyped(client, namespace)
        .patch_status(name, &parameters, &Patch::Apply(&patch))
        .await;
    match written {
        // A list that was written as a whole, while the policy could not be read, has parts that belong to nobody now.
        Ok(policy) if status_of(&policy).as_ref() != Some(status) => {
            replace(client, metadata, status).await
        }
        written => outcome(written),
    }
}

/// The same for a policy that can't be read: the API server applies nothing to an object that does not fit its definition.
pub(super) async fn write_on_malformed(
    client: &Client,
    metadata: &ObjectMeta,
    status: &CachePolicyStatus,
) -> Result<(), Error> {
    replace(client, metadata, status).await
}

async fn replace(
    client: &Client,
    metadata: &ObjectMeta,
    status: &CachePolicyStatus,
) -> Result<(), Error> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let name = metadata.name.as_deref().unwrap_or_default();
    let parameters = PatchParams {
        field_manager: Some(STATUS_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let mut whole = json!({"metadata": {"uid": metadata.uid}, "status": status});
    if status.applied.is_none() {
        whole["status"]["applied"] = Value::Null;
    }
    let written = untyped(client, namespace)
        .patch_status(name, &parameters, &Patch::Merge(&whole))
        .await;
    outcome(written)
}

fn outcome(written: Result<DynamicObject, kube::Error>) -> Result<(), Error> {
    match written {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(Error::Write {
            source: Box::new(source),
        }),
    }
}

/// An event about a policy that can't be used, unless `previous` says the same. A failure is only logged.
pub(super) async fn announce(
    recorder: &Recorder,
    metadata: &ObjectMeta,
    previous: &CachePolicyStatus,
    status: &CachePolicyStatus,
) {
    let accepted = |status: &CachePolicyStatus| {
        let mut conditions = status.conditions.iter();
        let accepted = conditions.find(|one| one.type_ == ACCEPTED)?;
        Some((accepted.reason.clone(), accepted.message.clone()))
    };
    let Some((reason, message)) = accepted(status) else {
        return;
    };
    if accepted(previous).is_some_and(|before| before == (reason.clone(), message.clone())) {
        return;
    }
    let event = Event {
        type_: EventType::Warning,
        reason,
        note: Some(truncate(&message, MAXIMUM_NOTE)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let reference = ObjectReference {
        api_version: Some(CachePolicy::api_version(&()).into_owned()),
        kind: Some(CachePolicy::kind(&()).into_owned()),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        uid: metadata.uid.clone(),
        ..ObjectReference::default()
    };
    if let Err(error) = recorder.publish(&event, &reference).await {
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        tracing::warn!(?namespace, ?name, %error, "failed to write an event for a CachePolicy");
    }
}
