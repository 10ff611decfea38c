//! A cache past which nodes may not go is deleted: what kept them from going there goes too.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};
use e2e::larder::{self, Cache};
use e2e::{Node, World};

use super::super::quickstart::{self, forget, run_pod};
use super::{WITHDRAW_LIMIT, files, scale, theirs, wired};

const HOST: &str = "strict.example";
const IMAGE: &str = "strict.example/library/hello:1.0";
const OPERATOR: &str = "deployment/larder-operator";

/// Once while the operator looks, and once while it is away.
pub(crate) fn a_deleted_cache_that_forbade_the_fallback_gives_the_node_back(
    world: &mut World,
) -> Result<()> {
    wired(world)?;
    // By this the node comes to the upstream, of which nobody else in this network would know.
    let before = theirs(world);
    world.node.write_hosts(HOST, "hosts.toml", &before)?;
    let others = others(&world.node)?;

    let cache = wire_strictly(world, "strict")?;
    cache.kubectl(&world.node, &["delete", "registrycache", &cache.name])?;
    pulls_past(world, &before)?;

    let cache = wire_strictly(world, "stricter")?;
    scale(&world.node, larder::NAMESPACE, OPERATOR, 0)?;
    cache.kubectl(&world.node, &["delete", "registrycache", &cache.name])?;
    world
        .node
        .wait_for("the pod to go", WITHDRAW_LIMIT, |node| {
            ensure!(cache.members(node)?.is_empty(), "it is there");
            Ok(())
        })?;
    // Nobody has said that the node may.
    let text = hosts(&world.node)?;
    ensure!(!text.contains(&world.upstream.url()), "{text}");
    scale(&world.node, larder::NAMESPACE, OPERATOR, 1)?;
    pulls_past(world, &before)?;

    fs::remove_dir_all(world.node.hosts_directory().join(HOST))
        .context("failed to remove what was there before")?;
    ensure!(
        self::others(&world.node)? == others,
        "files of other caches have changed"
    );
    larder::wait_until_operator_is_ready(&mut world.node)
}

/// Makes the cache, and returns when the node had an image through it.
fn wire_strictly(world: &mut World, name: &str) -> Result<Cache> {
    let cache = Cache::new(quickstart::NAMESPACE, name);
    let node = &mut world.node;
    cache.make_volumes(node, 1, "1Gi")?;
    node.apply(&format!(
        "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {{name: {name}, namespace: {}}}
spec:
  upstreams: [{{host: {HOST}, endpoints: ['{}']}}]
  storage: {{volume: {{size: 1Gi, onDelete: Delete}}}}
  mirrors: [{{name: nodes, fallback: Forbid}}]
",
        quickstart::NAMESPACE,
        world.upstream.url(),
    ))?;
    cache.wait_for_condition(node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    let text = hosts(node)?;
    ensure!(!text.contains(&world.upstream.url()), "{text}");
    world.upstream.clear_requests()?;
    pull(world)?;
    world.upstream.only_caches_asked()?;
    Ok(cache)
}

/// Returns when the node has what it had before, and an image by that.
fn pulls_past(world: &mut World, before: &str) -> Result<()> {
    world
        .node
        .wait_for("the node's own file", WITHDRAW_LIMIT, |node| {
            let text = hosts(node)?;
            ensure!(text == before, "{text}");
            Ok(())
        })?;
    world.upstream.clear_requests()?;
    pull(world)?;
    let past = world.upstream.requests_past_the_cache()?;
    ensure!(!past.is_empty(), "the upstream was not asked");
    Ok(())
}

fn pull(world: &mut World) -> Result<()> {
    world.node.remove_all_workload_images()?;
    run_pod(world, "strict", IMAGE)?;
    forget(world, "strict")
}

fn hosts(node: &Node) -> Result<String> {
    let path = node.hosts_directory().join(HOST).join("hosts.toml");
    fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// The files of other hosts.
fn others(node: &Node) -> Result<BTreeMap<String, String>> {
    let mut files = files(node)?;
    files.retain(|name, _| !name.contains(HOST));
    Ok(files)
}
