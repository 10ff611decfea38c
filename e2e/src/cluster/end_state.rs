//! What the operator keeps in a namespace, in a form in which two runs can be compared.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::api::Api;

/// Kinds that come and go by themselves.
const PASSING: &[&str] = &[
    "controllerrevisions",
    "endpoints",
    "endpointslices",
    "events",
    "leases",
    "pods",
];

/// The field with which every object of the operator is marked.
const SELECTOR: &str = "labelSelector=app.kubernetes.io/managed-by=larder";

/// An annotation that tests write only to wake the operator.
pub const ROUND: &str = "example.org/round";

/// Objects by `PLURAL/NAME`, without UIDs, versions, times, addresses and the namespace's name.
///
/// Of a status, only that of Larder's own kinds counts: the others are written by controllers of Kubernetes, when they
/// come to it.
#[derive(Clone, PartialEq)]
pub struct EndState(BTreeMap<String, Value>);

impl EndState {
    /// Of the operator's objects of every kind that the cluster has, and of the caches and policies.
    pub(super) async fn of(api: &Api, namespace: &str) -> Result<Self> {
        let mut objects = BTreeMap::new();
        let mut addresses = Vec::new();
        for (group, plural) in kinds(api).await? {
            let is_ours = group.contains("larder.dev");
            let selector = if is_ours { "" } else { SELECTOR };
            let path = format!("{group}/namespaces/{namespace}/{plural}?{selector}");
            let mut list = api.get(&path).await?;
            for object in list["items"].as_array_mut().into_iter().flatten() {
                let name = object["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if let Some(address) = object["spec"]["clusterIP"]
                    .as_str()
                    .filter(|address| *address != "None")
                {
                    addresses.push((address.to_owned(), format!("<address of {name}>")));
                }
                let mut object = object.take();
                if !is_ours {
                    forget_status(&mut object);
                }
                if plural == "secrets" {
                    decode(&mut object)?;
                }
                objects.insert(format!("{plural}/{name}"), object);
            }
        }
        // 10.96.0.12 before 10.96.0.1.
        addresses.sort_by_key(|(address, _)| std::cmp::Reverse(address.len()));
        addresses.push((namespace.to_owned(), "<namespace>".to_owned()));
        for object in objects.values_mut() {
            normalise(object, &addresses);
        }
        Ok(Self(objects))
    }

    /// Fails with the first field that differs.
    pub fn must_be(&self, golden: &Self) -> Result<()> {
        let names = |state: &Self| state.0.keys().cloned().collect::<Vec<_>>();
        ensure!(
            names(self) == names(golden),
            "the objects are {:?} and not {:?}",
            names(self),
            names(golden)
        );
        for (name, object) in &self.0 {
            if let Some(difference) = difference(&golden.0[name], object) {
                anyhow::bail!("{name}{difference}");
            }
        }
        Ok(())
    }
}

impl fmt::Debug for EndState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(&self.0).finish()
    }
}

/// Path of the group and version, and plural, of each kind in namespaces that can be listed, the preferred version only.
async fn kinds(api: &Api) -> Result<Vec<(String, String)>> {
    let groups = api.get("/apis").await?;
    let versions = groups["groups"]
        .as_array()
        .context("the API server has no groups")?
        .iter()
        .filter_map(|group| group["preferredVersion"]["groupVersion"].as_str())
        .map(|version| format!("/apis/{version}"));
    let mut kinds = Vec::new();
    for path in std::iter::once("/api/v1".to_owned()).chain(versions) {
        let list = api.get(&path).await?;
        for kind in list["resources"].as_array().into_iter().flatten() {
            let plural = kind["name"].as_str().unwrap_or_default();
            let can_be_listed = kind["verbs"]
                .as_array()
                .is_some_and(|verbs| verbs.iter().any(|verb| verb == "list"));
            if kind["namespaced"] == true && can_be_listed && !PASSING.contains(&plural) {
                kinds.push((path.clone(), plural.to_owned()));
            }
        }
    }
    Ok(kinds)
}

