//! `cargo xtask check`: one command for everything that is not a test.

mod faults;
mod imports;
mod rust_files;
mod style;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, cargo, output, root};
use crate::{generate, installed};

/// Runs all checks, the quick ones first.
pub(crate) fn run(with_advisories: bool) -> Result<()> {
    step("generated files are current", || generate::run(true))?;
    step("imports go one way", imports::check)?;
    step("files keep to the house rules", style::check)?;
    step("tests that the table of faults names exist", faults::check)?;
    step("format", || {
        command::run(cargo(["fmt", "--all", "--check"]))
    })?;
    step(
        "the server is built without Kubernetes",
        server_has_no_kubernetes,
    )?;
    step("lints", || {
        command::run(cargo([
            "clippy",
            "--quiet",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    step("documentation", documentation)?;
    step("licences, sources and duplicate versions", || {
        deny(&["bans", "licenses", "sources"])
    })?;
    if with_advisories {
        // Their database is fetched from the internet, which no other check may need.
        step("advisories", || deny(&["advisories"]))?;
    }
    Ok(())
}

fn step(what: &str, action: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("check: {what}");
    action().with_context(|| format!("check failed: {what}"))
}

fn documentation() -> Result<()> {
    let mut command = cargo([
        "doc",
        "--quiet",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    command.env("RUSTDOCFLAGS", "--deny warnings");
    command::run(command)
}

/// An invariant of the architecture: the server runs alone, and its image carries no Kubernetes client.
fn server_has_no_kubernetes() -> Result<()> {
    let tree = output(cargo([
        "tree",
        "--package",
        "cache-server",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]))?;
    for name in ["kube", "k8s-openapi", "operator"] {
        let found = tree
            .lines()
            .any(|line| line.split(' ').next() == Some(name));
        ensure!(
            !found,
            "cache-server depends on {name}; the contract crate's feature `kube` must stay off for it"
        );
    }
    Ok(())
}

fn deny(what: &[&str]) -> Result<()> {
    let program = installed::DENY.ensure()?;
    let mut command = std::process::Command::new(program);
    command
        .current_dir(root())
        .args(["--log-level", "warn", "check", "--hide-inclusion-graph"])
        .args(what);
    command::run(command)
}
