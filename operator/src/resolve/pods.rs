//! What a cache says of its pods. Pure.
//!
//! What is added to the pods must leave alone what the cache needs to work and what keeps it safe, so only what is known to do so is taken.

use std::collections::BTreeMap;

use crds::registry_cache::RegistryCacheSpec;
use k8s_openapi::api::core::v1::{
    Affinity, Container, LocalObjectReference, PodSpec, TopologySpreadConstraint,
};
use serde_json::{Map, Value};

use super::{CONFIG_DIRECTORY, Problem, SECRETS_DIRECTORY, STORE_DIRECTORY};
use crate::render::names;

/// Name of the container that the operator renders.
pub const CONTAINER: &str = "cache-server";

/// Names of volumes that the operator renders for every cache.
const VOLUMES: [&str; 2] = ["config", "store"];

/// What may be added to a pod.
const ADDITIONS: [&str; 9] = [
    "initContainers",
    "containers",
    "volumes",
    "hostAliases",
    "dnsPolicy",
    "dnsConfig",
    "runtimeClassName",
    "schedulerName",
    "terminationGracePeriodSeconds",
];

/// What may be added to the cache server's container.
const CONTAINER_ADDITIONS: [&str; 5] = ["name", "env", "envFrom", "volumeMounts", "lifecycle"];

/// Parts of a pod that the `RegistryCache` has a field of its own for.
const OWN_FIELDS: [&str; 6] = [
    "affinity",
    "imagePullSecrets",
    "nodeSelector",
    "priorityClassName",
    "tolerations",
    "topologySpreadConstraints",
];

/// The checked wishes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pods {
    pub(crate) affinity: Option<Affinity>,
    /// `None`: as is usual.
    pub(crate) spread: Option<Vec<TopologySpreadConstraint>>,
    pub(crate) priority_class: Option<String>,
    pub(crate) pull_secrets: Vec<LocalObjectReference>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) additions: PodSpec,
    /// When somebody asked for a restart of the pods, which must not be forgotten.
    pub(crate) restarted_at: Option<String>,
}

/// Checks.
pub(super) fn pods(
    spec: &RegistryCacheSpec,
    cache: &str,
    restarted_at: Option<String>,
) -> Result<Pods, Vec<Problem>> {
    let mut problems = Vec::new();
    let metadata = &spec.pod_template.metadata;
    let reserved = names::labels(cache, names::Component::CacheServer);
    for label in metadata
        .labels
        .keys()
        .filter(|key| reserved.contains_key(*key))
    {
        problems.push(problem(
            &format!("metadata.labels.{label}"),
            "the operator finds the pods by this label; leave it out",
        ));
    }
    let ours = |key: &&String| key.contains("larder.dev/") || *key == names::RESTARTED_AT;
    for annotation in metadata.annotations.keys().filter(ours) {
        problems.push(problem(
            &format!("metadata.annotations.{annotation}"),
            "the operator sets this annotation itself; leave it out",
        ));
    }
    problems.extend(refused(&spec.pod_template.spec));
    let additions = parsed(&spec.pod_template.spec).unwrap_or_else(|problem| {
        problems.push(problem);
        PodSpec::default()
    });
    problems.extend(refused_mounts(&additions));
    if !problems.is_empty() {
        return Err(problems);
    }
    let secrets = spec.image_pull_secrets.iter();
    Ok(Pods {
        affinity: spec.affinity.clone(),
        spread: spec.topology_spread_constraints.clone(),
        priority_class: spec.priority_class_name.clone(),
        pull_secrets: secrets
            .map(|secret| LocalObjectReference {
                name: secret.name.clone(),
            })
            .collect(),
        labels: metadata.labels.clone(),
        annotations: metadata.annotations.clone(),
        additions,
        restarted_at,
    })
}

/// Fields that are not for the taking.
fn refused(spec: &Map<String, Value>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = spec
        .keys()
        .filter(|key| !ADDITIONS.contains(&key.as_str()))
        .map(|key| {
            let reason = if OWN_FIELDS.contains(&key.as_str()) {
                format!("use spec.{key} instead")
            } else {
                format!(
                    "the operator decides about it; only these can be added: {}",
                    ADDITIONS.join(", ")
                )
            };
            problem(&format!("spec.{key}"), &reason)
        })
        .collect();
    let containers = spec.get("containers").and_then(Value::as_array);
    for container in containers.into_iter().flatten() {
        if container["name"] != CONTAINER {
            continue;
        }
        let keys = container.as_object().into_iter().flat_map(Map::keys);
        for key in keys.filter(|key| !CONTAINER_ADDITIONS.contains(&key.as_str())) {
            let reason = match key.as_str() {
                "image" | "imagePullPolicy" => "use spec.image instead".to_owned(),
                "resources" => "use spec.resources instead".to_owned(),
                _ => format!(
                    "the operator decides about it; only these can be added: {}",
                    CONTAINER_ADDITIONS.join(", ")
                ),
            };
            problems.push(problem(
                &format!("spec.containers[{CONTAINER}].{key}"),
                &reason,
            ));
        }
    }
    for list in ["initContainers", "containers", "volumes"] {
        let entries = spec.get(list).and_then(Value::as_array);
        let names: Vec<&str> = entries
            .into_iter()
            .flatten()
            .map(|entry| entry["name"].as_str().unwrap_or_default())
            .collect();
        for (number, name) in names.iter().enumerate() {
            let path = format!("spec.{list}[{number}].name");
            let taken = match list {
                "volumes" => VOLUMES.contains(name),
                "initContainers" => *name == CONTAINER,
                _ => false,
            };
            if name.is_empty() {
                problems.push(problem(&path, "write a name"));
            } else if taken {
                problems.push(problem(
                    &path,
                    &format!("{name} is taken; write another name"),
                ));
            } else if names[..number].contains(name) {
                problems.push(problem(&path, &format!("{name} is there twice")));
            }
        }
    }
    problems
}

