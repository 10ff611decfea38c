//! The Rust files of the workspace, and what of them is not a test.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::command::root;

/// A file below the workspace's root.
pub(super) struct RustFile {
    /// With forward slashes, from the root.
    pub(super) path: String,
    pub(super) text: String,
}

impl RustFile {
    /// The lines before the trailing test module, with their numbers from 1.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    pub(super) fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }
}

/// All of the five crates.
pub(super) fn all() -> Result<Vec<RustFile>> {
    let mut files = Vec::new();
    for crate_folder in ["crds", "cache-server", "operator", "e2e", "xtask"] {
        collect(&root().join(crate_folder), &mut files)?;
    }
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<RustFile>) -> Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("failed to list {}", folder.display()))?
            .path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            let relative = path.strip_prefix(root()).unwrap_or(&path);
            files.push(RustFile {
                path: relative.to_string_lossy().replace('\\', "/"),
                text,
            });
        }
    }
    Ok(())
}
