//! What a node could leave on the machine: looks for it, and removes what does not go away with the namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cgroups;
use super::state::State;
use crate::wait;

/// Processes need a moment to end, and the kernel takes mounts and cgroups apart after them.
const LIMIT: Duration = Duration::from_secs(20);

/// What was found, as a report calls it; empty when nothing is left.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Leftovers(BTreeSet<String>);

impl Leftovers {
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

/// Removes the state directory and the node's cgroups, and tells what is left of the node. `devices` are the network devices
/// that were there before it.
pub(super) fn remove(
    state: State,
    process_namespace: &str,
    devices: &BTreeSet<String>,
) -> Result<Leftovers> {
    let path = state.path().to_owned();
    let _ = wait::until_true("the last process of the node", LIMIT, || {
        processes_in(process_namespace).is_empty()
    });
    let directory = wait::until("the state directory to be free", LIMIT, || {
        fs::remove_dir_all(&path).with_context(|| format!("failed to remove {}", path.display()))
    });
    // Removed already, or not to be removed: in neither case is there more to do on drop.
    state.forget();
    let _ = wait::until_true("empty cgroups", LIMIT, || {
        cgroups::remove(&path);
        cgroups::of_node(&path).is_empty()
    });
    let mut left = BTreeSet::new();
    let processes = processes_in(process_namespace);
    left.extend(processes.iter().map(|process| format!("process {process}")));
    left.extend(
        mounts_below(&path)?
            .iter()
            .map(|mount| format!("mount {mount}")),
    );
    left.extend(
        network_devices()?
            .difference(devices)
            .map(|device| format!("network device {device}")),
    );
    left.extend(
        cgroups::of_node(&path)
            .iter()
            .map(|cgroup| format!("cgroup {}", cgroup.display())),
    );
    if let Err(error) = directory {
        left.insert(format!("directory {} ({error:#})", path.display()));
    }
    Ok(Leftovers(left))
}

pub(super) fn network_devices() -> Result<BTreeSet<String>> {
    let mut devices = BTreeSet::new();
    for device in fs::read_dir("/sys/class/net").context("failed to list the network devices")? {
        let device = device.context("failed to list the network devices")?;
        devices.insert(device.file_name().to_string_lossy().into_owned());
    }
    Ok(devices)
}

fn mounts_below(directory: &Path) -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("failed to read the mounts")?;
    let targets = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(targets
        .filter(|target| Path::new(target).starts_with(directory))
        .map(str::to_owned)
        .collect())
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
