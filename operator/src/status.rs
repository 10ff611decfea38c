//! Writes the status of a cache or a policy as it is stored: what can't be read of an object does not matter to its status.

use k8s_openapi::NamespaceResourceScope;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::observe::get;

const MANAGER: &str = "larder.dev/operator-status";

/// A kind whose statuses the operator writes.
pub trait Told:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + HasStatus<Status: Serialize + DeserializeOwned + PartialEq>
{
}

impl<K> Told for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + HasStatus<Status: Serialize + DeserializeOwned + PartialEq>
{
}

/// The object as it is stored, with what was written to it last at least; `None`: it is gone.
pub async fn stored<K: Told>(
    client: &Client,
    metadata: &ObjectMeta,
) -> Result<Option<DynamicObject>, kube::Error> {
    get(&api::<K>(client, metadata), name(metadata)).await
}

/// What stands in the status, if that can be read.
pub fn of<K: Told>(object: &DynamicObject) -> Option<K::Status> {
    serde_json::from_value(object.data.get("status")?.clone()).ok()
}

/// Writes the status of an object that can be read. `false`: the object is gone, and its status with it.
pub async fn write<K: Told>(
    client: &Client,
    metadata: &ObjectMeta,
    status: &K::Status,
) -> Result<bool, kube::Error> {
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        // One that was made anew under this name has another UID, and refuses this.
        "metadata": {"name": name(metadata), "uid": metadata.uid},
        "status": status,
    });
    let parameters = PatchParams::apply(MANAGER).force();
    let written = api::<K>(client, metadata)
        .patch_status(name(metadata), &parameters, &Patch::Apply(&patch))
        .await;
    match written {
        // What was written as a whole, or under another definition, has parts that belong to nobody now.
        Ok(object) if of::<K>(&object).as_ref() != Some(status) => {
            replace::<K>(client, metadata, &object, status).await
        }
        written => is_there(written),
    }
}

/// Writes the status as a whole, whoever owns its parts. That is all that the API server takes on an object that does not fit its definition.
pub async fn replace<K: Told>(
    client: &Client,
    metadata: &ObjectMeta,
    stored: &DynamicObject,
    status: &K::Status,
) -> Result<bool, kube::Error> {
    let wanted = serde_json::to_value(status).map_err(kube::Error::SerdeError)?;
    let patch = json!({"metadata": {"uid": metadata.uid}, "status": without_rest(wanted, stored.data.get("status"))});
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let written = api::<K>(client, metadata)
        .patch_status(name(metadata), &parameters, &Patch::Merge(&patch))
        .await;
    is_there(written)
}

/// A merge patch that leaves `wanted` and nothing else of what is `stored`.
fn without_rest(mut wanted: Value, stored: Option<&Value>) -> Value {
    if let (Value::Object(wanted), Some(Value::Object(stored))) = (&mut wanted, stored) {
        for (key, value) in stored {
            match wanted.get_mut(key) {
                None => _ = wanted.insert(key.clone(), Value::Null),
                Some(under) => *under = without_rest(under.take(), Some(value)),
            }
        }
    }
    wanted
}

fn api<K: Told>(client: &Client, metadata: &ObjectMeta) -> Api<DynamicObject> {
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()))
}

fn name(metadata: &ObjectMeta) -> &str {
    metadata.name.as_deref().unwrap_or_default()
}

fn is_there(written: Result<DynamicObject, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_longer_said_is_taken_away() {
        let stored = json!({"applied": "2/2", "policy": {"hash": "a", "behind": [{"pod": "a"}]}, "list": [1, 2], "conditions": "broken"});
        let wanted =
            json!({"policy": {"hash": "b"}, "list": [3], "conditions": [{"type": "Ready"}]});
        let patch = without_rest(wanted, Some(&stored));
        let expected = json!({
            "applied": null, "policy": {"hash": "b", "behind": null}, "list": [3], "conditions": [{"type": "Ready"}],
        });
        assert_eq!(patch, expected);
    }

    #[test]
    fn where_nothing_is_stored_all_is_written() {
        let wanted = json!({"a": {"b": 1}});
        assert_eq!(without_rest(wanted.clone(), None), wanted);
        assert_eq!(without_rest(wanted.clone(), Some(&json!("text"))), wanted);
    }
}
