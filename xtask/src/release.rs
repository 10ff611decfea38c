//! `cargo xtask release`: programs, images and bills of materials of one commit. The bytes depend on the commit, the compiler and
//! the Debian packages that the images take, not on the machine, the folder or the hour.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, cargo, output, root};
use crate::installed;
use crate::sbom;

/// A platform that images are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Architecture {
    /// 64-bit x86.
    Amd64,
    /// 64-bit ARM. Elsewhere it takes the compiler's target, and Debian's package gcc-aarch64-linux-gnu.
    Arm64,
}

impl Architecture {
    /// As image indexes and Debian name it.
    fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The linker, for cargo's setting of this target.
    fn linker(self) -> (&'static str, &'static str) {
        match self {
            Self::Amd64 => (
                "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
                "x86_64-linux-gnu-gcc",
            ),
            Self::Arm64 => (
                "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER",
                "aarch64-linux-gnu-gcc",
            ),
        }
    }
}

/// Makes everything in `folder`.
pub(crate) fn run(folder: &Path, architectures: &[Architecture], profile: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let auditable = installed::AUDITABLE.ensure()?;
    for architecture in architectures {
        println!("building for {}", architecture.name());
        let built = build(*architecture, profile, &auditable)?;
        for program in sbom::PROGRAMS {
            let from = built.join(program.binary);
            let to = folder.join(format!("{}-{}", program.name, architecture.name()));
            ensure_auditable(&from)?;
            fs::copy(&from, &to).with_context(|| {
                format!("failed to copy {} to {}", from.display(), to.display())
            })?;
        }
    }
    sbom::write_to(folder)?;
    let mut make = cargo([
        "run",
        "--quiet",
        "--package",
        "e2e",
        "--bin",
        "images",
        "--",
    ]);
    make.arg(folder).arg(git(["rev-parse", "HEAD"])?);
    make.args(architectures.iter().map(|architecture| architecture.name()));
    command::run(make)?;
    sums(folder)
}

/// Returns the folder with the programs.
fn build(architecture: Architecture, profile: &str, auditable: &Path) -> Result<PathBuf> {
    let target = architecture.target();
    let mut build = std::process::Command::new(auditable);
    build.args(["auditable", "build", "--locked", "--profile", profile]);
    build.args(["--package", "operator", "--package", "cache-server"]);
    build.args(["--target", target]);
    let (linker, program) = architecture.linker();
    build
        .current_dir(root())
        .env("RUSTFLAGS", remap())
        .env("SOURCE_DATE_EPOCH", git(["log", "-1", "--format=%ct"])?)
        .env(linker, program);
    command::run(build)?;
    let target_folder =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target_folder.join(target).join(profile))
}

/// Fails if the program does not have the section that cargo-auditable writes, as when something else has built it.
fn ensure_auditable(program: &Path) -> Result<()> {
    const SECTION: &[u8] = b".dep-v0\0";
    let bytes =
        fs::read(program).with_context(|| format!("failed to read {}", program.display()))?;
    ensure!(
        bytes.windows(SECTION.len()).any(|window| window == SECTION),
        "{} does not say what it was built from",
        program.display()
    );
    Ok(())
}

/// Where the sources are is no part of a program: panics name paths below `/larder` and `/cargo`.
fn remap() -> String {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    format!(
        "--remap-path-prefix={}=/larder --remap-path-prefix={}=/cargo",
        root().display(),
        home.display()
    )
}

/// What git says of the commit that is checked out.
fn git<const N: usize>(arguments: [&str; N]) -> Result<String> {
    let mut git = std::process::Command::new("git");
    git.args(arguments).current_dir(root());
    Ok(output(git)?.trim().to_owned())
}

/// Writes `SHA256SUMS` over all files, in the form that `sha256sum --check` reads.
fn sums(folder: &Path) -> Result<()> {
    let mut names = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    for entry in entries {
        let name = entry.context("failed to list the release")?.file_name();
        if name != "SHA256SUMS" {
            names.push(name);
        }
    }
    names.sort();
    ensure!(!names.is_empty(), "{} is empty", folder.display());
    let mut sum = std::process::Command::new("sha256sum");
    sum.args(names).current_dir(folder);
    let path = folder.join("SHA256SUMS");
    fs::write(&path, output(sum)?).with_context(|| format!("failed to write {}", path.display()))
}
