//! podman and skopeo, which name the registry in the path (registries.conf), as CRI-O does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::cache_server::CacheServer;
use e2e::images::Artifact;
use e2e::{Registries, command};

use crate::proof;

const HELLO: &str = "docker.io/library/hello:1.0";

pub(crate) fn podman_pulls_through_a_mirror(registries: &mut Registries) -> Result<()> {
    let cache = registries.empty_cache()?;
    let podman = Podman::new(registries)?;
    podman.pull_hello(&registries.images.hello_1)?;
    let blobs = proof::blobs(&registries.images.hello_1);
    proof::came_through(registries, &cache, &blobs)?;

    registries.upstream.clear_requests()?;
    Podman::new(registries)?.pull_hello(&registries.images.hello_1)?;
    proof::came_from_the_store(registries, &cache, &blobs, 1)
}

pub(crate) fn podman_falls_back_to_the_upstream_while_the_cache_is_stopped(
    registries: &mut Registries,
) -> Result<()> {
    drop(registries.empty_cache()?);
    Podman::new(registries)?.pull_hello(&registries.images.hello_1)?;
    for (digest, _) in proof::blobs(&registries.images.hello_1) {
        let gets = registries.upstream.blob_gets(&digest)?;
        ensure!(gets == 1, "{digest} was fetched {gets} times");
    }
    let requests = registries.upstream.requests()?;
    let cache = requests.iter().find(|request| request.is_of_a_cache());
    ensure!(cache.is_none(), "the cache is not stopped: {cache:?}");
    Ok(())
}

pub(crate) fn skopeo_copies_an_index_bit_for_bit(registries: &mut Registries) -> Result<()> {
    let cache = registries.empty_cache()?;
    let directory = registries.directory()?;
    let target = directory.join("copy");
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args([
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
        ])
        // The registry is in the path of the name itself, without any configuration.
        .arg(format!(
            "docker://{}/docker.io/library/multi:1",
            CacheServer::address()
        ))
        .arg(format!("dir:{}", target.display()));
    command::output(&mut skopeo)?;
    let multi = &registries.images.multi;
    is_copied(&target.join("manifest.json"), &multi.manifest().bytes)?;
    for image in multi.images() {
        let hex = image.manifest.digest.trim_start_matches("sha256:");
        let manifest = target.join(format!("{hex}.manifest.json"));
        is_copied(&manifest, &image.manifest.bytes)?;
        for blob in image.blobs() {
            let hex = blob.digest.trim_start_matches("sha256:");
            is_copied(&target.join(hex), &blob.bytes)?;
        }
    }
    proof::came_through(registries, &cache, &proof::blobs(multi))
}

/// Has skopeo get all of an image of `docker.io/library` from the cache at that address, with every digest compared.
pub(crate) fn copy(registries: &mut Registries, address: &str, image: &str) -> Result<()> {
    let target = registries.directory()?.join("copy");
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["copy", "--all", "--preserve-digests"])
        .arg("--src-tls-verify=false")
        .arg(format!("docker://{address}/docker.io/library/{image}"))
        .arg(format!("dir:{}", target.display()));
    command::output(&mut skopeo).map(drop)
}

fn is_copied(path: &Path, bytes: &[u8]) -> Result<()> {
    let copy = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    ensure!(copy == bytes, "{} has other bytes", path.display());
    Ok(())
}

/// Has skopeo get the image by its name, as a drop-in for registries.conf and credentials in the form of a Docker configuration say.
pub(crate) fn copy_by(
    registries: &mut Registries,
    name: &str,
    configuration: &str,
    credentials: Option<&str>,
) -> Result<()> {
    let home = registries.directory()?;
    let drop_ins = home.join(".config/containers/registries.conf.d");
    fs::create_dir_all(&drop_ins).context("failed to create the directory of drop-ins")?;
    fs::write(drop_ins.join("50-larder.conf"), configuration)
        .context("failed to write the drop-in")?;
    let auth = home.join("auth.json");
    fs::write(&auth, credentials.unwrap_or("{}")).context("failed to write auth.json")?;
    let mut skopeo = Command::new("skopeo");
    skopeo
        .args(["copy", "--all", "--preserve-digests"])
        .arg(format!("docker://{name}"))
        .arg(format!("dir:{}", home.join("copy").display()))
        .env("HOME", &home)
        .env("REGISTRY_AUTH_FILE", auth);
    command::output(&mut skopeo).map(drop)
}

/// podman with an empty store, and a configuration in which the upstream stands for Docker Hub and the cache is its mirror.
pub(crate) struct Podman {
    directory: PathBuf,
}

impl Podman {
    fn new(registries: &mut Registries) -> Result<Self> {
        let configuration = format!(
            "unqualified-search-registries = []

[[registry]]
prefix = 'docker.io'
location = '{}'
insecure = true

[[registry.mirror]]
location = '{}/docker.io'
insecure = true
",
            registries.upstream.address(),
            CacheServer::address()
        );
        Self::with(registries, &configuration, None)
    }

    /// With other configuration, and credentials in the form of a Docker configuration.
    pub(crate) fn with(
        registries: &mut Registries,
        configuration: &str,
        credentials: Option<&str>,
    ) -> Result<Self> {
        let directory = registries.directory()?;
        fs::write(directory.join("registries.conf"), configuration)
            .context("failed to write registries.conf")?;
        fs::write(directory.join("auth.json"), credentials.unwrap_or("{}"))
            .context("failed to write auth.json")?;
        Ok(Self { directory })
    }

    /// Pulls what the name says by its digest.
    pub(crate) fn pull_by_digest(&self, name: &str) -> Result<()> {
        self.run(&["pull", "--quiet", name]).map(drop)
    }

    /// Pulls the image, which podman compares with its digests, and looks for it among podman's.
    pub(crate) fn pull_hello(&self, hello: &Artifact) -> Result<()> {
        self.run(&["pull", "--quiet", HELLO])?;
        let digest = self.run(&["image", "inspect", "--format", "{{.Digest}}", HELLO])?;
        ensure!(
            digest.trim() == hello.manifest().digest,
            "podman has {digest}"
        );
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut podman = Command::new("podman");
        podman
            .arg("--root")
            .arg(self.directory.join("root"))
            .arg("--runroot")
            .arg(self.directory.join("run"))
            .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "none"])
            .args(arguments)
            .env("HOME", &self.directory)
            .env("REGISTRY_AUTH_FILE", self.directory.join("auth.json"))
            .env(
                "CONTAINERS_REGISTRIES_CONF",
                self.directory.join("registries.conf"),
            );
        command::output(&mut podman)
    }
}
