//! Debian packages: installing those that the node needs, downloading those that images are made of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::cache::cache_directory;
use crate::images::Platform;
use crate::{Progress, command};

/// What the node takes from Debian.
pub const NODE: &[&str] = &[
    "busybox-static",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "runc",
];

/// Clients of registries that are installed.
pub const CLIENTS: &[&str] = &["podman", "skopeo"];

/// Clients of registries that are unpacked and not installed: they are services. The libraries that they need come with
/// [`CLIENTS`].
pub const UNPACKED_CLIENTS: &[&str] = &["containerd", "docker.io"];

/// The package of Prometheus and promtool, which is unpacked and not installed: installing it would start a service.
pub const PROMETHEUS: &str = "prometheus";

/// Installs those of `packages` that are missing.
pub fn ensure(packages: &[&str], progress: Progress<'_>) -> Result<()> {
    if !Path::new("/etc/debian_version").exists() {
        bail!(
            "the node is made of Debian packages ({}): this is not Debian",
            packages.join(", ")
        );
    }
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !is_installed(package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "missing Debian packages, and only root may install them: {}",
            missing.join(" ")
        );
    }
    progress(&format!("installing {} from Debian", missing.join(", ")));
    with_fresh_lists(Platform::AMD64, || {
        command::output(
            apt_get()
                .args(["install", "-y", "--no-install-recommends"])
                .args(&missing)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    })?;
    Ok(())
}

/// The package's file in the cache, downloaded if it is not there. Needs no network if it is.
pub fn file(package: &str) -> Result<PathBuf> {
    file_for(package, Platform::AMD64)
}

/// As [`file()`], for machines of another kind. Their lists are kept in the cache, so that those of this machine stay as they are.
pub fn file_for(package: &str, platform: Platform) -> Result<PathBuf> {
    let apt_get = || apt_get_for(platform);
    let line = with_fresh_lists(platform, || {
        command::output(
            apt_get()?
                .args(["download", "--print-uris", package])
                .current_dir("/"),
        )
    })?;
    // 'address' name size hash
    let name = line
        .split_whitespace()
        .nth(1)
        .with_context(|| format!("apt-get knows no file of {package}"))?;
    let directory = cache_directory()?.join("packages");
    let path = directory.join(name);
    if path.is_file() {
        return Ok(path);
    }
    fs::create_dir_all(&directory)
        .with_context(|| format!("failed to create {}", directory.display()))?;
    let temporary =
        tempfile::tempdir_in(&directory).context("failed to create a directory to download to")?;
    with_fresh_lists(platform, || {
        command::output(
            apt_get()?
                .args(["download", package])
                .current_dir(temporary.path()),
        )
    })?;
    fs::rename(temporary.path().join(name), &path)
        .with_context(|| format!("{package} was not downloaded as {name}"))?;
    Ok(path)
}

/// Unpacks the package's files, without running any of its scripts.
pub fn unpack(package: &str, directory: &Path) -> Result<()> {
    unpack_for(package, Platform::AMD64, directory)
}

/// As [`unpack`], for machines of another kind.
pub fn unpack_for(package: &str, platform: Platform, directory: &Path) -> Result<()> {
    let file = file_for(package, platform)?;
    command::output(Command::new("dpkg-deb").arg("-x").arg(file).arg(directory))?;
    Ok(())
}

fn is_installed(package: &str) -> bool {
    command::output(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status}", package]))
        .is_ok_and(|status| status == "installed")
}

/// Repeats what failed after one `apt-get update`: without lists nothing is found, and old lists name files that are gone.
fn with_fresh_lists(platform: Platform, attempt: impl Fn() -> Result<String>) -> Result<String> {
    attempt().or_else(|first| {
        command::output(apt_get_for(platform)?.arg("update")).context(first)?;
        attempt()
    })
}

fn apt_get() -> Command {
    let mut apt_get = Command::new("apt-get");
    // As root rather than as its own user, who may not write to the cache directory.
    apt_get.args(["-q", "-o", "APT::Sandbox::User=root"]);
    apt_get
}

/// apt-get with the packages of the platform: this machine's are those of amd64.
fn apt_get_for(platform: Platform) -> Result<Command> {
    let mut apt_get = apt_get();
    if platform == Platform::AMD64 {
        return Ok(apt_get);
    }
    let architecture = platform.architecture;
    let state = cache_directory()?.join(format!("apt-{architecture}"));
    for part in ["lists/partial", "archives/partial"] {
        let path = state.join(part);
        fs::create_dir_all(&path)
            .with_context(|| format!("failed to create {}", path.display()))?;
    }
    for setting in [
        format!("APT::Architecture={architecture}"),
        format!("APT::Architectures::={architecture}"),
        format!("Dir::State::lists={}", state.join("lists").display()),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::Cache={}", state.display()),
    ] {
        apt_get.args(["-o", &setting]);
    }
    Ok(apt_get)
}
