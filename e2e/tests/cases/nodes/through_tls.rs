//! A cache with TLS beside the quick start's: the agent brings its authority to the node, and a new one before it is needed.

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
  tls: {{secretRef: {{name: serving}}, authorityDelay: 10s}}
",
        quickstart::NAMESPACE,
        world.upstream.url(),
        e2e::node::ADDRESS,
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

    cache.kubectl(node, &["delete", "registrycache", "secured"])?;
    cache.kubectl(node, &["delete", "secret", "serving"])?;
    wait_until_gone(node, HOST)
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
