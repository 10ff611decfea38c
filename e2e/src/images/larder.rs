//! The images of Larder's own two programs: what they need of Debian, then the binary.

use std::collections::BTreeMap;
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
/// The machines that it is for are those that the binary is for. `revision`: the commit that the binary is built from, if that is known.
pub fn larder_image(
    name: &str,
    binary: &Path,
    platform: Platform,
    revision: Option<&str>,
) -> Result<Image> {
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
        labels: labels(name, revision),
        ..ImageConfig::default()
    };
    Image::new(platform, &config, &[system, program])
}

/// What image tools and registries show (<https://specs.opencontainers.org/image-spec/annotations/>).
fn labels(name: &str, revision: Option<&str>) -> BTreeMap<String, String> {
    [
        ("title", Some(name)),
        ("version", Some(env!("CARGO_PKG_VERSION"))),
        ("licenses", Some(env!("CARGO_PKG_LICENSE"))),
        ("revision", revision),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((format!("org.opencontainers.image.{key}"), value?.to_owned())))
    .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_what_it_is_and_from_which_commit_if_that_is_known() {
        let keys = |revision| {
            labels("larder-operator", revision)
                .into_keys()
                .collect::<Vec<_>>()
        };
        let key = |name| format!("org.opencontainers.image.{name}");
        assert_eq!(keys(None), ["licenses", "title", "version"].map(key));
        assert_eq!(
            keys(Some("0d5ae07")),
            ["licenses", "revision", "title", "version"].map(key)
        );
        assert!(
            labels("larder-operator", None)
                .values()
                .all(|value| !value.is_empty())
        );
    }
}