/// Addresses are found in a Secret's texts too.
fn decode(secret: &mut Value) -> Result<()> {
    for value in secret["data"]
        .as_object_mut()
        .into_iter()
        .flat_map(serde_json::Map::values_mut)
    {
        let bytes = STANDARD
            .decode(value.as_str().unwrap_or_default())
            .context("a Secret's value is no base64")?;
        *value = String::from_utf8_lossy(&bytes).into();
    }
    Ok(())
}

fn forget_status(object: &mut Value) {
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
}

fn normalise(object: &mut Value, texts: &[(String, String)]) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "creationTimestamp",
            "generation",
            "managedFields",
            "resourceVersion",
            "uid",
        ] {
            metadata.remove(field);
        }
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            // A hash over addresses and UIDs too.
            annotations.remove("larder.dev/rendered-hash");
            annotations.remove(ROUND);
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    rewrite(object, texts);
}

fn rewrite(value: &mut Value, texts: &[(String, String)]) {
    match value {
        Value::Object(map) => {
            for field in ["lastTransitionTime", "uid"] {
                map.remove(field);
            }
            map.values_mut().for_each(|value| rewrite(value, texts));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| rewrite(value, texts)),
        Value::String(text) => {
            for (from, to) in texts {
                if text.contains(from.as_str()) {
                    *text = text.replace(from.as_str(), to);
                }
            }
        }
        _ => {}
    }
}

/// `.path.to.field is … and not …`
fn difference(golden: &Value, found: &Value) -> Option<String> {
    match (golden, found) {
        (Value::Object(golden), Value::Object(found)) => {
            let keys: std::collections::BTreeSet<&String> =
                golden.keys().chain(found.keys()).collect();
            keys.into_iter().find_map(|key| {
                let value = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or_default()
                };
                difference(&value(golden), &value(found)).map(|below| format!(".{key}{below}"))
            })
        }
        (Value::Array(golden), Value::Array(found)) if golden.len() == found.len() => golden
            .iter()
            .zip(found)
            .enumerate()
            .find_map(|(at, (golden, found))| {
                difference(golden, found).map(|below| format!("[{at}]{below}"))
            }),
        (golden, found) if golden == found => None,
        (golden, found) => Some(format!(" is {found} and not {golden}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{EndState, forget_status, normalise};

    fn state(mut object: Value, address: &str) -> EndState {
        let texts = [
            (address.to_owned(), "<address>".to_owned()),
            ("team-a".to_owned(), "<namespace>".to_owned()),
        ];
        normalise(&mut object, &texts);
        EndState(BTreeMap::from([("services/cache".to_owned(), object)]))
    }

    fn service(address: &str, port: u16) -> Value {
        json!({
            "metadata": {"name": "cache", "namespace": "team-a", "uid": address, "resourceVersion": address},
            "spec": {"clusterIP": address, "ports": [{"port": port}]},
        })
    }

    #[test]
    fn two_runs_differ_in_nothing_but_what_is_their_own() {
        let golden = state(service("10.96.0.1", 5000), "10.96.0.1");
        state(service("10.96.0.2", 5000), "10.96.0.2")
            .must_be(&golden)
            .unwrap();
    }

    #[test]
    fn status_of_another_controller_is_not_compared() {
        let mut golden = json!({"spec": {"maxUnavailable": 1}});
        let mut budget = golden.clone();
        budget["status"] = json!({"conditions": [{"type": "DisruptionAllowed"}]});
        forget_status(&mut golden);
        forget_status(&mut budget);
        state(budget, "10.96.0.2")
            .must_be(&state(golden, "10.96.0.1"))
            .unwrap();
    }

    #[test]
    fn field_that_differs_is_named() {
        let golden = state(service("10.96.0.1", 5000), "10.96.0.1");
        let error = state(service("10.96.0.1", 9999), "10.96.0.1")
            .must_be(&golden)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "services/cache.spec.ports[0].port is 9999 and not 5000"
        );
    }
}
