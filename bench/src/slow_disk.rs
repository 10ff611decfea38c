//! A filesystem of its own whose disk reads slowly, as those of clouds do.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where the kernel is told how fast a device may be read by who is in no group.
const LIMITS: &str = "/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device";

/// ext4 in a file, mounted until this is dropped. Nobody may have anything open there then.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    place: PathBuf,
    device: String,
}

impl SlowDisk {
    /// Mounts one of so many MiB at `place`, of which the file lies beside it. `None`: this machine slows nothing down.
    pub(crate) fn mount(
        place: &Path,
        mebibytes: u64,
        bytes_per_second: u64,
    ) -> Result<Option<Self>> {
        if !Path::new(LIMITS).exists() {
            return Ok(None);
        }
        fs::create_dir_all(place).context("failed to create a directory")?;
        let image = place.with_extension("image");
        File::create(&image)
            .and_then(|file| file.set_len(mebibytes << 20))
            .context("failed to create a file for a disk")?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-m", "0"])
            .arg(&image))?;
        run(Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(place))?;
        let device = fs::metadata(place)
            .context("failed to look at a disk")?
            .dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let disk = Self {
            place: place.to_owned(),
            device: format!("{major}:{minor}"),
        };
        disk.limit(bytes_per_second)?;
        Ok(Some(disk))
    }

    /// 0: no limit.
    fn limit(&self, bytes_per_second: u64) -> Result<()> {
        fs::write(LIMITS, format!("{} {bytes_per_second}", self.device))
            .context("failed to slow a disk down")
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let unlimited = self.limit(0);
        let unmounted = run(Command::new("umount").arg(&self.place));
        if let Err(error) = unlimited.and(unmounted) {
            eprintln!("bench: {error:#}");
        }
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("failed to run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "failed to run {command:?}: {said}");
    Ok(())
}
