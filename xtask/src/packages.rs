//! What the tests of the server need of the machine: disks of their own, and system calls that fail.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;

/// A program, and the Debian package that has it.
const NEEDED: [(&str, &str); 4] = [
    ("mkfs.ext4", "e2fsprogs"),
    ("mount", "mount"),
    ("perl", "perl-base"),
    ("strace", "strace"),
];

/// Installs what is missing.
pub(crate) fn ensure_programs() -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let missing: Vec<&str> = NEEDED
        .into_iter()
        .filter(|(program, _)| !is_there(program, &path))
        .map(|(_, package)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    ensure!(
        Path::new("/etc/debian_version").exists(),
        "the tests need the programs of the Debian packages {}: install them",
        missing.join(", ")
    );
    println!("installing {} from Debian", missing.join(", "));
    let apt_get = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command::run(command)
    };
    apt_get(&["-q", "update"])?;
    apt_get(
        &[
            &["-q", "install", "-y", "--no-install-recommends"],
            &missing[..],
        ]
        .concat(),
    )
}

/// Looks where root finds programs, whatever the path says.
fn is_there(program: &str, path: &str) -> bool {
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .any(|directory| Path::new(directory).join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::is_there;

    #[test]
    fn programs_are_found_on_the_path_and_where_root_has_them() {
        assert!(is_there("sh", "/bin:/nowhere"));
        assert!(!is_there("no-such-program", "/bin"));
    }
}
