//! The images that the upstream registry and the node start with.

use std::fs;

use anyhow::{Context, Result};

use super::larder;
use super::{Artifact, Image, ImageConfig, Index, Layer, LayerBuilder, Platform};
use crate::tools::packages;
use crate::{Progress, Upstream};

/// The name under which the node knows the pause image.
pub const PAUSE: &str = "localhost/pause:1";

/// Where busybox-static puts its program.
const BUSYBOX: &str = "/bin/busybox";
const APPLETS: &[&str] = &[
    "cat",
    "cp",
    "echo",
    "env",
    "grep",
    "head",
    "httpd",
    "id",
    "ip",
    "ls",
    "mkdir",
    "nc",
    "nslookup",
    "ps",
    "rm",
    "sh",
    "sha256sum",
    "sleep",
    "test",
    "touch",
    "true",
    "wget",
];

/// Packages whose files fill the layers, several megabytes each: pulls that take long enough to be interrupted.
const FILLING: &[&str] = &[
    "fonts-dejavu-core",
    "iso-codes",
    "tzdata",
    "unicode-data",
    "vim-runtime",
];

/// Sleeps until it is told to end: a bare `sleep` that is the first process of its container hears no SIGTERM.
const SLEEP: &str = "trap 'exit 0' TERM; sleep 2147483647 & wait";

/// Fetches the packages that images are made of, while there still is a network.
pub fn download_packages(progress: Progress<'_>) -> Result<()> {
    progress("looking for the Debian packages that images are made of");
    for package in FILLING
        .iter()
        .chain(larder::PACKAGES)
        .chain(&[packages::PROMETHEUS])
    {
        packages::file(package).with_context(|| format!("failed to download {package}"))?;
    }
    Ok(())
}

/// The images by the names that cases use.
#[derive(Debug, Clone)]
pub struct Seeds {
    /// Sleeps forever; imported into the node as [`PAUSE`].
    pub pause: Artifact,
    /// Shell tools; `library/busybox:1`.
    pub busybox: Artifact,
    /// Four layers; `library/hello:1.0`.
    pub hello_1: Artifact,
    /// Shares all layers but the last with [`Self::hello_1`]; `library/hello:2.0`.
    pub hello_2: Artifact,
    /// An index of amd64 and arm64 that share no layer; `library/multi:1`.
    pub multi: Artifact,
}

impl Seeds {
    pub fn build() -> Result<Self> {
        // Not the others' base: the pause image is never removed, and what it shares would never be fetched again.
        let pause = base_layer(&["sleep"])?;
        let base = base_layer(APPLETS)?;
        let languages = LayerBuilder::new().package("iso-codes")?.build()?;
        let fonts = LayerBuilder::new().package("fonts-dejavu-core")?.build()?;
        let characters = LayerBuilder::new().package("unicode-data")?.build()?;
        let editor = LayerBuilder::new().package("vim-runtime")?.build()?;
        let zones = LayerBuilder::new().package("tzdata")?.build()?;
        let shared = [base.clone(), languages, fonts];
        Ok(Self {
            pause: image(Platform::AMD64, &["/bin/sleep", "2147483647"], &[pause])?.into(),
            busybox: image(Platform::AMD64, &["/bin/sh"], std::slice::from_ref(&base))?.into(),
            hello_1: hello("1.0", &shared, characters)?.into(),
            hello_2: hello("2.0", &shared, editor)?.into(),
            multi: Index::new(vec![
                image(Platform::AMD64, &["/bin/sh", "-c", SLEEP], &[base])?,
                image(Platform::ARM64, &["/bin/true"], &[zones])?,
            ])?
            .into(),
        })
    }

    /// Repository, tag and artifact of each image that belongs into an upstream registry.
    pub fn tagged(&self) -> [(&'static str, &'static str, &Artifact); 4] {
        [
            ("library/busybox", "1", &self.busybox),
            ("library/hello", "1.0", &self.hello_1),
            ("library/hello", "2.0", &self.hello_2),
            ("library/multi", "1", &self.multi),
        ]
    }

    /// Uploads all of [`Self::tagged`].
    pub fn push_to(&self, upstream: &Upstream) -> Result<()> {
        for (repository, tag, artifact) in self.tagged() {
            upstream.push(repository, tag, artifact)?;
        }
        Ok(())
    }
}

/// An image with one layer of `size` bytes that can't be compressed.
pub fn large_image(size: usize) -> Result<Image> {
    let mut state = 1u64;
    let bytes: Vec<u8> = std::iter::repeat_with(|| {
        // xorshift64: the same bytes at each build.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(size / 8)
    .flatten()
    .collect();
    let layer = LayerBuilder::new().file("large", 0o644, bytes).build()?;
    image(Platform::AMD64, &["/large"], &[layer])
}

fn hello(version: &str, shared: &[Layer], last: Layer) -> Result<Image> {
    let command = format!("echo hello from {version}; {SLEEP}");
    let mut layers = shared.to_vec();
    layers.push(last);
    image(Platform::AMD64, &["/bin/sh", "-c", &command], &layers)
}

fn image(platform: Platform, command: &[&str], layers: &[Layer]) -> Result<Image> {
    let config = ImageConfig {
        cmd: command.iter().map(ToString::to_string).collect(),
        env: vec!["PATH=/bin".to_owned()],
        ..ImageConfig::default()
    };
    Image::new(platform, &config, layers)
}

fn base_layer(applets: &[&str]) -> Result<Layer> {
    let program = fs::read(BUSYBOX)
        .with_context(|| format!("failed to read {BUSYBOX} (package busybox-static)"))?;
    let mut layer = LayerBuilder::new()
        .directory("bin", 0o755)
        .directory("etc", 0o755)
        .directory("tmp", 0o1777)
        .file("bin/busybox", 0o755, program)
        .file(
            "etc/passwd",
            0o644,
            "root:x:0:0:root:/:/bin/sh\nnonroot:x:65532:65532:nonroot:/:/bin/sh\n",
        )
        .file("etc/group", 0o644, "root:x:0:\nnonroot:x:65532:\n");
    for applet in applets {
        layer = layer.link(&format!("bin/{applet}"), "busybox");
    }
    layer.build()
}
