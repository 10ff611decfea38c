//! Cargo's own subcommands that the checks and releases need: installed once, in a version that is written down.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::command::{self, cargo};

/// A crate that brings a program of the same name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subcommand {
    name: &'static str,
    version: &'static str,
}

/// Looks at licences, sources and bans.
pub(crate) const DENY: Subcommand = Subcommand {
    name: "cargo-deny",
    version: "0.20.2",
};

/// Writes into a program what it was built from.
pub(crate) const AUDITABLE: Subcommand = Subcommand {
    name: "cargo-auditable",
    version: "0.7.7",
};

impl Subcommand {
    /// The path of the program, which is installed if it is missing.
    pub(crate) fn ensure(self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let folder = tools()?.join(format!("{name}-{version}"));
        let program = folder.join("bin").join(name);
        if !program.exists() {
            println!("installing {name} {version} (once, some minutes)");
            let install = ["install", "--quiet", "--locked", name];
            let mut install = cargo(install.into_iter().chain(["--version", version, "--root"]));
            install
                .arg(&folder)
                .env("CARGO_PROFILE_RELEASE_LTO", "off")
                .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
            command::run(install)?;
        }
        Ok(program)
    }
}

fn tools() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("larder/tools"))
}
