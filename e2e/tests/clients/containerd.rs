//! containerd by itself, of both lines: 1.6 of Debian, and 2 with several ranges of a layer at once.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::cache_server::CacheServer;
use e2e::component::Component;
use e2e::images::Artifact;
use e2e::{Registries, command, wait};

use crate::proof;

const START_LIMIT: Duration = Duration::from_mins(1);

/// Bytes of a range that containerd asks for at once.
pub(crate) const RANGE: u64 = 4 * 1024 * 1024;

pub(crate) fn containerd_1_6_pulls_by_hosts_toml(registries: &mut Registries) -> Result<()> {
    let cache = registries.empty_cache()?;
    let programs = Line::OneSix.programs(registries)?;
    let hello = registries.images.hello_1.clone();
    let blobs = proof::blobs(&hello);
    let settings = Line::OneSix.settings();
    let containerd = Containerd::start(registries, &programs, &settings)?;
    containerd.pull("docker.io/library/hello:1.0", &hello)?;
    proof::came_through(registries, &cache, &blobs)?;
    drop(containerd);

    registries.upstream.clear_requests()?;
    let containerd = Containerd::start(registries, &programs, &settings)?;
    containerd.pull("docker.io/library/hello:1.0", &hello)?;
    proof::came_from_the_store(registries, &cache, &blobs, 1)
}

pub(crate) fn containerd_2_fetches_ranges_of_a_layer_in_parallel(
    registries: &mut Registries,
) -> Result<()> {
    let cache = registries.empty_cache()?;
    let programs = &Line::Two.programs(registries)?;
    let settings = parallel();
    let large = Artifact::from(registries.large.clone());
    let layer = proof::expected(&registries.large.layers[0]);
    let blobs = proof::blobs(&large);
    // Cold: one stream, of which the upstream sends each byte once.
    let containerd = Containerd::start(registries, programs, &settings)?;
    containerd.pull("docker.io/library/large:1", &large)?;
    proof::came_through(registries, &cache, &blobs)?;
    drop(containerd);
    let cold = proof::served(&cache, &layer.0)?;
    ensure!(
        cold.iter().all(|one| one.status == 200),
        "a cold layer was sent in parts: {cold:?}"
    );

    // Hot: one range for each part.
    registries.upstream.clear_requests()?;
    let containerd = Containerd::start(registries, programs, &settings)?;
    containerd.pull("docker.io/library/large:1", &large)?;
    proof::came_from_the_store(registries, &cache, &blobs, cold.len().min(1))?;
    let hot = proof::served(&cache, &layer.0)?.split_off(cold.len());
    let parts = hot.iter().filter(|one| one.status == 206).count() as u64;
    ensure!(
        parts >= layer.1 / RANGE,
        "a hot layer of {} bytes was sent in {parts} parts: {hot:?}",
        layer.1
    );
    Ok(())
}

pub(crate) fn two_containerds_share_one_cold_layer(registries: &mut Registries) -> Result<()> {
    let cache = registries.empty_cache()?;
    let programs = &Line::Two.programs(registries)?;
    let large = Artifact::from(registries.large.clone());
    let first = Containerd::start(registries, programs, &parallel())?;
    let second = Containerd::start(registries, programs, &parallel())?;
    let pull = |containerd: &Containerd| containerd.pull("docker.io/library/large:1", &large);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| pull(&second));
        pull(&first)?;
        other.join().map_err(|_| anyhow!("a pull panicked"))?
    })?;
    proof::came_through(registries, &cache, &proof::blobs(&large))
}

/// Settings of containerd 2 by which it asks for several ranges of a layer at once.
fn parallel() -> String {
    format!(
        "version = 3
disabled_plugins = [
  'io.containerd.cri.v1.images', 'io.containerd.cri.v1.runtime', 'io.containerd.grpc.v1.cri',
]

[plugins.'io.containerd.transfer.v1.local']
max_concurrent_downloads = 8
concurrent_layer_fetch_buffer = {RANGE}
"
    )
}

/// A line of containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    OneSix,
    Two,
}

