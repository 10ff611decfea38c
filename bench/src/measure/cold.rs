//! Blobs that no server has yet, from an upstream that is as slow as real ones: what the cache adds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{ROUNDS, Setting, blob_path, get, have_memory, median, on_threads};
use crate::client::Client;
use crate::report::{Report, Row};
use crate::upstream::{Manner, Rate};

const MIB: usize = 1024 * 1024;
/// Rounds of the shortest measure, which has the tightest bar.
const MORE_ROUNDS: usize = 5;
/// Clients of one blob.
const CLIENTS: usize = 50;
const SMALL_BLOBS: usize = 300;
const SMALL_CLIENTS: usize = 16;
/// But for distribution, which needs many times as long.
const SMALL_ROUNDS: usize = 9;

/// Makes every blob another one.
static SEED: AtomicU64 = AtomicU64::new(1000);

impl Setting {
    fn new_blob(&self, size: usize) -> String {
        self.content
            .blob(SEED.fetch_add(1, Ordering::Relaxed), size)
    }

    /// Larder, distribution, and the upstream itself.
    fn sources(&self, round: usize) -> [(usize, std::net::SocketAddr); 3] {
        let sources = [
            (0, self.larder.address),
            (1, self.distribution.address),
            (2, self.upstream.address),
        ];
        [0, 1, 2].map(|place| sources[(place + round) % 3])
    }
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    one_large(setting, report)?;
    over_several_connections(setting, report)?;
    over_a_shared_line(setting, report)?;
    one_for_many(setting, report)
}

/// An upstream that is as far away as most.
fn far(rate: Rate, ranges: bool) -> Manner {
    Manner {
        latency: Duration::from_millis(20),
        rate,
        ranges,
    }
}

fn one_large(setting: &Setting, report: &mut Report) -> Result<()> {
    setting
        .upstream
        .be(far(Rate::Each(100 * MIB as u64), false));
    let mut firsts = [const { Vec::new() }; 3];
    let mut wholes = [const { Vec::new() }; 3];
    for round in 0..MORE_ROUNDS {
        for (place, address) in setting.sources(round) {
            let digest = setting.new_blob(64 * MIB);
            let timing = get(address, &blob_path(&digest))?;
            firsts[place].push(timing.first_byte.as_secs_f64() * 1000.0);
            wholes[place].push(timing.whole.as_secs_f64() * 1000.0);
        }
    }
    let [larder, distribution, direct] = firsts.map(|values| median(&values));
    report.add(
        Row::new("cold 64 MiB blob, upstream 100 MiB/s and 20 ms: first byte ms")
            .values(larder, distribution, "direct", direct, 1)
            .no_more_than(direct + 5.0, "direct + 5 ms"),
    );
    let [larder, distribution, direct] = wholes.map(|values| median(&values));
    report.add(
        Row::new("cold 64 MiB blob, upstream 100 MiB/s and 20 ms: whole ms")
            .values(larder, distribution, "direct", direct, 0)
            .at_most(1.02, direct, "direct"),
    );
    Ok(())
}

/// Where a connection is what limits, several of them bring a large blob sooner, and each of its bytes once.
fn over_several_connections(setting: &Setting, report: &mut Report) -> Result<()> {
    let size = 64 * MIB;
    setting.upstream.be(far(Rate::Each(20 * MIB as u64), true));
    let mut wholes = [const { Vec::new() }; 3];
    let mut most = [0; 3];
    for round in 0..ROUNDS {
        for (place, address) in setting.sources(round) {
            let digest = setting.new_blob(size);
            let timing = get(address, &blob_path(&digest))?;
            wholes[place].push(timing.whole.as_secs_f64() * 1000.0);
            most[place] = most[place].max(setting.upstream.sent(&digest).bytes);
        }
    }
    let what = "cold 64 MiB blob, upstream with ranges, 20 MiB/s a connection and 20 ms";
    let [larder, distribution, direct] = wholes.map(|values| median(&values));
    report.add(
        Row::new(&format!("{what}: whole ms"))
            .values(larder, distribution, "direct", direct, 0)
            .at_most(0.5, direct, "direct"),
    );
    let times = |bytes: u64| anyhow::Ok(f64::from(u32::try_from(bytes / MIB as u64)?) / 64.0);
    let (larder, distribution) = (times(most[0])?, times(most[1])?);
    report.add(
        Row::new(&format!("{what}: fetched, times its size"))
            .two(format!("{larder:.2}"), format!("{distribution:.2}"))
            .judged(larder, 1.0, "1"),
    );
    Ok(())
}

