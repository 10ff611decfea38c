//! `cargo xtask`: everything that is automated, in Rust, with cargo alone.

mod check;
mod command;
mod generate;
mod levels;
mod packages;
mod report;

use anyhow::Result;
use clap::Parser;

/// The project's automation.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Arguments {
    /// Writes the files that are generated from the code: custom resource definitions.
    Generate {
        /// Changes nothing; fails when a file is not current.
        #[arg(long)]
        check: bool,
    },
    /// Checks format, lints, documentation, generated files, licences and the import rule.
    Check,
    /// Runs every test: checks, unit and server tests, then a real Kubernetes node.
    Test {
        /// Leaves out the tests on a real node, which need root.
        #[arg(long)]
        without_node: bool,
        /// Kills the server a thousand times, and cuts the power two hundred times: some ten minutes more.
        #[arg(long)]
        long: bool,
    },
    /// Shows Larder at work on a real Kubernetes node, which it sets up and takes down again.
    Demo {
        /// Leaves the node running, and says how to look around.
        #[arg(long)]
        keep: bool,
    },
    /// Measures Larder next to distribution and nginx, on loopback.
    Bench {
        /// Writes the result to docs/benchmarks.md.
        #[arg(long)]
        write: bool,
        /// Measures the operator with a thousand caches instead; needs root.
        #[arg(long)]
        operator: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Generate { check } => generate::run(check),
        Arguments::Check => check::run(),
        Arguments::Test { without_node, long } => levels::run(without_node, long),
        Arguments::Demo { keep } => levels::demo(keep),
        Arguments::Bench { write, operator } => levels::bench(write, operator),
    }
}
