//! Pulls by a real kubelet through TLS and a password, while the certificate and its authority change.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::World;
use e2e::authority::Authority;
use e2e::larder::{self, Cache};
use serde_json::json;

use super::quickstart::{self, forget, run_pod};

const NAMESPACE: &str = "door";
const PORT: u16 = 30_505;
const HELLO: &str = "docker.io/library/hello:1.0";
/// `node:a-password-of-nodes`
const PASSWORD: &str = "Basic bm9kZTphLXBhc3N3b3JkLW9mLW5vZGVz";
/// The kubelet brings a changed Secret into a pod within its sync, of a minute and a half; then nodes get their time.
const LIMIT: Duration = Duration::from_mins(5);

/// Years in which certificates end, and their beginnings in seconds since 1970, by which they are told apart.
pub(crate) const OLD: (i32, f64) = (2040, 2_208_988_800.0);
pub(crate) const NEW: (i32, f64) = (2050, 2_524_608_000.0);

/// The Secret `serving` with a new certificate for the node's address.
pub(crate) fn secret(
    namespace: &str,
    authority: &Authority,
    (year, _): (i32, f64),
) -> Result<String> {
    let pair = authority.sign(e2e::node::ADDRESS, Some(year))?;
    let data = json!({
        "tls.crt": pair.certificate, "tls.key": pair.key, "ca.crt": authority.pem(),
    });
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "serving", "namespace": namespace}, "stringData": data,
    })
    .to_string())
}

pub(crate) fn a_new_authority_takes_over_without_a_failed_pull_or_a_restart(
    world: &mut World,
) -> Result<()> {
    larder::install(world)?;
    world.node.apply(&larder::restricted_namespace(NAMESPACE))?;
    let cache = Cache::new(NAMESPACE, "guarded");
    cache.make_volumes(&world.node, 1, "1Gi")?;
    // Both have the same name, as those have that an issuer makes one after the other.
    let (old, new) = (Authority::new()?, Authority::new()?);
    world.node.apply(&secret(NAMESPACE, &old, OLD)?)?;
    world.node.apply(&format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: people, namespace: {NAMESPACE}}}
type: kubernetes.io/basic-auth
stringData: {{username: node, password: a-password-of-nodes}}
---
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {{name: guarded, namespace: {NAMESPACE}}}
spec:
  upstreams: [{{host: docker.io, endpoints: ['{}']}}]
  storage: {{volume: {{size: 1Gi, onDelete: Delete}}}}
  service: {{type: NodePort, nodePort: {PORT}}}
  mirrors: [{{name: nodes, endpoint: 'https://{}:{PORT}'}}]
  tls: {{secretRef: {{name: serving}}, authorityDelay: 10s}}
  access: {{basic: {{secretRef: {{name: people}}}}}}
",
        world.upstream.url(),
        e2e::node::ADDRESS,
    ))?;
    cache.wait_until_ready(&mut world.node)?;
    let before = cache.members(&world.node)?;
    pull(world, &cache, "first")?;
    ensure!(shows(world, &cache, OLD)?, "another certificate is in use");

    world.node.apply(&secret(NAMESPACE, &new, NEW)?)?;
    let told = |node: &e2e::Node| -> Result<String> {
        let object = cache.json(node, "configmap", "guarded-mirror-nodes")?;
        let text = object["data"]["ca.crt"].as_str();
        text.map(str::to_owned)
            .context("nodes are told of no authority")
    };
    let both = world.node.wait_for("both authorities", LIMIT, |node| {
        let text = told(node)?;
        ensure!(
            text.contains(&new.pem()),
            "nodes are not told of the new authority"
        );
        Ok(text)
    })?;
    ensure!(
        both.contains(&old.pem()),
        "nodes are told of the new authority only"
    );
    ensure!(shows(world, &cache, OLD)?, "the new certificate came first");
    let start = std::time::Instant::now();
    for number in 0.. {
        pull(world, &cache, &format!("meanwhile-{number}"))?;
        if shows(world, &cache, NEW)? {
            break;
        }
        ensure!(start.elapsed() < LIMIT, "the new certificate is not in use");
    }
    pull(world, &cache, "afterwards")?;
    world
        .node
        .wait_for("the old authority to go", LIMIT, |node| {
            ensure!(
                !told(node)?.contains(&old.pem()),
                "nodes are told of the old one"
            );
            Ok(())
        })?;
    pull(world, &cache, "last")?;
    ensure!(
        cache.members(&world.node)? == before,
        "a pod was replaced or restarted"
    );
    cache.kubectl(&world.node, &["delete", "registrycache", "guarded"])?;
    // The node goes back to the cache of the other cases.
    quickstart::ready(world).map(drop)
}

/// Wires the node as it is said now, pulls an image that the node does not have, and makes sure that the cache gave it.
fn pull(world: &mut World, cache: &Cache, name: &str) -> Result<()> {
    let header = format!(
        "\n[host.\"https://{}:{PORT}\".header]\n  authorization = \"{PASSWORD}\"\n",
        e2e::node::ADDRESS
    );
    cache.wire_with(&world.node, "nodes", &header)?;
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, name, HELLO)?;
    forget(world, name)?;
    let asked = world.upstream.only_caches_asked();
    asked.with_context(|| format!("{name}: the pull went past the cache"))
}

/// Whether the cache shows the certificate with that end.
pub(crate) fn shows(world: &World, cache: &Cache, (_, end): (i32, f64)) -> Result<bool> {
    let metrics = cache.metrics(&world.node)?;
    let seconds = metrics.sum("larder_tls_certificate_expiry_timestamp_seconds", &[]);
    Ok((seconds - end).abs() < 1.0)
}
