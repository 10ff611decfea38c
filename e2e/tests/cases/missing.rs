//! References to what does not exist: said by name, and healed when it appears.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::larder::{self, Cache};
use e2e::{World, condition};

const LIMIT: Duration = Duration::from_mins(1);
const NAMESPACE: &str = "missing";

pub(crate) fn missing_policy_and_secret_are_named_and_heal(world: &mut World) -> Result<()> {
    larder::install(world)?;
    world.node.apply(&larder::restricted_namespace(NAMESPACE))?;
    let cache = Cache::new(NAMESPACE, "waiting");
    let stores = cache.make_volumes(&world.node, 1, "1Gi")?;
    ensure!(stores.len() == 1);
    world.node.apply(
        "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: waiting, namespace: missing}
spec:
  upstreams: [{host: registry.example, caSecretRef: {name: corporate-ca}}]
  policyRefs: [{name: later}]
  storage: {volume: {size: 1Gi, onDelete: Delete}}
",
    )?;
    expect_message(world, &cache, &["later"])?;
    let workload = cache.kubectl(&world.node, &["get", "statefulset", "waiting"]);
    ensure!(
        workload.is_err(),
        "a cache runs although its policy is missing: {workload:?}"
    );
    world.node.apply(
        "apiVersion: larder.dev/v1alpha1
kind: CachePolicy
metadata: {name: later, namespace: missing}
spec: {rules: [{repositories: [], action: Cache}]}
"
        .replace("repositories: [], ", "")
        .as_str(),
    )?;
    expect_message(world, &cache, &["corporate-ca", "ca.crt"])?;
    cache.kubectl(
        &world.node,
        &[
            "create",
            "secret",
            "generic",
            "corporate-ca",
            "--from-literal=other=x",
        ],
    )?;
    expect_message(world, &cache, &["corporate-ca", "ca.crt"])?;
    cache.kubectl(&world.node, &["delete", "secret", "corporate-ca"])?;
    let authority = std::fs::read_to_string(world.node.directory().join("pki/ca.crt"))?;
    cache.kubectl(
        &world.node,
        &[
            "create",
            "secret",
            "generic",
            "corporate-ca",
            &format!("--from-literal=ca.crt={authority}"),
        ],
    )?;
    cache.wait_until_ready(&mut world.node)
}

pub(crate) fn broken_policy_leaves_the_last_good_one_in_force(world: &mut World) -> Result<()> {
    let cache = Cache::new(NAMESPACE, "waiting");
    let good = cache.policy(&world.node)?;
    let patch =
        r#"[{"op":"add","path":"/spec/rules/0/match","value":{"repositories":["library/[a"]}}]"#;
    cache.kubectl(
        &world.node,
        &[
            "patch",
            "cachepolicy",
            "later",
            "--type",
            "json",
            "--patch",
            patch,
        ],
    )?;
    expect_message(world, &cache, &["later", "library/[a"])?;
    let held = cache.kubectl(
        &world.node,
        &[
            "get",
            "configmap",
            "waiting-config",
            "--output",
            "jsonpath={.data.policy\\.yaml}",
        ],
    )?;
    ensure!(
        held.contains("action: Cache") && !held.contains("library/[a"),
        "the broken rule was written: {held}"
    );
    cache.kubectl(&world.node, &["delete", "cachepolicy", "later"])?;
    expect_message(world, &cache, &["later"])?;
    let members = cache.members(&world.node)?;
    ensure!(members.len() == 1, "the cache stopped: {members:?}");
    world.node.apply(
        "apiVersion: larder.dev/v1alpha1
kind: CachePolicy
metadata: {name: later, namespace: missing}
spec: {rules: [{action: Cache}]}
",
    )?;
    cache.wait_until_ready(&mut world.node)?;
    ensure!(
        cache.policy(&world.node)?.hash == good.hash,
        "another policy than the first is in force"
    );
    ensure!(
        cache.members(&world.node)? == members,
        "a pod was replaced or restarted"
    );
    Ok(())
}

pub(crate) fn foreign_object_is_not_overwritten(world: &mut World) -> Result<()> {
    larder::install(world)?;
    world.node.apply(&larder::restricted_namespace(NAMESPACE))?;
    let cache = Cache::new(NAMESPACE, "taken");
    cache.kubectl(
        &world.node,
        &[
            "create",
            "configmap",
            "taken-config",
            "--from-literal=mine=yes",
        ],
    )?;
    world.node.apply(
        "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: taken, namespace: missing}
spec:
  upstreams: [{host: registry.example}]
  storage: {volume: {size: 1Gi, onDelete: Delete}}
",
    )?;
    expect_message(world, &cache, &["taken-config"])?;
    let mine = cache.kubectl(
        &world.node,
        &[
            "get",
            "configmap",
            "taken-config",
            "--output",
            "jsonpath={.data.mine}",
        ],
    )?;
    ensure!(mine == "yes", "the foreign object was overwritten");
    cache.kubectl(
        &world.node,
        &["delete", "registrycache", "taken", "--wait=true"],
    )?;
    cache
        .kubectl(&world.node, &["delete", "configmap", "taken-config"])
        .map(drop)
}

fn expect_message(world: &mut World, cache: &Cache, words: &[&str]) -> Result<()> {
    world
        .node
        .wait_for("the condition that says it", LIMIT, |node| {
            let object = cache.json(node, "registrycache", &cache.name)?;
            let ready = condition(&object, "Ready");
            let message = ready["message"].as_str().unwrap_or_default();
            ensure!(
                ready["status"] == "False" && words.iter().all(|word| message.contains(word)),
                "Ready says: {message:?} in {}",
                object["status"]["conditions"]
            );
            Ok(())
        })?;
    Ok(())
}