/// Where all connections together are limited, several of them must cost nothing.
fn over_a_shared_line(setting: &Setting, report: &mut Report) -> Result<()> {
    setting
        .upstream
        .be(far(Rate::Shared(100 * MIB as u64), true));
    for size in [24, 64] {
        let mut wholes = [const { Vec::new() }; 3];
        for round in 0..MORE_ROUNDS {
            for (place, address) in setting.sources(round) {
                let digest = setting.new_blob(size * MIB);
                let timing = get(address, &blob_path(&digest))?;
                wholes[place].push(timing.whole.as_secs_f64() * 1000.0);
            }
        }
        let [larder, distribution, direct] = wholes.map(|values| median(&values));
        report.add(
            Row::new(&format!(
                "cold {size} MiB blob, upstream with ranges, 100 MiB/s in all and 20 ms: whole ms"
            ))
            .values(larder, distribution, "direct", direct, 0)
            .at_most(1.02, direct, "direct"),
        );
    }
    let mut wholes = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for (place, address) in setting.sources(round) {
            let path = blob_path(&setting.new_blob(64 * MIB));
            let timing = Client::connect(address)?.get_at(&path, 100 * MIB as u64)?;
            wholes[place].push(timing.whole.as_secs_f64() * 1000.0);
        }
    }
    let [larder, distribution, direct] = wholes.map(|values| median(&values));
    report.add(
        Row::new("the same 64 MiB by a client of 100 MiB/s: whole ms").values(
            larder,
            distribution,
            "direct",
            direct,
            0,
        ),
    );
    Ok(())
}

/// Many at a time, of the size of most layers.
pub(crate) fn many_small(setting: &Setting, report: &mut Report) -> Result<()> {
    setting.upstream.be(far(Rate::Unbounded, false));
    let mut times = [const { Vec::new() }; 3];
    // distribution comes last: it removes many small files, and some filesystems make new ones slowly for minutes after that.
    for (last, rounds) in [(false, SMALL_ROUNDS), (true, 1)] {
        for round in 0..rounds {
            let paths: Vec<String> = (0..SMALL_BLOBS)
                .map(|_| blob_path(&setting.new_blob(MIB)))
                .collect();
            let sources = setting.sources(round).into_iter();
            for (place, address) in sources.filter(|(place, _)| (*place == 1) == last) {
                // What is stored, and as much for all else that a server needs meanwhile.
                have_memory(setting, 2 * SMALL_BLOBS * MIB)?;
                times[place].push(all_of(&paths, address)?);
            }
        }
    }
    let [larder, distribution, direct] = times.map(|values| median(&values));
    report.add(
        Row::new("300 cold 1 MiB blobs, 16 clients, upstream 20 ms: all ms")
            .values(larder, distribution, "direct", direct, 0)
            .at_most(1.3, direct, "direct"),
    );
    Ok(())
}

/// Gets them with a few clients, and returns the milliseconds that it took.
fn all_of(paths: &[String], address: std::net::SocketAddr) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let begun = Instant::now();
    on_threads(SMALL_CLIENTS, |_| {
        let mut client = Client::connect(address)?;
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            client.get(path)?;
        }
        Ok(())
    })?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

fn one_for_many(setting: &Setting, report: &mut Report) -> Result<()> {
    setting.upstream.be(far(Rate::Each(20 * MIB as u64), false));
    let mut alone = [const { Vec::new() }; 2];
    let mut together = [const { Vec::new() }; 2];
    let mut gets = [0, 0];
    for round in 0..ROUNDS {
        for (place, address) in setting.sources(round) {
            if place == 2 {
                continue;
            }
            let digest = setting.new_blob(32 * MIB);
            let timing = get(address, &blob_path(&digest))?;
            alone[place].push(timing.whole.as_secs_f64() * 1000.0);
            let digest = setting.new_blob(32 * MIB);
            let path = blob_path(&digest);
            let last = Mutex::new(Duration::ZERO);
            on_threads(CLIENTS, |_| {
                let timing = get(address, &path)?;
                if let Ok(mut last) = last.lock() {
                    *last = timing.whole.max(*last);
                }
                Ok(())
            })?;
            let last = last.into_inner().unwrap_or_default();
            together[place].push(last.as_secs_f64() * 1000.0);
            gets[place] = gets[place].max(setting.upstream.sent(&digest).gets);
        }
    }
    let [larder_alone, distribution_alone] = alone.map(|values| median(&values));
    let [larder, distribution] = together.map(|values| median(&values));
    let what = "50 clients, one cold 32 MiB blob, upstream 20 MiB/s";
    report.add(
        Row::new(&format!("{what}: last client ms"))
            .two(
                format!("{larder:.0} (one client: {larder_alone:.0})"),
                format!("{distribution:.0} (one client: {distribution_alone:.0})"),
            )
            .judged(larder, 1.1 * larder_alone, "1.1 × one client"),
    );
    let [larder, distribution] = gets;
    report.add(
        Row::new(&format!("{what}: most GETs at the upstream"))
            .two(larder.to_string(), distribution.to_string())
            .judged(f64::from(u32::try_from(larder)?), 1.0, "1"),
    );
    Ok(())
}
