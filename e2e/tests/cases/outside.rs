//! The operator outside of the cluster, with a kubeconfig: as a developer runs it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::component::Component;
use e2e::images::CACHE_SERVER;
use e2e::larder;
use e2e::programs::Programs;
use e2e::{World, wait};

use super::quickstart;

const LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn operator_outside_of_the_cluster_confirms_by_the_pod_proxy(
    world: &mut World,
) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    scale_operator(world, 0)?;
    let log = world.node.directory().join("log/operator-outside.log");
    let mut command = Command::new(Programs::built()?.operator);
    command
        .args(["run", "--cache-server-image", CACHE_SERVER])
        .args(["--cache-server-pull-policy", "Never"])
        .args(["--health-listen", "127.0.0.1:18080"])
        .env("KUBECONFIG", world.node.kubeconfig());
    let mut operator = Component::start("operator", &mut command, &log)?;
    let patch = r#"[{"op":"add","path":"/spec/rules/-","value":{"name":"outside","match":{"repositories":["outside/*"]},"action":"Deny"}}]"#;
    let confirmed = quickstart::patch_policy(world, &cache, patch);
    operator.check_running()?;
    operator.stop()?;
    let said = std::fs::read_to_string(&log).context("failed to read the operator's log")?;
    scale_operator(world, 2)?;
    confirmed.with_context(|| format!("the operator said: {said}"))?;
    cache.wait_until_ready(&mut world.node)
}

fn scale_operator(world: &mut World, replicas: usize) -> Result<()> {
    let deployment = format!("deployment/{}", larder::OPERATOR_NAME);
    let replicas_flag = format!("--replicas={replicas}");
    world.node.kubectl(&[
        "--namespace",
        larder::NAMESPACE,
        "scale",
        &deployment,
        &replicas_flag,
    ])?;
    wait::until("the operator's pod to come or go", LIMIT, || {
        let pods = world.node.kubectl(&[
            "--namespace",
            larder::NAMESPACE,
            "get",
            "pods",
            "--output",
            "name",
        ])?;
        ensure!(pods.lines().count() == replicas, "the pods are {pods}");
        Ok(())
    })
}
