//! Another writer changes what is the operator's, again and again.

use anyhow::Result;
use e2e::Cluster;
use e2e::cluster::{is_gone, objects};
use serde_json::{Value, json};

use super::golden::{Golden, forget, must_still_run, pods, random, rest, wait_until_golden};
use super::ready;

const ROUNDS: usize = 60;

/// What the other writer changes: object, and merge patch or applied object.
fn edits() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        (
            "services",
            "images",
            json!({"spec": {"ports": [{"name": "registry", "port": 9999, "targetPort": 5000}]}}),
        ),
        (
            "services",
            "images-pods",
            json!({"spec": {"publishNotReadyAddresses": false, "selector": {"app": "other"}}}),
        ),
        (
            "configmaps",
            "images-config",
            json!({"data": {"policy.yaml": "upstreams: []"}}),
        ),
        (
            "configmaps",
            "images-config",
            json!({"data": {"static.yaml": ": [", "policy.yaml": "upstreams: ["}, "metadata": {"annotations": {"larder.dev/policy-hash": "0"}}}),
        ),
        (
            "configmaps",
            "images-mirror-nodes",
            json!({"data": {"docker.io.hosts.toml": "server = \"http://evil.example\""}}),
        ),
        (
            "statefulsets",
            "images",
            json!({"metadata": {"labels": {"app.kubernetes.io/part-of": "other"}}}),
        ),
    ]
}

pub(crate) fn writer_that_disagrees_is_outlasted(cluster: &mut Cluster) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-conflict")?;
    let mut random = random();
    let namespace = "team-conflict";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let operator = cluster.start_operator()?;
    wait_until_golden(cluster, namespace, &golden.new)?;
    let before = pods(cluster, namespace)?;
    let edits = edits();
    for _ in 0..ROUNDS {
        let (plural, name, edit) = &edits[random.usize(..edits.len())];
        let path = format!("{}/{name}", objects(plural, namespace));
        let written = if random.bool() {
            cluster.run(cluster.api.merge(&path, edit))
        } else {
            let mut object = edit.clone();
            object["apiVersion"] = json!(if *plural == "statefulsets" {
                "apps/v1"
            } else {
                "v1"
            });
            object["kind"] = json!(match *plural {
                "services" => "Service",
                "configmaps" => "ConfigMap",
                _ => "StatefulSet",
            });
            object["metadata"]["name"] = json!(name);
            cluster.run(cluster.api.apply(&path, &object, "intruder"))
        };
        match written {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    wait_until_golden(cluster, namespace, &golden.new)?;
    must_still_run(cluster, namespace, &before)?;
    rest(cluster, &operator, namespace)?;
    operator.terminate()?;
    forget(cluster, namespace)
}
