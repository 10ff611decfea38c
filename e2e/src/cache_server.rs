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

/// The data port of the one server of most cases; the admin port is the next one.
const PORT: u16 = 5000;

/// A running cache server on the node's address. Dropping it ends it.
#[derive(Debug)]
pub struct CacheServer {
    component: Component,
    directory: PathBuf,
    port: u16,
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
    /// `address:port` of the data port, if it was started on no other.
    pub fn address() -> String {
        format!("{ADDRESS}:{PORT}")
    }

    /// Starts `program` with its store and settings in `directory`; `policy` is YAML. Returns when it is ready.
    pub fn start(program: &Path, directory: &Path, policy: &str) -> Result<Self> {
        Self::start_with(program, directory, "", policy)
    }

    /// The same, with a line of settings more.
    pub fn start_with(program: &Path, directory: &Path, more: &str, policy: &str) -> Result<Self> {
        Self::start_on(program, directory, PORT, more, policy)
    }

    /// The same, on that data port: for cases with several servers. The admin port is the next one.
    pub fn start_on(
        program: &Path,
        directory: &Path,
        port: u16,
        more: &str,
        policy: &str,
    ) -> Result<Self> {
        let admin_port = port + 1;
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        let indented = policy.trim_end().replace('\n', "\n  ");
        let settings = format!(
            "server:
  dataListen: {ADDRESS}:{port}
  adminListen: {ADDRESS}:{admin_port}
  store: {}
  logFormat: Json
  accessLog: true
  {more}
policy:
  {indented}
",
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
            port,
        };
        wait::until("the cache server", START_LIMIT, || {
            server.component.check_running()?;
            server.metrics().map(drop)
        })?;
        Ok(server)
    }

    /// `address:port` of this one's data port.
    pub fn own_address(&self) -> String {
        format!("{ADDRESS}:{}", self.port)
    }

    /// Ends the process at once (SIGKILL). Its log and its store stay.
    pub fn kill(&mut self) -> Result<()> {
        self.component.stop()
    }

    /// Fails when the process has ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.component.check_running()
    }

    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::from_server(&format!("http://{ADDRESS}:{}/metrics", self.port + 1))
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
