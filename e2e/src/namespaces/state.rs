//! The directory that holds all that a node writes.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::cgroups;

/// The beginning of every state directory's name.
const PREFIX: &str = "larder-node-";

/// The file in a state directory that its outer process keeps locked for as long as it lives.
const OWNER: &str = "owner";

/// A state directory and the lock that says it is in use.
pub(super) struct State {
    directory: TempDir,
    _owner: File,
}

impl State {
    /// Makes a fresh one, and removes those whose outer process was killed before it could.
    pub(super) fn create() -> Result<Self> {
        remove_abandoned();
        let directory = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir()
            .context("failed to create the state directory")?;
        let owner = File::create(directory.path().join(OWNER))
            .context("failed to create the owner's file")?;
        owner.lock().context("failed to lock the owner's file")?;
        Ok(Self {
            directory,
            _owner: owner,
        })
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves the directory as it is from here on.
    pub(super) fn forget(self) {
        let _ = self.directory.keep();
    }
}

fn remove_abandoned() {
    for entry in fs::read_dir(std::env::temp_dir())
        .into_iter()
        .flatten()
        .flatten()
    {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // Without the file, its owner is just about to make it.
        if let Some(owner) = ours
            .then(|| File::open(entry.path().join(OWNER)).ok())
            .flatten()
            && owner.try_lock().is_ok()
        {
            cgroups::remove(&entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
