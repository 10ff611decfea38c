//! Children deleted at random, while the operator runs and while it does not.

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{is_gone, objects};
use serde_json::{Value, json};

use super::golden::{
    forget, must_still_run, pods, random, rest, wait_for_children, wait_until_golden,
};
use super::{optional, ready};

/// Every kind of child that there is.
const CHILDREN: [(&str, &str); 14] = [
    ("configmaps", "images-config"),
    ("configmaps", "images-mirror-nodes"),
    ("secrets", "images-mirror-guarded"),
    ("services", "images"),
    ("services", "images-pods"),
    ("serviceaccounts", "images"),
    ("statefulsets", "images"),
    ("poddisruptionbudgets", "images"),
    ("networkpolicies", "images"),
    ("ingresses", "images"),
    ("httproutes", "images"),
    ("certificates", "images"),
    ("servicemonitors", "images"),
    ("prometheusrules", "images"),
];

/// What makes a cache have them all.
fn everything() -> Value {
    json!({"spec": {
        "mirrors": [{"name": "nodes"}, {"name": "guarded", "target": {"kind": "Secret"}}],
        "tls": {"issuerRef": {"name": "corporate"}},
        "serviceAccount": {"annotations": {"example.org/role": "pull"}},
        "networkPolicy": {},
        "exposure": {
            "ingress": {"host": "cache.example"},
            "gateway": {"parentRefs": [{"name": "internal"}], "hostnames": ["cache.example"]},
        },
    }})
}

const ROUNDS: usize = 12;

pub(crate) fn children_deleted_at_random_come_back(cluster: &mut Cluster) -> Result<()> {
    let mut random = random();
    let namespace = "team-deleted";
    cluster.install_optional_definitions()?;
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    cluster.run(cluster.api.merge(&ready::cache(namespace), &everything()))?;
    let first = cluster.start_operator()?;
    let certificate = optional::wanted_certificate(cluster, namespace, "images")?;
    optional::issue(cluster, &certificate)?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    wait_for_children(cluster, namespace, &CHILDREN)?;
    rest(cluster, &first, namespace)?;
    let mut operator = Some(first);
    let golden = cluster.end_state(namespace)?;
    let before = pods(cluster, namespace)?;
    ensure!(before.len() == 2, "the pods are {before:?}");
    let mut settled = true;
    for round in 0..ROUNDS {
        // Every third time, the operator finds out when it starts.
        let absent = random.usize(..3) == 0;
        if absent && let Some(operator) = operator.take() {
            operator.kill()?;
        }
        let mut deleted = Vec::new();
        for (plural, name) in CHILDREN {
            // Kubernetes itself ends the pods of one that is deleted moments after it took them over (kubernetes#131284).
            let is_spared = plural == "statefulsets" && !settled;
            if random.bool() && !is_spared {
                delete(cluster, namespace, plural, name)?;
                deleted.push(name);
            }
        }
        if operator.is_none() {
            operator = Some(cluster.start_operator()?);
        }
        // In half of the rounds, the next deletions come before all is repaired.
        settled = random.bool();
        if settled {
            wait_until_golden(cluster, namespace, &golden)
                .with_context(|| format!("round {round}, deleted {deleted:?}"))?;
        }
    }
    wait_until_golden(cluster, namespace, &golden)?;
    // A new StatefulSet takes over the pods of the one that was deleted without them.
    must_still_run(cluster, namespace, &before)?;
    if let Some(operator) = operator {
        rest(cluster, &operator, namespace)?;
        operator.terminate()?;
    }
    forget(cluster, namespace)?;
    cluster.remove_optional_definitions()
}

/// Pods and claims are left: what deletes those, deletes them for good reason.
fn delete(cluster: &Cluster, namespace: &str, plural: &str, name: &str) -> Result<()> {
    let path = format!("{}/{name}", objects(plural, namespace));
    let options = json!({"propagationPolicy": "Orphan"});
    match cluster.run(cluster.api.delete(&path, &options)) {
        Err(error) if !is_gone(&error) => Err(error),
        _ => Ok(()),
    }
}
