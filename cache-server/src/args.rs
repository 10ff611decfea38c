//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Pull-through cache for OCI registries.
#[derive(Debug, Parser)]
#[command(name = "cache-server", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: Run,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve. The default.
    Run(Run),
    /// Read a configuration, say what is wrong with it, and end.
    Check {
        /// As for `--config`.
        path: PathBuf,
    },
    /// Compare all content of a store with its digests. Ends with 1 if some is wrong and was not repaired. A server may be running on it.
    Fsck {
        /// The store's directory.
        store: PathBuf,
        /// Move what is wrong to `quarantine/` in the store, so that it is fetched anew.
        #[arg(long)]
        repair: bool,
    },
}

#[derive(Debug, Args)]
pub struct Run {
    /// A directory with `static.yaml` and `policy.yaml`, or one file with `server:` and `policy:`.
    #[arg(long, env = "LARDER_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
}
