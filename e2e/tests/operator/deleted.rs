//! Children deleted at random, while the operator runs and while it does not.

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{is_gone, objects};
use serde_json::json;

use super::golden::{Golden, forget, must_still_run, pods, random, rest, wait_until_golden};
use super::ready;

const CHILDREN: [(&str, &str); 6] = [
    ("configmaps", "images-config"),
    ("configmaps", "images-mirror-nodes"),
    ("services", "images"),
    ("services", "images-pods"),
    ("statefulsets", "images"),
    ("poddisruptionbudgets", "images"),
];

const ROUNDS: usize = 12;

pub(crate) fn children_deleted_at_random_come_back(cluster: &mut Cluster) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-deleted")?;
    let mut random = random();
    let namespace = "team-deleted";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let mut operator = Some(cluster.start_operator()?);
    wait_until_golden(cluster, namespace, &golden.new)?;
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
            wait_until_golden(cluster, namespace, &golden.new)
                .with_context(|| format!("round {round}, deleted {deleted:?}"))?;
        }
    }
    wait_until_golden(cluster, namespace, &golden.new)?;
    // A new StatefulSet takes over the pods of the one that was deleted without them.
    must_still_run(cluster, namespace, &before)?;
    if let Some(operator) = operator {
        rest(cluster, &operator, namespace)?;
        operator.terminate()?;
    }
    forget(cluster, namespace)
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
