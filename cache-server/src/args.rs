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
    /// List the images in a running server's store, one JSON object a line.
    Ls {
        #[command(flatten)]
        remote: Remote,
        /// Only repositories that begin with it: `docker.io/library`.
        #[arg(long, default_value = "")]
        prefix: String,
    },
    /// Have a running server fetch images before they are asked for. Ends with 1 if something of them could not be fetched.
    Warm {
        #[command(flatten)]
        remote: Remote,
        /// `docker.io/library/alpine:3.20`, or with `@` and a digest.
        images: Vec<String>,
        /// File with more images, one a line; platforms may stand behind each.
        #[arg(long, value_name = "LIST")]
        file: Option<PathBuf>,
        /// Only for it, of images for several: `linux/amd64`. May be repeated; without it, for all.
        #[arg(long = "platform", value_name = "PLATFORM")]
        platforms: Vec<String>,
    },
    /// Take an image out of a running server's store, with what no other image needs.
    Purge {
        #[command(flatten)]
        remote: Remote,
        /// `docker.io/library/alpine:3.20`, or with `@` and a digest, which removes that content in any case.
        image: String,
    },
}

/// A running server's admin port.
#[derive(Debug, Args)]
pub struct Remote {
    /// The admin port: `http://127.0.0.1:5001`.
    #[arg(long, value_name = "URL")]
    pub server: String,
    /// File with the token of the server's `adminTokenFile`.
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
}

#[derive(Debug, Args)]
pub struct Run {
    /// A directory with `static.yaml` and `policy.yaml`, or one file with `server:` and `policy:`.
    #[arg(long, env = "LARDER_CONFIG", value_name = "PATH")]
    pub config: Option<PathBuf>,
}
