//! `cargo xtask`: everything that is automated, in Rust, with cargo alone.

mod check;
mod command;
mod generate;
mod installed;
mod levels;
mod packages;
mod release;
mod report;
mod sbom;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// The project's automation.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Arguments {
    /// Writes the files that are generated from the code: custom resource definitions, their reference, the chart's table of values.
    Generate {
        /// Changes nothing; fails when a file is not current.
        #[arg(long)]
        check: bool,
    },
    /// Checks format, lints, documentation, generated files, licences and the import rule.
    Check {
        /// Asks the database of security advisories too, which is on the internet.
        #[arg(long)]
        advisories: bool,
    },
    /// Runs every test: checks, unit and server tests, then a real Kubernetes node.
    Test {
        /// Leaves out the tests on a real node, which need root.
        #[arg(long)]
        without_node: bool,
        /// Kills the server a thousand times, and cuts the power two hundred times: some ten minutes more.
        #[arg(long)]
        long: bool,
    },
    /// Shows Larder at work on a real Kubernetes node, which it sets up and takes down again, or on a cluster that exists.
    Demo(DemoArguments),
    /// Writes what each program is made of, as `CycloneDX` has it.
    Sbom {
        /// Where to.
        #[arg(long, default_value = "target/larder")]
        folder: PathBuf,
    },
    /// Makes what is published of a commit: programs, image archives, bills of materials and checksums.
    Release(ReleaseArguments),
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

/// What a release is made for.
#[derive(clap::Args)]
struct ReleaseArguments {
    /// Where to.
    #[arg(long, default_value = "target/larder")]
    folder: PathBuf,
    /// The machines, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "amd64,arm64")]
    architectures: Vec<release::Architecture>,
    /// The profile of the programs; `image` is built faster.
    #[arg(long, default_value = "release")]
    profile: String,
}

/// What the demo is to run on.
#[derive(clap::Args)]
struct DemoArguments {
    /// Leaves everything running, and says how to look around.
    #[arg(long)]
    keep: bool,
    /// Runs the quick start on the cluster of this file instead of on a node of its own. Nodes are left as they are.
    #[arg(long)]
    kubeconfig: Option<PathBuf>,
    /// `repository:tag` of the operator's image that the cluster can pull. Default: the chart's.
    #[arg(long, requires = "kubeconfig")]
    operator_image: Option<String>,
    /// `repository:tag` of the cache server's image that the cluster can pull. Default: the chart's.
    #[arg(long, requires = "kubeconfig")]
    cache_server_image: Option<String>,
    /// Where Docker Hub is reached from the cluster, such as `https://mirror.example`. Default: at its own address.
    #[arg(long, requires = "kubeconfig")]
    upstream: Option<String>,
    /// `name:tag` of the official image that is asked for. Default: `hello-world:latest`.
    #[arg(long, requires = "kubeconfig")]
    image: Option<String>,
}

fn main() -> Result<()> {
    match Arguments::parse() {
        Arguments::Generate { check } => generate::run(check),
        Arguments::Check { advisories } => check::run(advisories),
        Arguments::Test { without_node, long } => levels::run(without_node, long),
        Arguments::Demo(arguments) => levels::demo(arguments),
        Arguments::Sbom { folder } => sbom::write_to(&folder),
        Arguments::Release(arguments) => release::run(
            &std::path::absolute(arguments.folder)?,
            &arguments.architectures,
            &arguments.profile,
        ),
        Arguments::Bench { write, operator } => levels::bench(write, operator),
    }
}
