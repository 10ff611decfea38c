//! The cache of the documentation's quick start, which several cases share.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use e2e::images::{Artifact, Image};
use e2e::larder::{self, Cache};
use e2e::{Node, World};

/// How long a pod may take from its creation to ready, a pull included.
pub(crate) const POD_LIMIT: Duration = Duration::from_secs(90);

pub(crate) const NAMESPACE: &str = "larder-quickstart";
pub(crate) const POLICY: &str = "ours";

/// Installs Larder and the quick start, unless that was done before, wires the node, and returns when the cache is ready.
pub(crate) fn ready(world: &mut World) -> Result<(Cache, Vec<PathBuf>)> {
    larder::install(world)?;
    let cache = Cache::new(NAMESPACE, "images");
    world.node.apply(&larder::restricted_namespace(NAMESPACE))?;
    let stores = cache.make_volumes(&world.node, 3, "20Gi")?;
    let before = cache.policy(&world.node).ok();
    let generation = policy_field(&world.node, ".metadata.generation").ok();
    world
        .node
        .apply(&larder::quickstart(&world.upstream.url())?)?;
    if let Some(before) = before
        && policy_field(&world.node, ".metadata.generation").ok() != generation
    {
        // An earlier case has left another policy: what follows needs this one in force.
        cache.wait_for_policy_after(&mut world.node, &before, Instant::now())?;
    }
    cache.wait_until_ready(&mut world.node)?;
    cache.wire(&world.node, "nodes")?;
    Ok((cache, stores))
}

/// Changes the policy by a JSON patch, waits until every replica has confirmed it, and returns how long that took from before
/// kubectl started.
pub(crate) fn patch_policy(world: &mut World, cache: &Cache, patch: &str) -> Result<Duration> {
    let before = cache.policy(&world.node)?;
    let start = Instant::now();
    let kind = ["patch", "cachepolicy", POLICY, "--type", "json"];
    cache.kubectl(&world.node, &[&kind[..], &["--patch", patch]].concat())?;
    cache.wait_for_policy_after(&mut world.node, &before, start)
}

/// A field of the policy, empty if it has none.
pub(crate) fn policy_field(node: &Node, path: &str) -> Result<String> {
    let path = format!("jsonpath={{{path}}}");
    let output = ["--output", &path];
    let policy = ["--namespace", NAMESPACE, "get", "cachepolicy", POLICY];
    node.kubectl(&[&policy[..], &output[..]].concat())
}

/// Runs a pod from `image`, which the node has to pull, and returns when it is ready.
pub(crate) fn run_pod(world: &mut World, name: &str, image: &str) -> Result<()> {
    world.node.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{{name: main, image: '{image}', imagePullPolicy: Always}}]
"
    ))?;
    world.node.wait_for_pod("default", name, POD_LIMIT)
}

/// Ends the pod and empties the node's image store, so that the next pull is a first one.
pub(crate) fn forget(world: &mut World, name: &str) -> Result<()> {
    world.node.kubectl(&[
        "delete",
        "pod",
        name,
        "--wait=true",
        "--timeout=60s",
        "--namespace",
        "default",
    ])?;
    world.node.remove_all_workload_images()
}

/// The manifest's, the configuration's and the layers' digests of an image for one platform.
pub(crate) fn digests(artifact: &Artifact) -> Result<Vec<String>> {
    let image: &Image = artifact.amd64()?;
    Ok(image.blobs().map(|blob| blob.digest.clone()).collect())
}

/// Lines of containerd's log that tell of a timeout.
pub(crate) fn timeouts(node: &Node) -> Result<Vec<String>> {
    let log = node
        .containerd_log()
        .context("failed to look for timeouts")?;
    let tells = |line: &&str| {
        line.contains("i/o timeout")
            || line.contains("deadline exceeded")
            || line.contains("Client.Timeout")
    };
    Ok(log.lines().filter(tells).map(str::to_owned).collect())
}
