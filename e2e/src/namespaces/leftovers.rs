//! What a node could leave on the machine: looks for it, and removes what does not go away with the namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::wait;

/// cgroup directories that kubelet and containerd make at the top of a hierarchy.
const CGROUPS: [&str; 2] = ["kubepods", "k8s.io"];

/// Processes need a moment to end, and the kernel takes mounts and cgroups apart after them.
const LIMIT: Duration = Duration::from_secs(20);

/// Things of the machine by what they are called in a report; empty when nothing is left.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
    /// The network devices, mounts and node cgroups of the machine as it is.
    pub(super) fn now() -> Result<Self> {
        let mut found = BTreeSet::new();
        for device in
            fs::read_dir("/sys/class/net").context("failed to list the network devices")?
        {
            let device = device
                .context("failed to list the network devices")?
                .file_name();
            found.insert(format!("network device {}", device.to_string_lossy()));
        }
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").context("failed to read the mounts")?;
        found.extend(
            mounts
                .lines()
                .filter_map(|line| line.split(' ').nth(4))
                .map(|path| format!("mount {path}")),
        );
        found.extend(
            cgroups()
                .iter()
                .map(|path| format!("cgroup {}", path.display())),
        );
        Ok(Self(found))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Display for Leftovers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let things: Vec<&str> = self.0.iter().map(String::as_str).collect();
        formatter.write_str(&things.join(", "))
    }
}

/// Removes the state directory and empty cgroups, and tells what is there that was not there before.
pub(super) fn remove(
    state: TempDir,
    process_namespace: &str,
    before: &Leftovers,
) -> Result<Leftovers> {
    let path = state.path().to_owned();
    let _ = wait::until_true("the last process of the node", LIMIT, || {
        processes_in(process_namespace).is_empty()
    });
    let closed = wait::until("the state directory to be free", LIMIT, || {
        fs::remove_dir_all(&path).with_context(|| format!("failed to remove {}", path.display()))
    });
    // Removed already, or not to be removed: in neither case is there more to do on drop.
    let _ = state.keep();
    let _ = wait::until_true("empty cgroups", LIMIT, || {
        for cgroup in cgroups() {
            remove_cgroup(&cgroup);
        }
        cgroups().is_empty()
    });
    let mut left: BTreeSet<String> = Leftovers::now()?.0.difference(&before.0).cloned().collect();
    left.extend(
        processes_in(process_namespace)
            .into_iter()
            .map(|process| format!("process {process}")),
    );
    if let Err(error) = closed {
        left.insert(format!("directory {} ({error:#})", path.display()));
    }
    Ok(Leftovers(left))
}

fn processes_in(namespace: &str) -> Vec<String> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .flatten()
        .filter(|process| {
            fs::read_link(process.path().join("ns/pid"))
                .is_ok_and(|link| link.as_os_str() == namespace)
        })
        .map(|process| process.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The node's directories in each hierarchy of version 1 and in the one of version 2.
fn cgroups() -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    std::iter::once(root.to_owned())
        .chain(hierarchies)
        .flat_map(|hierarchy| CGROUPS.map(|name| hierarchy.join(name)))
        .filter(|path| path.is_dir())
        .collect()
}

/// Children first; a directory that still has a process in it stays.
fn remove_cgroup(directory: &Path) {
    for child in fs::read_dir(directory).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    let _ = fs::remove_dir(directory);
}
