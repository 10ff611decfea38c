//! Larder's own two programs, built from this workspace for their images.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::images::{CACHE_SERVER, OPERATOR, Platform, larder_image};
use crate::{Node, Progress, command};

/// Optimised, and built faster than a release.
const PROFILE: &str = "image";

/// How the operator is built when it runs as a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// As `cargo test` builds: soon there.
    Quick,
    /// As for the container image.
    Optimised,
}

impl Build {
    const fn profile(self) -> &'static str {
        match self {
            Self::Quick => "dev",
            Self::Optimised => PROFILE,
        }
    }

    const fn directory(self) -> &'static str {
        match self {
            Self::Quick => "debug",
            Self::Optimised => PROFILE,
        }
    }
}

/// Builds the operator alone, if it is not up to date. May need the network.
pub fn build_operator(how: Build, progress: Progress<'_>) -> Result<()> {
    progress("building the operator");
    let mut build = cargo();
    build.args(["build", "--quiet", "--locked", "--profile", how.profile()]);
    command::output(build.args(["--package", "operator"])).map(drop)
}

/// Finds what [`build_operator`] has made, without building.
pub fn built_operator(how: Build) -> Result<PathBuf> {
    find_built(how.directory(), "larder-operator")
}

/// Where the two binaries are.
#[derive(Debug, Clone)]
pub struct Programs {
    pub cache_server: PathBuf,
    pub operator: PathBuf,
}

impl Programs {
    /// Builds what is not up to date. May need the network, so the outer process should have called it before the inner one.
    pub fn build(progress: Progress<'_>) -> Result<Self> {
        progress("building the operator and the cache server");
        let mut build = cargo();
        build.args(["build", "--locked", "--profile", PROFILE]);
        build.args(["--package", "operator", "--package", "cache-server"]);
        build.args(["--message-format", "json-render-diagnostics"]);
        let messages = command::output(&mut build)?;
        Ok(Self {
            cache_server: executable(&messages, "cache-server/src/main.rs")?,
            operator: executable(&messages, "operator/src/main.rs")?,
        })
    }

    /// Finds what [`Self::build`] has made, without building: for the inner process, whose network has no way out, and
    /// which should run what the outer one saw even if a source has changed since.
    pub fn built() -> Result<Self> {
        Ok(Self {
            cache_server: find_built(PROFILE, "cache-server")?,
            operator: find_built(PROFILE, "larder-operator")?,
        })
    }

    /// Imports both images into the node, under [`CACHE_SERVER`] and [`OPERATOR`].
    pub fn import_into(&self, node: &Node) -> Result<()> {
        let server = larder_image(
            "larder-cache-server",
            &self.cache_server,
            Platform::AMD64,
            None,
        )?;
        node.import(&server.into(), CACHE_SERVER)?;
        let operator = larder_image("larder-operator", &self.operator, Platform::AMD64, None)?;
        node.import(&operator.into(), OPERATOR)
    }
}

fn find_built(directory: &str, name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("failed to find this program")?;
    this.ancestors()
        .map(|ancestor| ancestor.join(directory).join(name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "failed to find {name} in a directory {directory} near {}",
                this.display()
            )
        })
}

/// Finds a binary by its source file in what cargo says of each artifact: names may change, and the target directory may be
/// anywhere.
fn executable(messages: &str, source: &str) -> Result<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|message| {
            let path = message["target"]["src_path"].as_str();
            path.is_some_and(|path| path.ends_with(source))
        })
        .and_then(|message| message["executable"].as_str().map(PathBuf::from))
        .with_context(|| format!("cargo made no program of {source}"))
}

fn cargo() -> Command {
    // The cargo that runs this test, if one does.
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    // What cargo tells a program of its own package; build scripts of dependencies watch it, and half of the tree would be built anew.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::executable;

    #[test]
    fn a_program_is_found_by_its_source() {
        let messages = "{\"reason\":\"build-script-executed\"}\n\
            {\"target\":{\"src_path\":\"/w/operator/src/lib.rs\"},\"executable\":null}\n\
            {\"target\":{\"src_path\":\"/w/operator/src/main.rs\"},\"executable\":\"/t/larder-operator\"}\n";
        let found = executable(messages, "operator/src/main.rs").unwrap();
        assert_eq!(found, Path::new("/t/larder-operator"));
        assert!(executable(messages, "cache-server/src/main.rs").is_err());
    }
}
