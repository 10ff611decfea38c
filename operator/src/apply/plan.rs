//! What a change of the `StatefulSet` is about to restart, and why: said before it happens.
//!
//! The API server is asked what would become of the object (a dry run); both pod templates are whole then, and what differs restarts the pods.

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::Value;

use super::{difference, with_type};
use crate::FIELD_MANAGER;
use crate::observe::Live;
use crate::render::Manifest;
use crate::render::names::{self, Owner};

/// Changes that are named; more are counted.
const NAMED: usize = 8;

/// A restart of all pods, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What of the pods changes.
    pub changes: Vec<String>,
}

/// The restart that the manifest would lead to. `None`: there would be none, or the API server can't tell.
pub async fn upcoming(
    client: &Client,
    owner: &Owner,
    live: &Live,
    manifest: &Manifest,
) -> Option<Plan> {
    let live = live.get(&manifest.resource.kind, &manifest.name)?;
    if live.metadata.deletion_timestamp.is_some() {
        return None;
    }
    difference(manifest, live)?;
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), &owner.namespace, &manifest.resource);
    let parameters = PatchParams::apply(FIELD_MANAGER).force().dry_run();
    let body = with_type(manifest);
    let after = match api
        .patch(&manifest.name, &parameters, &Patch::Apply(&body))
        .await
    {
        Ok(object) => object,
        Err(error) => {
            let (namespace, name) = (&owner.namespace, &manifest.name);
            tracing::debug!(%namespace, %name, %error, "failed to find out what a change of StatefulSet {namespace}/{name} restarts");
            return None;
        }
    };
    let template = |object: &DynamicObject| object.data.pointer("/spec/template").cloned();
    let changes = changes(
        &template(live).unwrap_or_default(),
        &template(&after).unwrap_or_default(),
    );
    (!changes.is_empty()).then_some(Plan { changes })
}

/// What differs between two pod templates, in words. No value of a variable is among them.
pub fn changes(before: &Value, after: &Value) -> Vec<String> {
    let mut all = Vec::new();
    for part in ["labels", "annotations"] {
        let path = format!("/metadata/{part}");
        all.extend(keys(before.pointer(&path), after.pointer(&path)).map(
            |key| match key.as_str() {
                names::STATIC_HASH => "the static configuration".to_owned(),
                names::RESTARTED_AT => "a restart that was asked for".to_owned(),
                key => format!("metadata.{part}.{key}"),
            },
        ));
    }
    let lists = ["initContainers", "containers"];
    for list in lists {
        let path = format!("/spec/{list}");
        all.extend(containers(
            list,
            before.pointer(&path),
            after.pointer(&path),
        ));
    }
    all.extend(
        keys(before.get("spec"), after.get("spec"))
            .filter(|key| !lists.contains(&key.as_str()))
            .map(|key| format!("spec.{key}")),
    );
    let more = all.len().saturating_sub(NAMED);
    if more > 0 {
        all.truncate(NAMED);
        all.push(format!("{more} more"));
    }
    all
}

fn containers(list: &str, before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let find = |all: Option<&Value>, name: &str| {
        let all = all.and_then(Value::as_array).into_iter().flatten();
        all.into_iter().find(|one| one["name"] == name).cloned()
    };
    let mut names: Vec<&str> = [before, after]
        .into_iter()
        .filter_map(|all| all?.as_array())
        .flatten()
        .filter_map(|one| one["name"].as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let mut all = Vec::new();
    for name in names {
        match (find(before, name), find(after, name)) {
            (Some(before), Some(after)) => {
                let words = |key: String| match (key.as_str(), &before["image"], &after["image"]) {
                    ("image", Value::String(from), Value::String(to)) => {
                        format!("the image of {name} (from {from} to {to})")
                    }
                    (key, ..) => format!("{list}.{name}.{key}"),
                };
                all.extend(keys(Some(&before), Some(&after)).map(words));
            }
            (None, _) => all.push(format!("{list}.{name}, which is added")),
            (_, None) => all.push(format!("{list}.{name}, which is removed")),
        }
    }
    all
}

/// Keys under which two objects differ.
fn keys(before: Option<&Value>, after: Option<&Value>) -> impl Iterator<Item = String> {
    let empty = serde_json::Map::new();
    let map = |value: Option<&Value>| {
        let map = value.and_then(Value::as_object);
        map.unwrap_or(&empty).clone()
    };
    let (before, after) = (map(before), map(after));
    let mut keys: Vec<String> = before.keys().chain(after.keys()).cloned().collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(move |key| before.get(key) != after.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        json!({
            "metadata": {"labels": {"a": "1"}, "annotations": {"larder.dev/static-config-hash": "1"}},
            "spec": {
                "containers": [
                    {"name": "cache-server", "image": "larder:1", "env": [{"name": "TOKEN", "value": "secret"}]},
                    {"name": "side", "image": "side:1"},
                ],
                "nodeSelector": {"pool": "a"},
            },
        })
    }

    #[test]
    fn equal_templates_restart_nothing() {
        assert!(changes(&template(), &template()).is_empty());
    }

    #[test]
    fn each_change_is_named_and_no_value() {
        let mut after = template();
        after["metadata"]["labels"]["b"] = json!("2");
        after["metadata"]["annotations"]["larder.dev/static-config-hash"] = json!("2");
        let container = &mut after["spec"]["containers"][0];
        container["image"] = json!("larder:2");
        container["env"][0]["value"] = json!("other");
        after["spec"]["containers"][1] = json!({"name": "another", "image": "another:1"});
        after["spec"]
            .as_object_mut()
            .unwrap()
            .remove("nodeSelector");
        after["spec"]["priorityClassName"] = json!("high");
        insta::assert_snapshot!(changes(&template(), &after).join("\n"), @r"
        metadata.labels.b
        the static configuration
        containers.another, which is added
        containers.cache-server.env
        the image of cache-server (from larder:1 to larder:2)
        containers.side, which is removed
        spec.nodeSelector
        spec.priorityClassName
        ");
    }

    #[test]
    fn many_changes_are_counted() {
        let mut after = template();
        for number in 0..20 {
            after["metadata"]["labels"][format!("l{number}")] = json!("x");
        }
        let changes = changes(&template(), &after);
        assert_eq!((changes.len(), changes[8].as_str()), (9, "12 more"));
    }
}