/// The additions as what Kubernetes would read.
fn parsed(spec: &Map<String, Value>) -> Result<PodSpec, Problem> {
    let mut unknown = None;
    let value = Value::Object(spec.clone());
    let read: Result<PodSpec, _> = serde_ignored::deserialize(value, |path| {
        // A `?` stands for a field that may be absent.
        unknown.get_or_insert_with(|| path.to_string().replace(".?", ""));
    });
    match (read, unknown) {
        (Err(error), _) => Err(problem("spec", &format!("it can't be read: {error}"))),
        (Ok(_), Some(path)) => Err(problem(
            &format!("spec.{path}"),
            "there is no such field in a pod",
        )),
        (Ok(spec), None) => Ok(spec),
    }
}

/// Mounts over what the server reads and writes.
fn refused_mounts(additions: &PodSpec) -> Vec<Problem> {
    let server = |container: &&Container| container.name == CONTAINER;
    let mounts = additions.containers.iter().filter(server);
    mounts
        .flat_map(|container| container.volume_mounts.iter().flatten())
        .filter(|mount| {
            [
                CONFIG_DIRECTORY,
                SECRETS_DIRECTORY,
                STORE_DIRECTORY,
                "/etc/larder",
            ]
            .iter()
            .any(|ours| overlaps(&mount.mount_path, ours))
        })
        .map(|mount| {
            problem(
                &format!("spec.containers[{CONTAINER}].volumeMounts"),
                &format!(
                    "{} is where the cache server's own files are; mount it elsewhere",
                    mount.mount_path
                ),
            )
        })
        .collect()
}

/// Whether one is the other, or above or below it.
fn overlaps(path: &str, ours: &str) -> bool {
    let path = path.trim_end_matches('/');
    let below = |inner: &str, outer: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    below(path, ours) || below(ours, path)
}

fn problem(field: &str, reason: &str) -> Problem {
    Problem::Spec {
        field: format!("podTemplate.{field}"),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(template: &str) -> String {
        let text = format!(
            "upstreams: [{{host: docker.io}}]\nstorage: {{volume: {{size: 1Gi}}}}\npodTemplate: {template}\n"
        );
        let spec: RegistryCacheSpec = serde_saphyr::from_str(&text).unwrap();
        match pods(&spec, "cache", None) {
            Ok(_) => "none".to_owned(),
            Err(problems) => super::super::sentence(&problems),
        }
    }

    #[test]
    fn what_leaves_the_cache_alone_is_taken() {
        assert_eq!(
            problems(
                "{metadata: {labels: {team: a}, annotations: {example.org/a: b}}, spec: {hostAliases: [{ip: 10.0.0.1, hostnames: [a]}], \
                 volumes: [{name: scratch, emptyDir: {}}], containers: [{name: cache-server, env: [{name: TZ, value: UTC}], \
                 volumeMounts: [{name: scratch, mountPath: /var/libraries}]}, {name: side, image: 'side:1'}]}}"
            ),
            "none"
        );
    }

    #[test]
    fn what_would_break_it_is_named() {
        let all = [
            "{metadata: {labels: {app.kubernetes.io/instance: other}}}",
            "{metadata: {annotations: {larder.dev/static-config-hash: x}}}",
            "{spec: {affinity: {}}}",
            "{spec: {hostNetwork: true}}",
            "{spec: {containers: [{name: cache-server, args: [serve]}]}}",
            "{spec: {containers: [{name: cache-server, image: 'other:1'}]}}",
            "{spec: {containers: [{name: cache-server, volumeMounts: [{name: x, mountPath: /var/lib/larder/tmp}]}]}}",
            "{spec: {containers: [{name: cache-server, volumeMounts: [{name: x, mountPath: /etc/}]}]}}",
            "{spec: {containers: [{name: side, imge: 'side:1'}]}}",
            "{spec: {containers: [{name: side}, {name: side}]}}",
            "{spec: {initContainers: [{name: cache-server}]}}",
            "{spec: {volumes: [{name: store, emptyDir: {}}]}}",
            "{spec: {volumes: [{emptyDir: {}}]}}",
            "{spec: {volumes: {name: a}}}",
        ];
        insta::assert_snapshot!(all.map(problems).join("\n"));
    }
}
