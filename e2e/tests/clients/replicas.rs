//! Cache servers behind one address, of which one is killed in the middle of a layer: containerd 2 goes on with the others where
//! it was. It asks the same address again when a body breaks off, and the upstream only when that gives nothing. With ranges, the
//! first one that can't be had at all fails the pull, which the kubelet then tries again.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::balancer::Balancer;
use e2e::cache_server::CacheServer;
use e2e::images::Artifact;
use e2e::{Registries, wait};

use crate::containerd::{Containerd, Line, RANGE};
use crate::{containers_image, mirrors, proof};

const PORTS: [u16; 3] = [5000, 5010, 5020];
const LARGE: &str = "docker.io/library/large:1";
const LIMIT: Duration = Duration::from_mins(1);

/// More than all manifests, and less than a range.
const HOLD_AFTER: u64 = 1024 * 1024;

/// No server has the layer: one streams it whole, and when that is gone, parts come of what another one gets from the upstream.
pub(crate) fn a_server_that_dies_amid_a_cold_layer_fails_no_pull(
    registries: &mut Registries,
) -> Result<()> {
    let mut replicas = Replicas::start(registries)?;
    let pull = Pull::new(registries, &replicas)?;
    replicas.pull_while_one_dies(&pull, 0, Balancer::take_out)?;
    registries.upstream.only_caches_asked()
}

/// All have the layer, and give it in ranges. The one that breaks is the last that is under way: containerd drops what the others
/// have brought behind the break, and asks for it again; if one before the break were dropped, it would fail the pull.
pub(crate) fn a_server_that_dies_amid_ranges_of_a_layer_fails_no_pull(
    registries: &mut Registries,
) -> Result<()> {
    let mut replicas = Replicas::start(registries)?;
    for server in &replicas.servers {
        containers_image::copy(registries, &server.own_address(), "large:1")?;
    }
    registries.upstream.clear_requests()?;
    let size = registries.large.layers[0].bytes.len() as u64;
    let ranges = size.div_ceil(RANGE) - 1;
    let pull = Pull::new(registries, &replicas)?;
    replicas.pull_while_one_dies(&pull, usize::try_from(ranges)?, Balancer::take_out)?;
    let asked = registries.upstream.requests()?;
    ensure!(
        !asked.iter().any(|one| one.path.contains("/blobs/")),
        "the upstream was asked for blobs: {asked:?}"
    );
    registries.upstream.only_caches_asked()
}

/// As a Service does for the second or two until it knows that a pod is gone: some connections come to nobody.
pub(crate) fn a_dead_server_that_still_gets_connections_fails_a_pull_once_at_most(
    registries: &mut Registries,
) -> Result<()> {
    let mut replicas = Replicas::start(registries)?;
    let pull = Pull::new(registries, &replicas)?;
    // Whether this one fails depends on who is asked for what.
    let _ = replicas.pull_while_one_dies(&pull, 0, |_, _| {});
    let killed = replicas.balancer.held().context("nothing was killed")?;
    replicas.balancer.take_out(killed);
    pull.run()?;
    replicas.servers[killed]
        .check_running()
        .err()
        .context("nothing was killed")?;
    Ok(())
}

/// What is pulled, by a mirror that lets containerd go to the upstream.
struct Pull {
    containerd: Containerd,
    large: Artifact,
    layer: String,
}

impl Pull {
    fn new(registries: &mut Registries, replicas: &Replicas) -> Result<Self> {
        let mirror = mirrors::render_at(registries, &replicas.balancer.url(), "", &[])?;
        let containerd = Containerd::start_empty(registries, Line::Two)?;
        mirror.write_hosts(&containerd.hosts())?;
        Ok(Self {
            containerd,
            large: Artifact::from(registries.large.clone()),
            layer: registries.large.layers[0].digest.clone(),
        })
    }

    fn run(&self) -> Result<()> {
        self.containerd.pull(LARGE, &self.large)
    }
}

struct Replicas {
    servers: Vec<CacheServer>,
    balancer: Balancer,
}

impl Replicas {
    fn start(registries: &mut Registries) -> Result<Self> {
        let servers = registries.empty_caches(&PORTS)?;
        let addresses: Vec<String> = servers.iter().map(CacheServer::own_address).collect();
        let balancer = Balancer::start(&addresses, HOLD_AFTER)?;
        Ok(Self { servers, balancer })
    }

    /// The first server that has brought some of the layer brings no more of it. When that many other parts have come it is killed,
    /// and `then` happens before its connections end.
    fn pull_while_one_dies(
        &mut self,
        pull: &Pull,
        parts: usize,
        then: impl FnOnce(&Balancer, usize),
    ) -> Result<()> {
        let before = thread::scope(|scope| {
            let pulling = scope.spawn(|| pull.run());
            let before = self.kill_held(&pull.layer, parts);
            if let Some(number) = self.balancer.held() {
                then(&self.balancer, number);
                // Without this the pull would wait for what is held.
                self.balancer.cut(number);
            }
            let pulled = pulling.join().map_err(|_| anyhow!("the pull panicked"))?;
            // A pull that failed is why nothing could be killed in its middle.
            pulled.and(before)
        })?;
        wait::until("another server to go on with the layer", LIMIT, || {
            let after = self.parts(&pull.layer)?;
            ensure!(after > before, "{before} parts were sent, and then {after}");
            Ok(())
        })
    }

    /// Returns how many parts of the layer had come before.
    fn kill_held(&mut self, layer: &str, parts: usize) -> Result<usize> {
        let number = wait::until("some of the layer", LIMIT, || {
            self.balancer.held().context("nothing has come yet")
        })?;
        let before = wait::until("the other parts", LIMIT, || {
            let sent = self.parts(layer)?;
            ensure!(sent >= parts, "{sent} of {parts} have come");
            Ok(sent)
        })?;
        self.servers[number].kill()?;
        Ok(before)
    }

    /// How often the servers have sent a part of the layer.
    fn parts(&self, layer: &str) -> Result<usize> {
        let mut sent = 0;
        for server in &self.servers {
            let served = proof::served(server, layer)?;
            sent += served.iter().filter(|one| one.status == 206).count();
        }
        Ok(sent)
    }
}
