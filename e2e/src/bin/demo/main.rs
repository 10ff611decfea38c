//! The main job, shown: on a node that the demo makes, or on a cluster that exists.
//!
//! `cargo xtask demo [--keep] [--kubeconfig FILE [--operator-image IMAGE] [--cache-server-image IMAGE] [--upstream URL]
//! [--image NAME:TAG]]`

mod arguments;
mod cluster;
mod node;
mod step;

use std::process::ExitCode;

use anyhow::Result;

use arguments::Arguments;

/// The namespace of the quick start, and its cache.
const NAMESPACE: &str = "larder-quickstart";

/// What is edited in the quick start's policy, and what it becomes.
const EDIT: (&str, &str) = (
    "action: Cache\n      freshness:\n        refreshAfter: 10m\n        serveStaleFor: 7d\n",
    "action: Refuse\n",
);

fn main() -> ExitCode {
    match try_main() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main() -> Result<ExitCode> {
    let Arguments { keep, cluster } = Arguments::parse(std::env::args().skip(1))?;
    match cluster {
        Some(options) => cluster::run(&options, keep).map(|()| ExitCode::SUCCESS),
        None => node::run(keep),
    }
}
