//! The program itself, with its log in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;

/// Killed when the test ends, whatever its end.
pub struct Program {
    child: Child,
    // Not in the watched directory: each line would be an event that makes another line.
    directory: TempDir,
}

impl Program {
    /// Runs with that configuration, which must ask for JSON lines, and waits until it serves.
    pub async fn start(config: &Path, level: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_cache-server"))
            .args(["run", "--config"])
            .arg(config)
            .env("RUST_LOG", level)
            .stderr(Stdio::from(log))
            .spawn()
            .unwrap();
        let program = Self { child, directory };
        eventually("the program serves", || async {
            program.said("data_address").is_some()
        })
        .await;
        program
    }

    pub fn log(&self) -> String {
        let path: PathBuf = self.directory.path().join("log");
        std::fs::read_to_string(path).unwrap()
    }

    /// Lines of the log, as far as they are whole.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let log = self.log();
        log.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The first value of that name in the log.
    pub fn said(&self, name: &str) -> Option<String> {
        let mut lines = self.lines().into_iter();
        lines.find_map(|line| line[name].as_str().map(str::to_owned))
    }

    /// The most memory that it has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        peak_memory(&self.child)
    }

    pub async fn get(&self, path: &str) -> reqwest::Response {
        self.ask("data_address", path).await
    }

    pub async fn admin(&self, path: &str) -> String {
        let response = self.ask("admin_address", path).await;
        response.text().await.unwrap()
    }

    async fn ask(&self, port: &str, path: &str) -> reqwest::Response {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        let url = format!("http://{}{path}", self.said(port).unwrap());
        client.get(url).send().await.unwrap()
    }
}

impl Program {
    /// Tells it to end, waits until it has, and returns its log.
    pub async fn end(mut self) -> String {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || (self.child.wait(), self));
        let (status, program) = ended.await.unwrap();
        assert!(status.unwrap().success());
        program.log()
    }
}

/// The most memory that a process has had, in bytes (`VmHWM` of proc(5)).
pub fn peak_memory(process: &Child) -> u64 {
    let path = format!("/proc/{}/status", process.id());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
