//! Mirror configurations that hold a cluster's credentials, with the rights that the chart gives to the operator.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::larder::Cache;
use e2e::{World, wait};

use super::quickstart;

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn credentials_of_a_mirror_are_rendered_rotated_and_removed(
    world: &mut World,
) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let declared = r#"[{"name": "nodes"}, {"name": "east", "credentialsSecretRef": {"name": "east"}, "target": {"name": "east-files"}}]"#;
    mirrors(world, &cache, declared)?;
    let node = &mut world.node;
    let missing = cache.wait_for_condition(node, "MirrorsReady", "False", LIMIT)?;
    ensure!(missing["reason"] == "SecretNotFound", "{missing}");

    for password in ["first", "second"] {
        world.node.apply(&format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: east, namespace: {}}}
type: kubernetes.io/basic-auth
stringData: {{username: east, password: {password}}}
",
            cache.namespace
        ))?;
        let header = format!("Basic {}\"", STANDARD.encode(format!("east:{password}")));
        wait::until("the credentials to be rendered", LIMIT, || {
            let object = cache.json(&world.node, "secret", "east-files")?;
            let hosts = object["data"]["docker.io.hosts.toml"].as_str();
            let hosts = STANDARD.decode(hosts.context("there is no hosts.toml")?)?;
            let hosts = String::from_utf8_lossy(&hosts);
            ensure!(hosts.contains(&header), "the password is another");
            Ok(())
        })?;
    }
    let ready = cache.wait_for_condition(&mut world.node, "MirrorsReady", "True", LIMIT)?;
    ensure!(ready["reason"] == "Succeeded", "{ready}");
    let object = cache.json(&world.node, "registrycache", &cache.name)?;
    let mirrors_status = &object["status"]["mirrors"];
    ensure!(
        mirrors_status[1]["kind"] == "Secret" && mirrors_status[1]["object"] == "east-files",
        "{mirrors_status}"
    );

    mirrors(world, &cache, r#"[{"name": "nodes"}]"#)?;
    wait::until("the mirror to be removed", LIMIT, || {
        let left = cache.json(&world.node, "secret", "east-files");
        ensure!(left.is_err(), "it is still there");
        Ok(())
    })?;
    // What somebody else has made stays.
    cache.json(&world.node, "secret", "east")?;
    cache.wait_until_ready(&mut world.node)
}

fn mirrors(world: &World, cache: &Cache, mirrors: &str) -> Result<()> {
    let patch = format!("{{\"spec\": {{\"mirrors\": {mirrors}}}}}");
    cache.merge(&world.node, &patch)
}
