//! The images of Larder's own two programs: what they need of Debian, then the binary.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Image, ImageConfig, LayerBuilder, Platform};
use crate::tools::packages;

/// The name under which the node knows the cache server's image.
pub const CACHE_SERVER: &str = "localhost/larder-cache-server:test";
/// The name under which the node knows the operator's image.
pub const OPERATOR: &str = "localhost/larder-operator:test";

/// What glibc is told in the images: threads share two arenas. With one for each, what the threads of past fills had asked for
/// stays with them, and a server that has fetched much is larger by a few MiB for ever.
pub const ARENAS: (&str, &str) = ("MALLOC_ARENA_MAX", "2");

pub(super) const PACKAGES: &[&str] = &["ca-certificates", "libc6", "libgcc-s1"];

/// The image of the program at `binary`, which becomes `/usr/bin/NAME` and the entry point; it runs as user 65532.
/// The machines that it is for are those that the binary is for.
pub fn larder_image(name: &str, binary: &Path, platform: Platform) -> Result<Image> {
    let program =
        fs::read(binary).with_context(|| format!("failed to read {}", binary.display()))?;
    let path = format!("usr/bin/{name}");
    let system = LayerBuilder::new()
        .package_for("libc6", platform)?
        .package_for("libgcc-s1", platform)?
        .directory("tmp", 0o1777)
        .directory("etc", 0o755)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/:/\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n")
        .file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates()?)
        .build()?;
    let program = LayerBuilder::new().file(&path, 0o755, program).build()?;
    let config = ImageConfig {
        entrypoint: vec![format!("/{path}")],
        env: vec![
            "PATH=/usr/bin".to_owned(),
            format!("{}={}", ARENAS.0, ARENAS.1),
        ],
        user: "65532:65532".to_owned(),
        ..ImageConfig::default()
    };
    Image::new(platform, &config, &[system, program])
}

/// The bundle that the package's script would make of its certificates.
fn certificates() -> Result<Vec<u8>> {
    let directory = tempfile::tempdir().context("failed to create a directory to unpack in")?;
    packages::unpack("ca-certificates", directory.path())?;
    let certificates = directory.path().join("usr/share/ca-certificates/mozilla");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&certificates)
        .context("ca-certificates has no certificates where they were")?
    {
        paths.push(entry.context("failed to list the certificates")?.path());
    }
    paths.sort();
    let mut bundle = Vec::new();
    for path in paths {
        bundle
            .extend(fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?);
    }
    Ok(bundle)
}
