//! A registry to pull from: distribution, on the node's own address, with a log of every request.

mod access_log;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::blocking::Client;

use crate::component::Component;
use crate::images::{self, Artifact};
use crate::node::ADDRESS;
use crate::{Tools, wait};

pub use access_log::Request;

const PORT: u16 = 5555;
const START_LIMIT: Duration = Duration::from_secs(30);

/// A registry whose content stays when it is stopped.
#[derive(Debug)]
pub struct Upstream {
    directory: PathBuf,
    program: PathBuf,
    address: String,
    client: Client,
    component: Option<Component>,
}

impl Upstream {
    /// Starts an empty registry below `directory`, in the network of a running node.
    pub fn start(tools: &Tools, directory: &Path) -> Result<Self> {
        Self::start_on(tools, directory, PORT)
    }

    /// As [`Self::start`], on another port: for cases with several upstreams.
    pub fn start_on(tools: &Tools, directory: &Path, port: u16) -> Result<Self> {
        let content = directory.join("content");
        fs::create_dir_all(&content)
            .with_context(|| format!("failed to create {}", content.display()))?;
        let configuration = format!(
            "version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: \"{}\"}}
  delete: {{enabled: true}}
http: {{addr: \"{ADDRESS}:{port}\"}}
",
            content.display()
        );
        fs::write(directory.join("registry.yaml"), configuration)
            .context("failed to write the registry's settings")?;
        let mut upstream = Self {
            directory: directory.to_owned(),
            program: tools.path("registry")?,
            address: format!("{ADDRESS}:{port}"),
            client: Client::builder()
                .no_proxy()
                .build()
                .context("failed to build the client of the registry")?,
            component: None,
        };
        upstream.start_again()?;
        Ok(upstream)
    }

    /// `address:port`, as endpoints and hosts.toml name it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The address as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the registry at once: connections break, and further ones are refused.
    pub fn stop(&mut self) -> Result<()> {
        self.component
            .take()
            .map_or(Ok(()), |mut component| component.stop())
    }

    /// Starts the registry with the content that it had.
    pub fn start_again(&mut self) -> Result<()> {
        self.stop()?;
        let mut registry = Command::new(&self.program);
        registry
            .arg("serve")
            .arg(self.directory.join("registry.yaml"))
            .env("OTEL_TRACES_EXPORTER", "none");
        let log = self.directory.join("registry.log");
        let mut component =
            Component::start_with_two_logs("registry", &mut registry, &self.access_log(), &log)?;
        wait::until("the registry", START_LIMIT, || {
            component.check_running()?;
            let answer = self
                .client
                .get(format!("{}/v2/", self.url()))
                .send()
                .context("no answer")?;
            if answer.status().is_success() {
                Ok(())
            } else {
                bail!("it answers {}", answer.status())
            }
        })?;
        self.component = Some(component);
        Ok(())
    }

    /// Fails when the registry has ended by itself.
    pub fn check_running(&mut self) -> Result<()> {
        self.component
            .as_mut()
            .map_or(Ok(()), Component::check_running)
    }

    /// Uploads `artifact` as `repository:tag`.
    pub fn push(&self, repository: &str, tag: &str, artifact: &Artifact) -> Result<()> {
        images::push(&self.client, &self.url(), repository, tag, artifact)
            .with_context(|| format!("failed to upload {repository}:{tag}"))
    }

    /// All requests since the first start, the uploads too.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let path = self.access_log();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        Ok(text.lines().filter_map(Request::parse).collect())
    }

    /// Those of the requests that went past every cache.
    pub fn requests_past_the_cache(&self) -> Result<Vec<Request>> {
        let mut requests = self.requests()?;
        requests.retain(|request| !request.is_of_a_cache());
        Ok(requests)
    }

    /// Fails if anybody else than a cache asked for anything.
    pub fn only_caches_asked(&self) -> Result<()> {
        let others = self.requests_past_the_cache()?;
        ensure!(
            others.is_empty(),
            "somebody else than the cache asked the upstream: {others:?}"
        );
        Ok(())
    }

    /// How often the blob was asked for, whatever was answered.
    pub fn blob_gets(&self, digest: &str) -> Result<usize> {
        Ok(self.gets_of(digest)?.len())
    }

    /// Bytes of the blob that were sent, in one answer or several.
    pub fn blob_bytes(&self, digest: &str) -> Result<u64> {
        let gets = self.gets_of(digest)?;
        Ok(gets.iter().map(|request| request.bytes).sum())
    }

    fn gets_of(&self, digest: &str) -> Result<Vec<Request>> {
        let end = format!("/blobs/{digest}");
        let mut requests = self.requests()?;
        requests.retain(|request| request.method == "GET" && request.path.ends_with(&end));
        Ok(requests)
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) -> Result<()> {
        // The registry appends, so it goes on at the new end.
        fs::write(self.access_log(), "").context("failed to empty the access log")
    }

    fn access_log(&self) -> PathBuf {
        self.directory.join("access.log")
    }
}
