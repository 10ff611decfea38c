//! An upstream registry and room for a cache server in front of it: what clients need that run without a node.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::authority::ServerFiles;
use crate::cache_server::CacheServer;
use crate::images::{self, Artifact, Image, Seeds};
use crate::node::network;
use crate::programs::Programs;
use crate::runner::Setting;
use crate::tools::packages;
use crate::{Progress, Tools, Upstream, namespaces};

/// The Go programs of the cases.
const TOOLS: &[&str] = &[
    "olareg",
    "conformance",
    "regclient",
    "oras",
    "cosign",
    "distribution",
    "containerd",
    "helm",
    "mirrors",
    "versitygw",
];

/// Bytes of the only layer of [`Registries::large`]: enough to come over several connections.
const LARGE: usize = 64 * 1024 * 1024;

/// Shared by the cases on clients.
#[derive(Debug)]
pub struct Registries {
    pub tools: Tools,
    pub upstream: Upstream,
    pub images: Seeds,
    /// One layer that can't be compressed; `library/large:1`.
    pub large: Image,
    pub operator: PathBuf,
    state: PathBuf,
    cache_server: PathBuf,
    directories: usize,
}

impl Setting for Registries {
    const LOGS: &'static [&'static str] = &["upstream/access.log", "upstream/registry.log", "case"];

    fn prepare(progress: Progress<'_>) -> Result<()> {
        namespaces::require_root()?;
        packages::ensure(packages::NODE, progress)?;
        packages::ensure(packages::CLIENTS, progress)?;
        for package in packages::UNPACKED_CLIENTS {
            packages::file(package).with_context(|| format!("failed to download {package}"))?;
        }
        images::download_packages(progress)?;
        Tools::ensure_these(TOOLS, progress)?;
        Programs::build(progress).map(drop)
    }

    fn start(state: &Path, progress: Progress<'_>) -> Result<Self> {
        let tools = Tools::ensure_these(TOOLS, progress)?;
        progress("building the images");
        let images = Seeds::build()?;
        let large = images::large_image(LARGE)?;
        network::configure()?;
        let upstream = Upstream::start(&tools, &state.join("upstream"))?;
        images.push_to(&upstream)?;
        upstream.push("library/large", "1", &Artifact::from(large.clone()))?;
        progress("the upstream is ready");
        let programs = Programs::built()?;
        Ok(Self {
            tools,
            upstream,
            images,
            large,
            state: state.to_owned(),
            operator: programs.operator,
            cache_server: programs.cache_server,
            directories: 0,
        })
    }

    fn check_running(&mut self) -> Result<()> {
        self.upstream.check_running()
    }

    fn write_down(&self, _case: &str) {}
}

impl Registries {
    /// An empty directory for one case's files, whose logs are kept when a case fails.
    pub fn directory(&mut self) -> Result<PathBuf> {
        self.directories += 1;
        let directory = self.state.join("case").join(self.directories.to_string());
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        Ok(directory)
    }

    /// The files of one of [`packages::UNPACKED_CLIENTS`].
    pub fn unpacked(&self, package: &str) -> Result<PathBuf> {
        let directory = self.state.join("packages").join(package);
        if !directory.exists() {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("failed to create {}", directory.display()))?;
            packages::unpack(package, &directory)?;
        }
        Ok(directory)
    }

    /// Starts a cache server with an empty store, and forgets what the upstream was asked before. It says that `docker.io`,
    /// the default, and `ghcr.io` are at the upstream.
    pub fn empty_cache(&mut self) -> Result<CacheServer> {
        self.upstream.clear_requests()?;
        self.cache_with(&self.policy())
    }

    /// Likewise, one on each of these ports. None of them knows of the others.
    pub fn empty_caches(&mut self, ports: &[u16]) -> Result<Vec<CacheServer>> {
        self.upstream.clear_requests()?;
        let policy = self.policy();
        let start = |port: &u16| {
            let directory = self.directory()?;
            CacheServer::start_on(&self.cache_server, &directory, *port, "", &policy)
        };
        ports.iter().map(start).collect()
    }

    fn policy(&self) -> String {
        let url = self.upstream.url();
        format!(
            "upstreams:
- {{host: docker.io, endpoints: [\"{url}\"]}}
- {{host: ghcr.io, endpoints: [\"{url}\"]}}
defaultUpstream: docker.io
"
        )
    }

    /// Starts a cache server with an empty store and that policy. One can run at a time.
    pub fn cache_with(&mut self, policy: &str) -> Result<CacheServer> {
        let directory = self.directory()?;
        CacheServer::start(&self.cache_server, &directory, policy)
    }

    /// Likewise, with TLS, and forgets what the upstream was asked before.
    pub fn cache_with_tls(&mut self, files: &ServerFiles, policy: &str) -> Result<CacheServer> {
        self.upstream.clear_requests()?;
        self.cache_that(&files.settings(), policy)
    }

    /// Starts a cache server with an empty store, that line of settings more, and that policy. One can run at a time.
    pub fn cache_that(&mut self, settings: &str, policy: &str) -> Result<CacheServer> {
        let directory = self.directory()?;
        CacheServer::start_with(&self.cache_server, &directory, settings, policy)
    }
}
