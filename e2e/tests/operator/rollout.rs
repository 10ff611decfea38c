//! A change that restarts the pods is told before it does, and until it is over; an edit of a policy restarts nothing and is told nowhere.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::objects;
use serde_json::{Value, json};

use super::golden::{forget, must_still_run, pods};
use super::ready::{self, cache};

const LIMIT: Duration = Duration::from_mins(2);

const NAMESPACE: &str = "rollout";

pub(crate) fn a_restart_is_told_until_it_is_over(cluster: &mut Cluster) -> Result<()> {
    cluster.create_namespace(NAMESPACE)?;
    cluster.apply(&ready::manifest(NAMESPACE))?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(NAMESPACE, "images")?;
    let before = pods(cluster, NAMESPACE)?;
    edit_the_policy(cluster)?;
    must_still_run(cluster, NAMESPACE, &before)?;
    ensure!(
        rollout(cluster)?.is_null() && events(cluster)?.is_empty(),
        "a policy's edit is told as a restart: {}, {:?}",
        rollout(cluster)?,
        events(cluster)?
    );

    // A restart that takes its time.
    cluster.pause_workloads()?;
    let told = restart_is_told(cluster, &before);
    cluster.resume_workloads()?;
    told?;
    cluster.wait_for("the restart to be over", LIMIT, |cluster| {
        let rollout = rollout(cluster)?;
        ensure!(rollout.is_null(), "it is {rollout}");
        Ok(())
    })?;
    cluster.wait_until_cache_is_ready(NAMESPACE, "images")?;
    let after = pods(cluster, NAMESPACE)?;
    ensure!(
        after.keys().eq(before.keys()) && after.iter().all(|(name, uid)| before[name] != *uid),
        "the pods were {before:?} and are {after:?}"
    );
    ensure!(events(cluster)?.len() == 2, "{:?}", events(cluster)?);
    operator.terminate()?;
    forget(cluster, NAMESPACE)
}

/// Returns when all pods follow it, and the cache says so.
fn edit_the_policy(cluster: &mut Cluster) -> Result<()> {
    let hash = |cluster: &Cluster| -> Result<Value> {
        Ok(cluster.get(&cache(NAMESPACE))?["status"]["policy"]["desiredHash"].clone())
    };
    let old = hash(cluster)?;
    let edit = json!({"spec": {"rules": [{"name": "none", "action": "Deny"}]}});
    cluster.run(cluster.api.merge(&ready::policy(NAMESPACE), &edit))?;
    cluster.wait_for("the policy to be in force", LIMIT, |cluster| {
        ensure!(hash(cluster)? != old, "it is the old one");
        let policy = cluster.get(&cache(NAMESPACE))?["status"]["policy"].clone();
        ensure!(policy["appliedReplicas"] == 2, "it is {policy}");
        Ok(())
    })
}

fn restart_is_told(cluster: &mut Cluster, before: &BTreeMap<String, String>) -> Result<()> {
    let set = format!("{}/images", objects("statefulsets", NAMESPACE));
    let mut all = Vec::new();
    for (spec, parts) in [
        (
            json!({"connections": {"maximum": 700}, "resources": {"requests": {"memory": "96Mi"}}}),
            [
                "containers.cache-server.resources",
                "the static configuration",
            ],
        ),
        (
            json!({"nodeSelector": {"pool": "blue"}, "priorityClassName": "system-cluster-critical"}),
            ["spec.nodeSelector", "spec.priorityClassName"],
        ),
    ] {
        let generation = cluster.get(&set)?["metadata"]["generation"].clone();
        cluster.run(cluster.api.merge(&cache(NAMESPACE), &json!({"spec": spec})))?;
        all.extend(parts);
        all.sort_unstable();
        cluster.wait_for("the restart to be told", LIMIT, |cluster| {
            let told = rollout(cluster)?;
            let mut changes = texts(&told["changes"]);
            changes.sort_unstable();
            ensure!(
                changes == all,
                "the status tells {changes:?} and not {all:?}"
            );
            // Each event tells of its own edit alone.
            let events = events(cluster)?;
            let of_this = events
                .iter()
                .filter(|note| parts.iter().all(|part| note.contains(part)));
            ensure!(
                events.len() * 2 == all.len() && of_this.count() == 1,
                "the events are {events:?}"
            );
            ensure!(
                cluster.get(&set)?["metadata"]["generation"] != generation,
                "the set is as it was"
            );
            Ok(())
        })?;
    }
    must_still_run(cluster, NAMESPACE, before)
}

fn rollout(cluster: &Cluster) -> Result<Value> {
    Ok(cluster.get(&cache(NAMESPACE))?["status"]["rollout"].clone())
}

/// What the events say that tell of a restart.
fn events(cluster: &Cluster) -> Result<Vec<String>> {
    let events = cluster.list(&objects("events", NAMESPACE))?;
    let ours = events.iter().filter(|event| {
        event["reason"] == "RolloutBegins" && event["regarding"]["name"] == "images"
    });
    Ok(ours
        .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
        .collect())
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).collect()
}
