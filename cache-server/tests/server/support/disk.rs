//! A filesystem of its own under the store: one that runs full, is made read-only, or loses power. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// ext4 in a file, mounted until the test ends, whatever its end.
pub struct Disk {
    image: TempDir,
    place: PathBuf,
}

impl Disk {
    /// Makes a filesystem of so many MiB and mounts it at `place`.
    pub fn at(place: &Path, mebibytes: u64) -> Self {
        std::fs::create_dir_all(place).unwrap();
        let disk = Self {
            image: tempfile::tempdir().unwrap(),
            place: place.to_owned(),
        };
        let file = std::fs::File::create(disk.file()).unwrap();
        file.set_len(mebibytes << 20).unwrap();
        run("mkfs.ext4", &["-q", "-m", "0"], &[&disk.file()]);
        disk.mount();
        disk
    }

    fn file(&self) -> PathBuf {
        self.image.path().join("image")
    }

    fn mount(&self) {
        // Without the mount option that hides a missing sync before a rename.
        let options = ["-o", "loop,noauto_da_alloc"];
        run("mount", &options, &[&self.file(), &self.place]);
    }

    pub fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro"], &[&self.place]);
    }

    pub fn make_writable(&self) {
        run("mount", &["-o", "remount,rw"], &[&self.place]);
    }

    /// From now on nothing reaches the medium any more: `FS_IOC_SHUTDOWN` without a flush of the journal.
    pub fn cut_power(&self) {
        let shutdown = "open(my $place, '<', $ARGV[0]) or die $!; my $without_flush = pack('L', 2); ioctl($place, 0x8004587d, $without_flush) or die $!";
        run("perl", &["-e", shutdown], &[&self.place]);
    }

    /// What the machine finds when it is on again. Nobody may have a file open.
    pub fn restore_power(&self) {
        run("umount", &[], &[&self.place]);
        self.mount();
    }

    /// Takes all the room that is left. The file that does.
    pub fn fill_up(&self) -> PathBuf {
        let path = self.place.join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while std::io::Write::write_all(&mut file, &vec![1; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("--lazy")
            .arg(&self.place)
            .status();
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) {
    let mut command = Command::new(program);
    command.args(options).args(paths);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}
