//! Mounts that keep what the node's programs write away from the machine.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// Kernel settings that kubelet would change for the whole machine. It finds them already as it wants them in files that cover
/// the real ones.
const SETTINGS: &[(&str, &str)] = &[
    ("/proc/sys/kernel/keys/root_maxbytes", "25000000"),
    ("/proc/sys/kernel/keys/root_maxkeys", "1000000"),
    ("/proc/sys/kernel/panic", "10"),
    ("/proc/sys/kernel/panic_on_oops", "1"),
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/panic_on_oom", "0"),
];

/// Called once, by the first process of the namespaces.
pub(super) fn arrange(state: &Path) -> Result<()> {
    // Sockets of the shims, network namespaces, locks.
    mount(&["-t", "tmpfs", "tmpfs", "/run"])?;
    let layers = state.join("layers");
    create(&layers)?;
    mount(&["-t", "tmpfs", "tmpfs", &layers.to_string_lossy()])?;
    // Pod logs and the network plugins' notes.
    for directory in ["/var/lib", "/var/log"] {
        cover(Path::new(directory), &layers)?;
    }
    let settings = state.join("settings");
    create(&settings)?;
    for (path, value) in SETTINGS.iter().filter(|(path, _)| Path::new(path).exists()) {
        let file = settings.join(path.replace('/', "_"));
        fs::write(&file, format!("{value}\n"))
            .with_context(|| format!("failed to write {}", file.display()))?;
        mount(&["--bind", &file.to_string_lossy(), path])?;
    }
    Ok(())
}

/// Puts a layer for writing over `directory`.
fn cover(directory: &Path, layers: &Path) -> Result<()> {
    let name = directory.to_string_lossy().replace('/', "_");
    let (upper, work) = (
        layers.join(format!("{name}.upper")),
        layers.join(format!("{name}.work")),
    );
    create(&upper)?;
    create(&work)?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        directory.display(),
        upper.display(),
        work.display()
    );
    mount(&[
        "-t",
        "overlay",
        "overlay",
        "-o",
        &options,
        &directory.to_string_lossy(),
    ])
}

fn create(directory: &Path) -> Result<()> {
    fs::create_dir(directory).with_context(|| format!("failed to create {}", directory.display()))
}

fn mount(arguments: &[&str]) -> Result<()> {
    // Without the notes that mount would take in the machine's /run.
    command::output(Command::new("mount").arg("--no-mtab").args(arguments))?;
    Ok(())
}
