//! What is asked of a cache that lives already: to grow, to be left alone, to be looked at, to have less.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Moment, objects};
use serde_json::{Value, json};

use super::golden::{forget, must_still_run, only, pods};
use super::ready::{self, cache};

const LIMIT: Duration = Duration::from_mins(2);

/// A class whose volumes can grow; the fake kubelet makes claims as large as they ask for.
const CLASS: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: growing}
provisioner: example.org/disks
allowVolumeExpansion: true
";

/// One that can't.
const FIXED: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fixed}
provisioner: example.org/disks
";

fn manifest(namespace: &str, class: &str) -> String {
    ready::manifest(namespace).replace(
        "size: 1Gi",
        &format!("size: 1Gi, storageClassName: {class}"),
    )
}

fn edit(cluster: &Cluster, namespace: &str, patch: &Value) -> Result<()> {
    cluster
        .run(cluster.api.merge(&cache(namespace), patch))
        .map(drop)
}

fn grow(cluster: &Cluster, namespace: &str, size: &str) -> Result<()> {
    edit(
        cluster,
        namespace,
        &json!({"spec": {"storage": {"volume": {"size": size}}}}),
    )
}

fn set(namespace: &str) -> String {
    format!("{}/images", objects("statefulsets", namespace))
}

fn condition(cluster: &Cluster, namespace: &str, kind: &str) -> Result<Value> {
    Ok(e2e::condition(&cluster.get(&cache(namespace))?, kind).clone())
}

/// Fails unless the volumes are as large as 2Gi and the pods have the new set.
fn must_be_grown(cluster: &Cluster, namespace: &str) -> Result<()> {
    for claim in cluster.list(&objects("persistentvolumeclaims", namespace))? {
        let size = &claim["status"]["capacity"]["storage"];
        ensure!(size == "2Gi", "a claim has {size}");
    }
    let set = cluster.get(&set(namespace))?;
    let size = &set["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"];
    ensure!(size == "2Gi", "the template of claims asks for {size}");
    for pod in cluster.list(&objects("pods", namespace))? {
        let owners = pod["metadata"]["ownerReferences"].as_array().cloned();
        let mut owners = owners.unwrap_or_default().into_iter();
        ensure!(
            owners.any(|owner| owner["uid"] == set["metadata"]["uid"]),
            "pod {} does not belong to the set",
            pod["metadata"]["name"]
        );
    }
    let storage = condition(cluster, namespace, "StorageReady")?;
    ensure!(storage["status"] == "True", "the condition is {storage}");
    let ready = condition(cluster, namespace, "Ready")?;
    ensure!(ready["status"] == "True", "the condition is {ready}");
    Ok(())
}

pub(crate) fn volumes_grow_and_no_pod_restarts(cluster: &mut Cluster) -> Result<()> {
    let namespace = "growth";
    cluster.create_namespace(namespace)?;
    cluster.apply(CLASS)?;
    cluster.apply(&manifest(namespace, "growing"))?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    let before = pods(cluster, namespace)?;
    ensure!(before.len() == 2, "the pods are {before:?}");
    grow(cluster, namespace, "2Gi")?;
    cluster.wait_for("the volumes to grow", LIMIT, |cluster| {
        must_be_grown(cluster, namespace)
    })?;
    must_still_run(cluster, namespace, &before)?;
    let refusal = grow(cluster, namespace, "1Gi");
    let sentence = refusal
        .err()
        .map(|error| format!("{error:#}"))
        .unwrap_or_default();
    ensure!(
        sentence.contains("storage.volume.size can only grow"),
        "a smaller size was answered by {sentence:?}"
    );
    operator.terminate()?;
    forget(cluster, namespace)
}

pub(crate) fn killed_at_every_write_of_a_growth(cluster: &mut Cluster) -> Result<()> {
    cluster.apply(CLASS)?;
    for moment in [Moment::Before, Moment::After] {
        // Two claims, two pods, the old set and the new one, the policy, and the status on the way.
        for write in 1..=8 {
            let namespace = &format!("growth-{moment:?}-{write}").to_lowercase();
            cluster.create_namespace(namespace)?;
            cluster.apply(&manifest(namespace, "growing"))?;
            let operator = cluster.start_operator_with(&only(namespace))?;
            cluster.wait_until_cache_is_ready(namespace, "images")?;
            operator.terminate()?;
            let before = pods(cluster, namespace)?;
            grow(cluster, namespace, "2Gi")?;
            let gate = cluster.start_gate()?;
            gate.shut_at(write, moment);
            let mut options = only(namespace);
            options.server = Some(gate.url());
            let operator = cluster.start_operator_with(&options)?;
            gate.wait_until_shut()?;
            operator.kill()?;
            let operator = cluster.start_operator_with(&only(namespace))?;
            let what = format!(
                "the volumes to grow after a kill at write {write}, {moment:?} it was done"
            );
            cluster.wait_for(&what, LIMIT, |cluster| must_be_grown(cluster, namespace))?;
            must_still_run(cluster, namespace, &before)?;
            operator.terminate()?;
            forget(cluster, namespace)?;
        }
    }
    Ok(())
}

