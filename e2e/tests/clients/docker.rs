//! dockerd of Debian with a registry mirror, which names no registry at all: what it asks for is the default upstream's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cache_server::CacheServer;
use e2e::component::Component;
use e2e::images::Artifact;
use e2e::{Registries, command, wait};

use crate::proof;

const START_LIMIT: Duration = Duration::from_mins(1);

pub(crate) fn docker_pulls_through_its_registry_mirror(registries: &mut Registries) -> Result<()> {
    let cache = registries.empty_cache()?;
    let settings = format!(
        "{{\"registry-mirrors\": [\"http://{}\"]}}",
        CacheServer::address()
    );
    let docker = Docker::start(registries, &settings)?;
    let hello = registries.images.hello_1.clone();
    // In this network there is no Docker Hub to fall back to.
    docker.pull_hello(&hello)?;
    proof::came_through(registries, &cache, &proof::blobs(&hello))
}

pub(crate) struct Docker {
    program: PathBuf,
    directory: PathBuf,
    _daemon: Component,
}

impl Docker {
    /// `settings` is the text of its `daemon.json`.
    pub(crate) fn start(registries: &mut Registries, settings: &str) -> Result<Self> {
        let directory = registries.directory()?;
        fs::write(directory.join("daemon.json"), settings)
            .context("failed to write daemon.json")?;
        let docker = registries.unpacked("docker.io")?;
        let containerd = registries.unpacked("containerd")?.join("usr/bin");
        let mut daemon = Command::new(docker.join("usr/sbin/dockerd"));
        daemon
            .arg("--host")
            .arg(socket(&directory))
            .arg("--data-root")
            .arg(directory.join("root"))
            .arg("--exec-root")
            .arg(directory.join("run"))
            .arg("--pidfile")
            .arg(directory.join("docker.pid"))
            .arg("--config-file")
            .arg(directory.join("daemon.json"))
            // It has nothing to run, so it needs no network of its own.
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["--storage-driver", "vfs"])
            .env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", containerd.display()),
            );
        let mut component =
            Component::start("dockerd", &mut daemon, &directory.join("dockerd.log"))?;
        let program = docker.join("usr/bin/docker");
        wait::until("dockerd", START_LIMIT, || {
            component.check_running()?;
            run(&program, &directory, &["version"])
        })?;
        Ok(Self {
            program,
            directory,
            _daemon: component,
        })
    }

    /// Pulls the image, which Docker compares with its digests, and looks for it among Docker's.
    pub(crate) fn pull_hello(&self, hello: &Artifact) -> Result<()> {
        let said = self.run(&["pull", "hello:1.0"])?;
        ensure!(
            said.contains(&hello.manifest().digest),
            "docker says {said}"
        );
        self.run(&["image", "inspect", "hello:1.0"]).map(drop)
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        run(&self.program, &self.directory, arguments)
    }
}

fn run(program: &Path, directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut docker = Command::new(program);
    docker
        .arg("--host")
        .arg(socket(directory))
        .args(arguments)
        .env("DOCKER_CONFIG", directory);
    command::output(&mut docker)
}

fn socket(directory: &Path) -> String {
    format!("unix://{}", directory.join("docker.sock").display())
}