impl Line {
    fn programs(self, registries: &Registries) -> Result<PathBuf> {
        let (programs, expected) = match self {
            Self::OneSix => (registries.unpacked("containerd")?.join("usr/bin"), " 1.6."),
            Self::Two => {
                let program = registries.tools.path("containerd")?;
                let programs = program.parent().context("containerd is in no directory")?;
                (programs.to_owned(), " v2.")
            }
        };
        let version = command::output(Command::new(programs.join("containerd")).arg("--version"))?;
        ensure!(version.contains(expected), "it is {version}");
        Ok(programs)
    }

    fn settings(self) -> String {
        match self {
            Self::OneSix => "version = 2
disabled_plugins = ['io.containerd.grpc.v1.cri']
"
            .to_owned(),
            Self::Two => parallel(),
        }
    }
}

/// containerd with an empty store.
pub(crate) struct Containerd {
    ctr: PathBuf,
    directory: PathBuf,
    _daemon: Component,
}

impl Containerd {
    /// What containerd reads at each pull.
    pub(crate) fn hosts(&self) -> PathBuf {
        self.directory.join("certs.d")
    }

    /// With the cache as the only way to `docker.io`.
    fn start(registries: &mut Registries, programs: &Path, settings: &str) -> Result<Self> {
        let containerd = Self::start_with(registries, programs, settings)?;
        let hosts = containerd.hosts().join("docker.io");
        fs::create_dir_all(&hosts).context("failed to create the hosts' directory")?;
        // The server, which is asked last, is not there.
        let text = format!(
            "server = 'http://127.0.0.1:9'

[host.'http://{}']
capabilities = ['pull', 'resolve']
",
            CacheServer::address()
        );
        fs::write(hosts.join("hosts.toml"), text).context("failed to write hosts.toml")?;
        Ok(containerd)
    }

    /// With nothing said of hosts.
    pub(crate) fn start_empty(registries: &mut Registries, line: Line) -> Result<Self> {
        let programs = line.programs(registries)?;
        Self::start_with(registries, &programs, &line.settings())
    }

    fn start_with(registries: &mut Registries, programs: &Path, settings: &str) -> Result<Self> {
        let directory = registries.directory()?;
        let (top, tables) = settings
            .split_once("\n[")
            .map_or((settings, String::new()), |(top, rest)| {
                (top, format!("[{rest}"))
            });
        let path = directory.display();
        let settings = format!(
            "{top}
root = '{path}/root'
state = '{path}/state'

[grpc]
address = '{path}/containerd.sock'

[plugins.'io.containerd.internal.v1.opt']
path = '{path}/opt'

{tables}"
        );
        fs::write(directory.join("containerd.toml"), settings)
            .context("failed to write containerd's settings")?;
        let mut daemon = Command::new(programs.join("containerd"));
        let mut search = OsString::from(programs);
        search.push(":/usr/sbin:/usr/bin:/sbin:/bin");
        daemon
            .arg("--config")
            .arg(directory.join("containerd.toml"))
            .env("PATH", search);
        let log = directory.join("containerd.log");
        let mut component = Component::start("containerd", &mut daemon, &log)?;
        let ctr = programs.join("ctr");
        wait::until("containerd", START_LIMIT, || {
            component.check_running()?;
            run(&ctr, &directory, &["version"])
        })?;
        Ok(Self {
            ctr,
            directory,
            _daemon: component,
        })
    }

    /// Forgets the image with all that it consists of, and pulls it.
    pub(crate) fn pull_anew(&self, name: &str, artifact: &Artifact) -> Result<()> {
        run(
            &self.ctr,
            &self.directory,
            &["images", "remove", "--sync", name],
        )?;
        self.pull(name, artifact)
    }

    /// Pulls and unpacks the image, which containerd compares with its digests.
    pub(crate) fn pull(&self, name: &str, artifact: &Artifact) -> Result<()> {
        let hosts = self.hosts();
        let hosts = hosts.to_string_lossy();
        run(
            &self.ctr,
            &self.directory,
            &["images", "pull", "--hosts-dir", &hosts, name],
        )?;
        let list = run(&self.ctr, &self.directory, &["images", "list"])?;
        let digest = &artifact.manifest().digest;
        ensure!(list.contains(digest), "{digest} is not among {list}");
        Ok(())
    }
}

fn run(ctr: &Path, directory: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(ctr);
    command
        .arg("--address")
        .arg(directory.join("containerd.sock"))
        .args(arguments);
    command::output(&mut command)
}
