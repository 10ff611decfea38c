//! A cache server as one process, without a node, with a log line for each request.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::component::Component;
use crate::larder::Metrics;
use crate::node::ADDRESS;
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(30);

/// A running cache server on the node's address. Dropping it ends it.
#[derive(Debug)]
pub struct CacheServer {
    component: Component,
    directory: PathBuf,
}

/// One request that the server has answered, as its log has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Served {
    pub method: String,
    pub kind: String,
    pub upstream: String,
    pub repository: String,
    /// Tag or digest.
    pub reference: String,
    pub status: u16,
    pub outcome: String,
    /// Of the body, as far as it was sent.
    pub bytes: u64,
}

impl CacheServer {
    /// `address:port` of the data port.
    pub fn address() -> String {
        format!("{ADDRESS}:5000")
    }

    /// Starts `program` with its store and settings in `directory`; `policy` is YAML. Returns when it is ready.
    pub fn start(program: &Path, directory: &Path, policy: &str) -> Result<Self> {
        Self::start_with(program, directory, "", policy)
    }

    /// The same, with a line of settings more.
    pub fn start_with(program: &Path, directory: &Path, more: &str, policy: &str) -> Result<Self> {
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        let indented = policy.trim_end().replace('\n', "\n  ");
        let settings = format!(
            "server:
  dataListen: {}
  adminListen: {ADDRESS}:5001
  store: {}
  logFormat: Json
  accessLog: true
  {more}
policy:
  {indented}
",
            Self::address(),
            directory.join("store").display(),
        );
        let path = directory.join("settings.yaml");
        fs::write(&path, settings).context("failed to write the cache server's settings")?;
        let mut command = Command::new(program);
        command.arg("--config").arg(path);
        let log = directory.join("log");
        let mut server = Self {
            component: Component::start("cache-server", &mut command, &log)?,
            directory: directory.to_owned(),
        };
        wait::until("the cache server", START_LIMIT, || {
            server.component.check_running()?;
            server.metrics().map(drop)
        })?;
        Ok(server)
    }

    /// Fails when the process has ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.component.check_running()
    }

    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::from_server(&format!("http://{ADDRESS}:5001/metrics"))
    }

    /// All requests whose bodies have ended.
    pub fn requests(&self) -> Result<Vec<Served>> {
        let path = self.component.log();
        let text = fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        // Other lines have other fields.
        Ok(text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }
}
