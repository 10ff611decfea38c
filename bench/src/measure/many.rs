//! What it costs to do nothing, and the memory of a thousand slow readers.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::{Setting, blob_path, get, on_threads};
use crate::client::Client;
use crate::report::{Report, Row};
use crate::secure::SecureClient;
use crate::target::Target;

const DOWNLOADS: usize = 1000;
/// Fewer, because these clients wait for what comes: on loopback the kernel holds 4 MiB for each, and drops what comes when all it has for connections
/// is used up.
const SECURE_DOWNLOADS: usize = 200;
const READERS: usize = 4;
const TIME: Duration = Duration::from_secs(4);
/// The kernel counts processor time in steps of 10 ms.
const REST: Duration = Duration::from_secs(10);
/// Read by each download at a turn.
const PIECE: usize = 16 * 1024;

pub(crate) fn idle(setting: &Setting, report: &mut Report) -> Result<()> {
    report.add(
        Row::new("idle RSS MiB")
            .values(
                setting.larder.idle,
                setting.distribution.idle,
                "nginx",
                setting.nginx.idle,
                1,
            )
            .no_more_than(25.0, "25 MiB"),
    );
    at_rest(setting, report)
}

/// What a server costs that nobody asks for anything.
fn at_rest(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut used = [0.0; 3];
    let begun = setting
        .targets(0)
        .map(|(place, target)| (place, target, target.program.cpu()));
    std::thread::sleep(REST);
    for (place, target, before) in begun {
        used[place] = target.program.cpu_since(before?)? * 1000.0;
    }
    let [larder, distribution, nginx] = used;
    report.add(
        Row::new("10 s at rest: server CPU ms")
            .values(larder, distribution, "nginx", nginx, 0)
            .no_more_than(20.0, "20 ms"),
    );
    Ok(())
}

pub(crate) fn downloads(setting: &Setting, report: &mut Report) -> Result<()> {
    let path = blob_path(&setting.blobs[0]);
    let mut above = [0.0; 3];
    for (place, target) in setting.targets(0) {
        get(target.address, &path)?;
        let ask = || Client::ask(target.address, &path);
        let peak = peak_of(target, DOWNLOADS, ask, take)
            .with_context(|| format!("with {}", target.name))?;
        above[place] = peak - target.idle;
    }
    let [larder, distribution, nginx] = above;
    report.add(
        Row::new("1,000 slow downloads of one 64 MiB blob: RSS above idle MiB")
            .values(larder, distribution, "nginx", nginx, 1)
            .no_more_than(32.0, "32 MiB"),
    );
    over_tls(setting, &path, report)
}

/// The same over TLS, without distribution, which has one port.
fn over_tls(setting: &Setting, path: &str, report: &mut Report) -> Result<()> {
    let mut above = [0.0; 2];
    for (place, target) in [(0, &setting.larder), (1, &setting.nginx)] {
        let address = target.secure.context("it speaks no TLS")?;
        let ask = || {
            let mut client = SecureClient::connect(address, &setting.pair)?;
            client.ask(path)?;
            Ok(client)
        };
        let take = |client: &mut SecureClient| client.read_some(PIECE).map(drop);
        let peak = peak_of(target, SECURE_DOWNLOADS, ask, take)
            .with_context(|| format!("with {}", target.name))?;
        above[place] = peak - target.idle;
    }
    let [larder, nginx] = above;
    report.add(
        Row::new("200 slow downloads over TLS: RSS above idle MiB").values(
            larder,
            f64::NAN,
            "nginx",
            nginx,
            1,
        ),
    );
    Ok(())
}

/// Throws away a piece of what has come, if something has.
fn take(socket: &mut TcpStream) -> Result<()> {
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    match rustix::net::recv(socket, &mut [0; PIECE][..], flags) {
        Ok((_, 0)) => bail!("a download ended early"),
        Ok(_) | Err(Errno::AGAIN) => Ok(()),
        Err(error) => Err(error).context("a download failed"),
    }
}

/// The most memory while so many connections read slowly.
fn peak_of<C>(
    target: &Target,
    downloads: usize,
    ask: impl Fn() -> Result<C> + Sync,
    take: impl Fn(&mut C) -> Result<()> + Sync,
) -> Result<f64> {
    let begun = Instant::now();
    let peaks = on_threads(READERS + 1, |number| {
        if number == READERS {
            return watch(target, begun);
        }
        let mut clients = (0..downloads / READERS)
            .map(|_| ask())
            .collect::<Result<Vec<_>>>()?;
        while begun.elapsed() < TIME {
            for client in &mut clients {
                take(client)?;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(0.0)
    })?;
    Ok(peaks.into_iter().fold(0.0, f64::max))
}

fn watch(target: &Target, begun: Instant) -> Result<f64> {
    let mut peak: f64 = 0.0;
    while begun.elapsed() < TIME {
        peak = peak.max(target.program.memory("VmRSS")?);
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(peak)
}
