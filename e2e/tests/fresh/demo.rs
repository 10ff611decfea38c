//! `cargo xtask demo --kubeconfig`, pointed at the node.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::command;
use e2e::images::{CACHE_SERVER, OPERATOR};

use crate::fleet::Fleet;

pub(crate) fn quick_start_is_shown_on_a_cluster_that_exists(fleet: &mut Fleet) -> Result<()> {
    fleet.make_volume()?;
    let before = objects(fleet)?;
    let said = command::output(&mut demo(fleet))?;
    ensure!(
        said.contains("none by the second") && said.contains("confirmed by every replica"),
        "the demo said: {said}"
    );
    let after = objects(fleet)?;
    ensure!(
        after == before,
        "the demo left something: before\n{before}\nafter\n{after}"
    );
    Ok(())
}

pub(crate) fn cluster_with_larder_in_it_is_left_alone(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    let error = command::output(&mut demo(fleet));
    let error = format!("{:#}", error.err().context("the demo began")?);
    ensure!(
        error.contains("is there already"),
        "the demo does not say why: {error}"
    );
    cache.wait_until_ready(&mut fleet.world.node)
}

fn demo(fleet: &Fleet) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.arg("--kubeconfig")
        .arg(fleet.world.node.kubeconfig())
        .args(["--operator-image", OPERATOR])
        .args(["--cache-server-image", CACHE_SERVER])
        .args(["--upstream", &fleet.world.upstream.url()])
        .args(["--image", "hello:1.0"])
        // The state of the namespaces is this process's, not the demo's.
        .env_remove("LARDER_NODE_STAGE")
        .env("PATH", fleet.search_path())
        .env("HOME", fleet.directory());
    demo
}

/// What the demo installs in a cluster, by kind and name.
fn objects(fleet: &Fleet) -> Result<String> {
    let kinds = "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings";
    fleet
        .world
        .node
        .kubectl(&["get", kinds, "--output", "name"])
}
