//! The test levels, from quick to real, each with the time it may take on two cores with warm build caches.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::DemoArguments;
use crate::check;
use crate::command::{self, cargo};
use crate::packages;
use crate::report::{Counts, run_tests};

/// The profile of the binaries that go into the images of the node tests and the demo.
const IMAGE_PROFILE: &str = "image";

/// Runs every level and prints the sum.
pub(crate) fn run_levels(without_node: bool, long: bool) -> Result<Counts> {
    let mut counts = Counts::default();
    level("checks", 10, || {
        check::run(false).map(|()| Counts::default())
    })?;
    counts.add(level("unit, server and operator tests", 15, || {
        packages::ensure_programs()?;
        let mut command = cargo(["test", "--workspace", "--exclude", "e2e", "--no-fail-fast"]);
        if long {
            command.env("LARDER_LONG", "1");
        }
        run_tests(command)
    })?);
    if !without_node {
        level("container images' binaries", 10, || {
            build_images().map(|()| Counts::default())
        })?;
        counts.add(level("tests of the node's own parts", 5, || {
            run_tests(cargo(["test", "--package", "e2e", "--lib", "--bins"]))
        })?);
        counts.add(level("clients and conformance", 6, || {
            run_tests(cargo(["test", "--package", "e2e", "--test", "clients"]))
        })?);
        counts.add(level("operator on a control plane", 8, || {
            run_tests(cargo(["test", "--package", "e2e", "--test", "operator"]))
        })?);
        counts.add(level("the chart", 2, || {
            run_tests(cargo(["test", "--package", "e2e", "--test", "chart"]))
        })?);
        counts.add(level("a release", 6, || {
            run_tests(cargo(["test", "--package", "e2e", "--test", "release"]))
        })?);
        counts.add(level("tests on a real node", 25, || {
            run_tests(cargo(["test", "--package", "e2e", "--test", "node"]))
        })?);
        counts.add(level(
            "tests from an empty cluster: Flux, the demo",
            10,
            || run_tests(cargo(["test", "--package", "e2e", "--test", "fresh"])),
        )?);
    }
    Ok(counts)
}

/// `cargo xtask test`.
pub(crate) fn run(without_node: bool, long: bool) -> Result<()> {
    let counts = run_levels(without_node, long)?;
    println!("{} passed, {} failed", counts.passed, counts.failed);
    ensure!(
        counts.is_good(),
        "tests failed: {} failed, {} runs ended badly",
        counts.failed,
        counts.broken_runs
    );
    Ok(())
}

/// `cargo xtask demo`.
pub(crate) fn demo(arguments: DemoArguments) -> Result<()> {
    let DemoArguments {
        keep,
        kubeconfig,
        operator_image,
        cache_server_image,
        upstream,
        image,
    } = arguments;
    let mut command = cargo(["run", "--quiet", "--package", "e2e", "--bin", "demo", "--"]);
    if keep {
        command.arg("--keep");
    }
    if let Some(file) = kubeconfig {
        // Its images come from a registry, and its person is not always where the workspace's root is.
        command.arg("--kubeconfig").arg(std::path::absolute(file)?);
    } else {
        println!("Building Larder (some minutes the first time)");
        build_images()?;
    }
    for (option, value) in [
        ("--operator-image", operator_image),
        ("--cache-server-image", cache_server_image),
        ("--upstream", upstream),
        ("--image", image),
    ] {
        if let Some(value) = value {
            command.args([option, &value]);
        }
    }
    command::run(command)
}

/// `cargo xtask bench`.
pub(crate) fn bench(write: bool, operator: bool) -> Result<()> {
    let (profile, program, binary) = if operator {
        (IMAGE_PROFILE, "operator", "operator-bench")
    } else {
        ("release", "cache-server", "bench")
    };
    let build = ["build", "--quiet", "--profile", profile];
    command::run(cargo(build.into_iter().chain([
        "--package",
        program,
        "--package",
        "bench",
    ])))?;
    let mut command = cargo(["run", "--quiet", "--profile", profile]);
    command.args(["--package", "bench", "--bin", binary, "--"]);
    if write {
        command
            .arg("--write")
            .arg(command::root().join("docs/benchmarks.md"));
    }
    command::run(command)
}

fn build_images() -> Result<()> {
    command::run(cargo([
        "build",
        "--quiet",
        "--profile",
        IMAGE_PROFILE,
        "--package",
        "cache-server",
        "--package",
        "operator",
    ]))
}

fn level(
    name: &str,
    budget_minutes: u64,
    action: impl FnOnce() -> Result<Counts>,
) -> Result<Counts> {
    println!("== {name} (budget {budget_minutes} min)");
    let start = Instant::now();
    let counts = action()?;
    let took = start.elapsed();
    let over = if took > Duration::from_secs(budget_minutes * 60) {
        ", over its budget"
    } else {
        ""
    };
    println!(
        "== {name}: {} passed, {} failed in {:.0} s{over}",
        counts.passed,
        counts.failed,
        took.as_secs_f64()
    );
    Ok(counts)
}
