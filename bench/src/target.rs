//! The servers that are compared, each with a directory of its own, on loopback, without access logs.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::Tools;
use e2e::images::ARENAS;
use e2e::tools::packages;

use crate::client::Client;
use crate::content::{Content, Thing};
use crate::program::Program;
use crate::secure::Pair;

/// A server under test.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Where it speaks TLS, if it does.
    pub(crate) secure: Option<SocketAddr>,
    pub(crate) program: Program,
    /// With nothing done yet, in MiB.
    pub(crate) idle: f64,
}

/// The cache under test.
pub(crate) fn larder(directory: &Path, upstream: SocketAddr, pair: &Pair) -> Result<Target> {
    let secure = free_address()?;
    let tls = format!(
        "tls: {{certificateFile: {}, keyFile: {}, listen: \"{secure}\"}}\n",
        pair.certificate.display(),
        pair.key.display()
    );
    let (mut command, address, _) = larder_command(directory, upstream, &tls)?;
    let target = start("Larder", address, &mut command, directory, "/v2/")?;
    Ok(Target {
        secure: Some(secure),
        ..target
    })
}

/// What starts it as its image does, and where its data port and its admin port will be. Its store is in `store`.
pub(crate) fn larder_command(
    directory: &Path,
    upstream: SocketAddr,
    more: &str,
) -> Result<(Command, SocketAddr, SocketAddr)> {
    let (address, admin) = (free_address()?, free_address()?);
    let config = directory.join("config");
    write(
        &config.join("static.yaml"),
        &format!(
            "format: 1\ndataListen: {address}\nadminListen: {admin}\nstore: {}\naccessLog: false\n{more}",
            directory.join("store").display()
        ),
    )?;
    write(
        &config.join("policy.yaml"),
        &format!(
            "format: 1\nupstreams: [{{host: bench.test, endpoints: [\"http://{upstream}\"]}}]\ndefaultUpstream: bench.test\n"
        ),
    )?;
    let program = std::env::current_exe()
        .context("failed to find this program")?
        .with_file_name("cache-server");
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config);
    command.env(ARENAS.0, ARENAS.1);
    Ok((command, address, admin))
}

/// The registry that most run as a pull-through cache.
pub(crate) fn distribution(directory: &Path, upstream: SocketAddr) -> Result<Target> {
    let tools = Tools::ensure_these(&["distribution"], &|line| eprintln!("{line}"))?;
    let (address, config) = (free_address()?, directory.join("registry.yaml"));
    write(
        &config,
        &format!(
            "version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: \"{}\"}}
  cache: {{blobdescriptor: inmemory}}
http: {{addr: \"{address}\"}}
proxy: {{remoteurl: \"http://{upstream}\"}}
",
            directory.join("content").display()
        ),
    )?;
    let mut command = Command::new(tools.path("registry")?);
    command
        .arg("serve")
        .arg(config)
        .env("OTEL_TRACES_EXPORTER", "none");
    start("distribution", address, &mut command, directory, "/v2/")
}

/// Files and nothing else: what the kernel gives.
pub(crate) fn nginx(
    directory: &Path,
    content: &Content,
    references: &[(&str, String)],
    pair: &Pair,
) -> Result<Target> {
    let unpacked = directory.join("unpacked");
    packages::unpack("nginx", &unpacked)?;
    for (kind, reference) in references {
        let path = directory.join("www/v2/bench").join(kind).join(reference);
        match content.find(reference) {
            Some(Thing::Manifest { text, .. }) => write_bytes(&path, &[&text])?,
            Some(Thing::Blob { seed, size }) => {
                let (first, rest) = content.parts(seed, size);
                write_bytes(&path, &[&first, rest])?;
            }
            None => bail!("there is no {reference} to serve"),
        }
    }
    write(&directory.join("www/index.html"), "ok")?;
    let (address, config) = (free_address()?, directory.join("nginx.conf"));
    let secure = free_address()?;
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let root = directory.display();
    write(
        &config,
        &format!(
            "daemon off; user root; worker_processes 2; pid {root}/pid; error_log stderr crit; worker_rlimit_nofile 65536;
events {{ worker_connections 4096; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000; open_file_cache max=1000;
  default_type application/octet-stream;
  client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;
  uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi;
  server {{ listen {address} reuseport; root {root}/www; location = /v2/ {{ return 200 \"{{}}\"; }} }}
  server {{ listen {secure} ssl reuseport; ssl_certificate {certificate}; ssl_certificate_key {key}; root {root}/www; }}
}}
"
        ),
    )?;
    let mut command = Command::new(unpacked.join("usr/sbin/nginx"));
    command
        .arg("-p")
        .arg(directory)
        .arg("-e")
        .arg("stderr")
        .arg("-c")
        .arg(config);
    let target = start("nginx", address, &mut command, directory, "/index.html")?;
    Ok(Target {
        secure: Some(secure),
        ..target
    })
}

fn start(
    name: &'static str,
    address: SocketAddr,
    command: &mut Command,
    directory: &Path,
    ping: &str,
) -> Result<Target> {
    let log = directory.join("log");
    let mut program = Program::start(command, &log)?;
    let begun = Instant::now();
    loop {
        program
            .check_running()
            .with_context(|| format!("{name}: {}", last_lines(&log)))?;
        match Client::connect(address).and_then(|mut client| client.get(ping)) {
            Ok(_) => break,
            Err(error) if begun.elapsed() > Duration::from_secs(20) => {
                return Err(error)
                    .with_context(|| format!("{name} did not start: {}", last_lines(&log)));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    std::thread::sleep(Duration::from_millis(500));
    let idle = program.memory("VmRSS")?;
    Ok(Target {
        name,
        address,
        secure: None,
        program,
        idle,
    })
}

fn last_lines(log: &PathBuf) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    lines.join(" | ")
}

/// Taken and given back at once. Somebody else may take it meanwhile; then the run fails and is repeated by hand.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .context("failed to find a free port")
}

fn write(path: &Path, text: &str) -> Result<()> {
    write_bytes(path, &[text.as_bytes()])
}

fn write_bytes(path: &Path, parts: &[&[u8]]) -> Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("failed to create {}", parent.display()))?;
    }
    fs::write(path, parts.concat()).with_context(|| format!("failed to write {}", path.display()))
}
