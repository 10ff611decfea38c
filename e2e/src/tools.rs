//! What the node is made of: Go programs built once into a cache, and Debian packages.

mod build;
mod cache;
mod catalogue;
pub mod packages;

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result};

pub use cache::cache_directory;

use crate::Progress;

/// The programs of the node, all of them present.
#[derive(Debug, Clone)]
pub struct Tools {
    /// One for each Go module, with `bin` and perhaps `data` in it.
    directories: Vec<PathBuf>,
}

impl Tools {
    /// Installs the Debian packages and builds the Go programs that are missing. Needs the network only if something is.
    pub fn ensure(progress: Progress<'_>) -> Result<Self> {
        packages::ensure(packages::NODE, progress)?;
        Self::ensure_these(catalogue::NODE, progress)
    }

    /// Builds those of the Go programs that are missing, without any Debian packages.
    pub fn ensure_these(names: &[&str], progress: Progress<'_>) -> Result<Self> {
        let directory = |name: &&str| {
            let tool = catalogue::TOOLS.iter().find(|tool| tool.name == *name);
            let tool =
                tool.with_context(|| format!("failed to find {name} in the list of tools"))?;
            build::ensure(tool, progress).with_context(|| format!("failed to provide {name}"))
        };
        Ok(Self {
            directories: names.iter().map(directory).collect::<Result<_>>()?,
        })
    }

    /// The path of a program by its name, such as `kubectl`.
    pub fn path(&self, program: &str) -> Result<PathBuf> {
        self.directories
            .iter()
            .map(|directory| directory.join("bin").join(program))
            .find(|path| path.is_file())
            .with_context(|| format!("no tool provides the program {program}"))
    }

    /// The directory with what was kept of a Go module, by the name that the catalogue gives it.
    pub fn data(&self, name: &str) -> Result<PathBuf> {
        self.directories
            .iter()
            .map(|directory| directory.join("data").join(name))
            .find(|path| path.is_dir())
            .with_context(|| format!("no tool has kept {name}"))
    }

    /// A value for `PATH` by which a shell or a program finds all of them and those of Debian.
    pub fn search_path(&self) -> OsString {
        let mut path = OsString::new();
        for directory in &self.directories {
            path.push(directory.join("bin"));
            path.push(":");
        }
        path.push("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        path
    }
}
