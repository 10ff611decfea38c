//! What was deleted or edited by hand comes back; what is gone stays gone; and nothing is written while nothing changes.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::larder::{self, Cache, Metrics};
use e2e::{Node, World, wait};

use super::quickstart;

const LIMIT: Duration = Duration::from_mins(1);

const CHILDREN: [&str; 5] = [
    "configmap/images-config",
    "configmap/images-mirror-nodes",
    "service/images",
    "service/images-pods",
    "statefulset/images",
];

pub(crate) fn deleted_children_come_back(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    for child in CHILDREN {
        let old = uid(&cache, &world.node, child)?;
        cache.kubectl(&world.node, &["delete", child, "--wait=true"])?;
        wait::until(child, LIMIT, || {
            let new = uid(&cache, &world.node, child)?;
            ensure!(new != old, "{child} is still the old one");
            Ok(())
        })?;
    }
    cache.wait_until_ready(&mut world.node)?;
    // A new Service may have a new address, which the mirror has to follow.
    let service = cache.json(&world.node, "service", "images")?["spec"]["clusterIP"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    wait::until("the mirror to name the Service's address", LIMIT, || {
        let mirror = cache
            .json(&world.node, "configmap", "images-mirror-nodes")?
            .to_string();
        ensure!(
            mirror.contains(&format!("http://{service}:5000")),
            "the mirror is {mirror}"
        );
        Ok(())
    })?;
    cache.wire(&world.node, "nodes").map(drop)
}

pub(crate) fn edited_children_are_repaired(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let edits = [
        (
            "service/images",
            r#"{"spec":{"ports":[{"name":"registry","port":9999,"targetPort":5000}]}}"#,
            ".spec.ports[*].port",
            "5000",
        ),
        (
            "statefulset/images",
            r#"{"spec":{"template":{"spec":{"priorityClassName":null,"automountServiceAccountToken":true}}}}"#,
            ".spec.template.spec.automountServiceAccountToken",
            "false",
        ),
        (
            "configmap/images-config",
            r#"{"data":{"policy.yaml":"upstreams: []"}}"#,
            ".data.policy\\.yaml",
            "docker.io",
        ),
        (
            "configmap/images-mirror-nodes",
            r#"{"data":{"docker.io.hosts.toml":"server = \"http://evil.example\""}}"#,
            ".data.docker\\.io\\.hosts\\.toml",
            "larder-quickstart",
        ),
    ];
    for (child, patch, path, expected) in edits {
        cache.kubectl(
            &world.node,
            &["patch", child, "--type", "merge", "--patch", patch],
        )?;
        wait::until(child, LIMIT, || {
            let value = cache.kubectl(
                &world.node,
                &["get", child, "--output", &format!("jsonpath={{{path}}}")],
            )?;
            ensure!(
                value.contains(expected) && !value.contains("9999"),
                "{child}: {path} is {value}"
            );
            Ok(())
        })?;
    }
    cache.wait_until_ready(&mut world.node)
}

pub(crate) fn nothing_is_written_while_nothing_changes(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    // What earlier cases pulled may be told just then, once in five minutes: that is a change.
    let usage = |world: &World| -> Result<serde_json::Value> {
        let object = cache.json(&world.node, "registrycache", &cache.name)?;
        Ok(object["status"]["usage"].clone())
    };
    for _ in 0..3 {
        let before = usage(world)?;
        let writes = writes_of_idle_reconciles(world, &cache)?;
        if before == usage(world)? {
            ensure!(writes == 0.0, "{writes} writes");
            return Ok(());
        }
    }
    bail!("the usage moves all the time")
}

fn writes_of_idle_reconciles(world: &mut World, cache: &Cache) -> Result<f64> {
    settle(world)?;
    let before = operator_metrics(&world.node)?;
    // An annotation on the primary object, a label on a child and on a pod wake the operator, which must find nothing to do.
    for round in 0..5 {
        let note = format!("example.org/round={round}");
        for object in ["registrycache/images", "service/images", "pod/images-0"] {
            cache.kubectl(&world.node, &["annotate", "--overwrite", object, &note])?;
        }
        let target = before.sum("larder_operator_reconciles_total", &[]) + f64::from(round) + 1.0;
        wait::until("the reconcile", LIMIT, || {
            let now = operator_metrics(&world.node)?.sum("larder_operator_reconciles_total", &[]);
            ensure!(now >= target, "{now} of {target} reconciles");
            Ok(())
        })?;
    }
    let after = operator_metrics(&world.node)?;
    let writes = after.sum("larder_operator_api_writes_total", &[])
        - before.sum("larder_operator_api_writes_total", &[]);
    let reconciles = after.sum("larder_operator_reconciles_total", &[])
        - before.sum("larder_operator_reconciles_total", &[]);
    println!("  {reconciles} reconciles, {writes} writes");
    Ok(writes)
}

/// Returns when a whole look at the operator's counters shows no new write: it has come to rest.
fn settle(world: &mut World) -> Result<()> {
    let mut last = -1.0;
    let mut quiet = 0;
    wait::until("the operator to come to rest", LIMIT, || {
        let writes = operator_metrics(&world.node)?.sum("larder_operator_api_writes_total", &[]);
        quiet = if (writes - last).abs() < f64::EPSILON {
            quiet + 1
        } else {
            0
        };
        last = writes;
        ensure!(quiet >= 20, "{writes} writes so far");
        Ok(())
    })
}

/// What the operator that works has counted.
fn operator_metrics(node: &Node) -> Result<Metrics> {
    let addresses = node.kubectl(&[
        "--namespace",
        larder::NAMESPACE,
        "get",
        "pods",
        "--selector",
        "app.kubernetes.io/name=larder-operator",
        "--field-selector",
        "status.phase=Running",
        "--output",
        "jsonpath={.items[*].status.podIP}",
    ])?;
    for address in addresses.split_whitespace() {
        let metrics = Metrics::from_server(&format!("http://{address}:8080/metrics"))?;
        if metrics.sum("larder_operator_leader", &[]) > 0.0 {
            return Ok(metrics);
        }
    }
    bail!("none of the operators at {addresses} works")
}

fn uid(cache: &Cache, node: &Node, child: &str) -> Result<String> {
    let uid = cache.kubectl(
        node,
        &["get", child, "--output", "jsonpath={.metadata.uid}"],
    )?;
    ensure!(!uid.is_empty(), "{child} has no uid");
    Ok(uid)
}

pub(crate) fn malformed_object_neither_ends_the_operator_nor_stops_the_others(
    world: &mut World,
) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let restarts = |node: &Node| {
        node.kubectl(&[
            "--namespace",
            larder::NAMESPACE,
            "get",
            "pods",
            "--output",
            "jsonpath={.items[*].status.containerStatuses[*].restartCount}",
        ])
    };
    let before = restarts(&world.node)?;
    // As an older version of the definition might have let it in.
    let open = r#"{"spec":{"versions":[{"name":"v1alpha1","served":true,"storage":true,"subresources":{"status":{}},"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}"#;
    world.node.kubectl(&[
        "patch",
        "customresourcedefinition",
        "registrycaches.larder.dev",
        "--type",
        "merge",
        "--patch",
        open,
    ])?;
    wait::until("the malformed object to be stored", LIMIT, || {
        world.node.apply("{apiVersion: larder.dev/v1alpha1, kind: RegistryCache, metadata: {name: malformed, namespace: larder-quickstart}, spec: {upstreams: 7}}")
    })?;
    cache.kubectl(
        &world.node,
        &["delete", "configmap/images-mirror-nodes", "--wait=true"],
    )?;
    wait::until("the other cache to be repaired", LIMIT, || {
        uid(&cache, &world.node, "configmap/images-mirror-nodes")
    })?;
    cache.kubectl(
        &world.node,
        &["delete", "registrycache", "malformed", "--wait=true"],
    )?;
    let definition = larder::workspace().join("crds/yaml/registrycaches.yaml");
    // Not a replacement, which would take the marks by which helm knows what is its own.
    world.node.kubectl(&[
        "patch",
        "customresourcedefinition",
        "registrycaches.larder.dev",
        "--type",
        "merge",
        "--patch-file",
        definition.to_str().context("the path is not UTF-8")?,
    ])?;
    ensure!(
        restarts(&world.node)? == before,
        "the operator was restarted: {before} became {}",
        restarts(&world.node)?
    );
    cache.wait_until_ready(&mut world.node)
}