pub(crate) fn class_that_does_not_let_volumes_grow_is_named(cluster: &mut Cluster) -> Result<()> {
    let namespace = "no-growth";
    cluster.create_namespace(namespace)?;
    cluster.apply(FIXED)?;
    cluster.apply(&manifest(namespace, "fixed"))?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    let uid = cluster.get(&set(namespace))?["metadata"]["uid"].clone();
    grow(cluster, namespace, "2Gi")?;
    cluster.wait_for("the condition", LIMIT, |cluster| {
        let stalled = condition(cluster, namespace, "Stalled")?;
        let message = stalled["message"].as_str().unwrap_or_default();
        ensure!(
            stalled["reason"] == "NotExpandable" && message.contains("StorageClass fixed"),
            "the condition is {stalled}"
        );
        Ok(())
    })?;
    ensure!(
        cluster.get(&set(namespace))?["metadata"]["uid"] == uid,
        "the set was replaced for nothing"
    );
    operator.terminate()?;
    forget(cluster, namespace)
}

pub(crate) fn suspended_cache_is_left_alone_and_a_request_is_answered(
    cluster: &mut Cluster,
) -> Result<()> {
    let namespace = "suspended";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    let service = format!("{}/images", objects("services", namespace));
    edit(
        cluster,
        namespace,
        &json!({"spec": {"suspend": true, "service": {"port": 5005}}}),
    )?;
    cluster.wait_for("the cache to be suspended", LIMIT, |cluster| {
        let ready = condition(cluster, namespace, "Ready")?;
        ensure!(ready["reason"] == "Suspended", "the condition is {ready}");
        Ok(())
    })?;
    let requested = json!({"metadata": {"annotations": {"larder.dev/requestedAt": "now"}}});
    edit(cluster, namespace, &requested)?;
    cluster.wait_for("the request to be answered", LIMIT, |cluster| {
        let status = cluster.get(&cache(namespace))?["status"].clone();
        ensure!(
            status["lastHandledReconcileAt"] == "now",
            "the status is {status}"
        );
        Ok(())
    })?;
    let port = |cluster: &Cluster| -> Result<Value> {
        Ok(cluster.get(&service)?["spec"]["ports"][0]["port"].clone())
    };
    ensure!(port(cluster)? == 5000, "a suspended cache was changed");
    edit(cluster, namespace, &json!({"spec": {"suspend": false}}))?;
    cluster.wait_for("the operator to go on", LIMIT, |cluster| {
        let port = port(cluster)?;
        ensure!(port == 5005, "the port is {port}");
        Ok(())
    })?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    operator.terminate()?;
    forget(cluster, namespace)
}

pub(crate) fn what_is_no_longer_declared_is_removed(cluster: &mut Cluster) -> Result<()> {
    let namespace = "pruned";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    edit(
        cluster,
        namespace,
        &json!({"spec": {
            "networkPolicy": {}, "exposure": {"ingress": {"host": "cache.example"}},
        }}),
    )?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    let optional = ["poddisruptionbudgets", "networkpolicies", "ingresses"];
    for plural in optional {
        cluster.get(&format!("{}/images", objects(plural, namespace)))?;
    }
    edit(
        cluster,
        namespace,
        &json!({"spec": {
            "replicas": 1, "networkPolicy": null, "exposure": {"ingress": null}, "mirrors": [],
        }}),
    )?;
    cluster.wait_for("what is not declared to be removed", LIMIT, |cluster| {
        for plural in optional {
            let left = cluster.list(&objects(plural, namespace))?;
            ensure!(left.is_empty(), "{} {plural} are left", left.len());
        }
        let mirror = format!("{}/images-mirror-nodes", objects("configmaps", namespace));
        ensure!(cluster.get(&mirror).is_err(), "the mirror is left");
        Ok(())
    })?;
    operator.terminate()?;
    forget(cluster, namespace)
}
