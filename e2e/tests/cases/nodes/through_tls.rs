//! A cache with TLS beside the quick start's: the agent brings its authority to the node, and a new one before it is needed,
//! however long that takes the agent.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::authority::Authority;
use e2e::larder::Cache;
use e2e::{Node, World};

use super::super::door::{NEW, OLD, secret, shows};
use super::super::quickstart::{self, forget, run_pod};
use super::{WITHDRAW_LIMIT, wait_until_gone, wired};

const HOST: &str = "secured.example";
const IMAGE: &str = "secured.example/library/hello:1.0";
const PORT: u16 = 30_506;
const DELAY: Duration = Duration::from_secs(10);
/// What servers may count on, in their configuration.
const KNOWN: &str = "known-ca.crt";
/// What the operator would need to notice that the delay is over, and more.
const LONGER: Duration = Duration::from_secs(15);
/// The kubelet brings a changed Secret into a pod within its sync, of a minute and a half.
const LIMIT: Duration = Duration::from_mins(4);

pub(crate) fn a_new_authority_reaches_the_node_before_the_certificate_does(
    world: &mut World,
) -> Result<()> {
    wired(world)?;
    let cache = Cache::new(quickstart::NAMESPACE, "secured");
    cache.make_volumes(&world.node, 1, "1Gi")?;
    // Both have the same name, as those have that an issuer makes one after the other.
    let (old, new) = (Authority::new()?, Authority::new()?);
    world
        .node
        .apply(&secret(quickstart::NAMESPACE, &old, OLD)?)?;
    world.node.apply(&format!(
        "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {{name: secured, namespace: {}}}
spec:
  upstreams: [{{host: {HOST}, endpoints: ['{}']}}]
  storage: {{volume: {{size: 1Gi, onDelete: Delete}}}}
  service: {{type: NodePort, nodePort: {PORT}}}
  mirrors: [{{name: nodes, endpoint: 'https://{}:{PORT}'}}]
  tls: {{secretRef: {{name: serving}}, authorityDelay: {}s}}
",
        quickstart::NAMESPACE,
        world.upstream.url(),
        e2e::node::ADDRESS,
        DELAY.as_secs(),
    ))?;
    let node = &mut world.node;
    let condition = cache.wait_for_condition(node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    let since = &condition["lastTransitionTime"];
    let hosts = on_node(node, "hosts.toml")?;
    let asked = format!("[host.\"https://{}:{PORT}\"]", e2e::node::ADDRESS);
    ensure!(
        hosts.contains(&asked) && hosts.contains("ca = \"ca.crt\""),
        "{hosts}"
    );
    ensure!(on_node(node, "ca.crt")? == old.pem(), "another authority");
    pull(world, "first")?;
    ensure!(shows(world, &cache, OLD)?, "another certificate is in use");

    world
        .node
        .apply(&secret(quickstart::NAMESPACE, &new, NEW)?)?;
    let both = world.node.wait_for("both authorities", LIMIT, |node| {
        let text = on_node(node, "ca.crt")?;
        ensure!(text.contains(&new.pem()), "the node knows no new authority");
        Ok(text)
    })?;
    ensure!(both.contains(&old.pem()), "the node knows the new one only");
    ensure!(shows(world, &cache, OLD)?, "the new certificate came first");
    let start = Instant::now();
    for number in 0.. {
        pull(world, &format!("meanwhile-{number}"))?;
        if shows(world, &cache, NEW)? {
            break;
        }
        ensure!(start.elapsed() < LIMIT, "the new certificate is not in use");
    }
    pull(world, "afterwards")?;
    let node = &mut world.node;
    let condition = cache.wait_for_condition(node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    ensure!(
        condition["lastTransitionTime"] == *since,
        "the node was not wired meanwhile: {condition}, before {since}"
    );

    an_agent_that_is_away_is_waited_for(world, &cache)?;

    let node = &mut world.node;
    cache.kubectl(node, &["delete", "registrycache", "secured"])?;
    cache.kubectl(node, &["delete", "secret", "serving"])?;
    wait_until_gone(node, HOST)
}

/// A third authority, while the agent stands still: it is trusted, and no server may count on it.
fn an_agent_that_is_away_is_waited_for(world: &mut World, cache: &Cache) -> Result<()> {
    let third = Authority::new()?;
    let agent = agent(&world.node)?;
    world.node.ctr(&["tasks", "pause", &agent])?;
    world
        .node
        .apply(&secret(quickstart::NAMESPACE, &third, NEW)?)?;
    world
        .node
        .wait_for("the authority to be told", LIMIT, |node| {
            let trusted = told(node, cache, "secured-ca", "ca.crt")?;
            ensure!(trusted.contains(&third.pem()), "it is {trusted}");
            Ok(())
        })?;
    let counted_on = |node: &Node| {
        let known = told(node, cache, "secured-config", KNOWN)?;
        anyhow::Ok(known.contains(&third.pem()))
    };
    let start = Instant::now();
    while start.elapsed() < DELAY + LONGER {
        ensure!(!counted_on(&world.node)?, "nobody asked the node");
    }
    world.node.ctr(&["tasks", "resume", &agent])?;
    world.node.wait_for("the node to be asked", LIMIT, |node| {
        ensure!(counted_on(node)?, "the servers don't count on it");
        Ok(())
    })?;
    let on_node = on_node(&world.node, "ca.crt")?;
    ensure!(on_node.contains(&third.pem()), "the node lacks it");
    Ok(())
}

/// The container of the agent's pod.
fn agent(node: &Node) -> Result<String> {
    let id = "jsonpath={.items[0].status.containerStatuses[0].containerID}";
    let output = format!("--output={id}");
    let found = node.kubectl(&["--namespace", super::AGENTS, "get", "pods", &output])?;
    let id = found.trim().strip_prefix("containerd://");
    id.map(str::to_owned)
        .with_context(|| format!("no container is running: {found}"))
}

/// What a file of a `ConfigMap` of the cache says.
fn told(node: &Node, cache: &Cache, name: &str, file: &str) -> Result<String> {
    let object = cache.json(node, "configmap", name)?;
    let text = object["data"][file].as_str();
    text.map(str::to_owned)
        .with_context(|| format!("{name} has no {file}"))
}

fn on_node(node: &Node, file: &str) -> Result<String> {
    let path = node.hosts_directory().join(HOST).join(file);
    fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// Pulls an image that the node does not have. The mirror lets the node go to the upstream, where a failure would be seen.
fn pull(world: &mut World, name: &str) -> Result<()> {
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, name, IMAGE)?;
    forget(world, name)?;
    let asked = world.upstream.only_caches_asked();
    asked.with_context(|| format!("{name}: the pull went past the cache"))
}
