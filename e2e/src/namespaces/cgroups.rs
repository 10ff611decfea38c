//! The node's own directory in the machine's cgroup hierarchies, which no namespace hides.
//!
//! Each node has one, because a kubelet ends every process below its root that belongs to no pod it knows.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// The name of the directory of the node whose state is in `state`.
pub(crate) fn name(state: &Path) -> Result<String> {
    let name = state
        .file_name()
        .context("the state directory has no name")?;
    Ok(name.to_string_lossy().into_owned())
}

/// Makes the directory in every hierarchy; kubelet wants to find it there.
pub(super) fn create(state: &Path) -> Result<()> {
    let name = name(state)?;
    for hierarchy in hierarchies() {
        let directory = hierarchy.join(&name);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(error)
                    .with_context(|| format!("failed to create {}", directory.display()));
            }
            _ => {}
        }
        // In version 1 these start out empty, and then nothing may run below.
        for set in ["cpuset.mems", "cpuset.cpus"] {
            let (from, to) = (hierarchy.join(set), directory.join(set));
            if from.is_file() {
                let value = fs::read(&from)
                    .with_context(|| format!("failed to read {}", from.display()))?;
                fs::write(&to, value)
                    .with_context(|| format!("failed to write {}", to.display()))?;
            }
        }
    }
    Ok(())
}

/// The directories of the node with this state that exist.
pub(super) fn of_node(state: &Path) -> Vec<PathBuf> {
    let Ok(name) = name(state) else {
        return Vec::new();
    };
    hierarchies()
        .iter()
        .map(|hierarchy| hierarchy.join(&name))
        .filter(|directory| directory.is_dir())
        .collect()
}

/// Removes the node's directories as far as no process is in them.
pub(super) fn remove(state: &Path) {
    for directory in of_node(state) {
        remove_tree(&directory);
    }
}

/// Children first; a directory that still has a process in it stays.
fn remove_tree(directory: &Path) {
    for child in fs::read_dir(directory).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&child.path());
        }
    }
    let _ = fs::remove_dir(directory);
}

/// The one of version 2, or those of version 1 that are mounted next to each other.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    if root.join("cgroup.procs").is_file() {
        return vec![root.to_owned()];
    }
    fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").is_file())
        .collect()
}
