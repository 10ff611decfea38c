//! Small answers, by digest and by tag: how many and how soon.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::{Setting, get, median, on_threads};
use crate::client::Client;
use crate::report::{Report, Row};
use crate::target::Target;
use crate::upstream::{Manner, Rate};

const CLIENTS: usize = 32;
/// Many short rounds: a machine that slows down for seconds must not meet one server more than another. One round's ratio of two
/// servers is off by eight hundredths in the standard deviation, the middle of so many by one and a half; runs differ by some more.
const TIME: Duration = Duration::from_millis(300);
const ROUNDS: usize = 45;

/// What one round says of a server.
struct Seen {
    /// Requests in a second.
    rate: f64,
    /// Processor microseconds for each request.
    cost: f64,
    /// The middle of the requests' times in milliseconds.
    middle: f64,
    /// The 99th hundredth of them.
    slowest: f64,
}

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    setting.upstream.be(Manner {
        latency: Duration::ZERO,
        rate: Rate::Unbounded,
        ranges: false,
    });
    let path = |reference: &str| format!("/v2/bench/manifests/{reference}");
    several(
        setting,
        report,
        "manifest by digest",
        &path(&setting.manifest),
    )?;
    several(setting, report, "manifest by tag", &path("v1"))?;
    pings(setting, report)
}

fn several(setting: &Setting, report: &mut Report, what: &str, path: &str) -> Result<()> {
    let rounds = rounds(setting, path)?;
    let what = format!("{what}, {CLIENTS} clients");
    let [larder, distribution, nginx] = medians(&rounds, |seen| seen.rate);
    report.add(
        Row::new(&format!("{what}: requests/s"))
            .values(larder, distribution, "nginx", nginx, 0)
            .at_least(1.0, &ratios(&rounds), "nginx"),
    );
    let [larder, distribution, nginx] = medians(&rounds, |seen| seen.cost);
    report.add(Row::new(&format!("{what}: server CPU µs/request")).values(
        larder,
        distribution,
        "nginx",
        nginx,
        1,
    ));
    let [larder, middle, nginx] = medians(&rounds, |seen| seen.middle);
    report.add(Row::new(&format!("{what}: p50 ms")).values(larder, middle, "nginx", nginx, 2));
    let [larder, distribution, nginx] = medians(&rounds, |seen| seen.slowest);
    report.add(
        Row::new(&format!("{what}: p99 ms"))
            .values(larder, distribution, "nginx", nginx, 2)
            .at_most(1.0, middle, "distribution's p50"),
    );
    Ok(())
}

/// What clients ask first, and probes all the time.
fn pings(setting: &Setting, report: &mut Report) -> Result<()> {
    let rounds = rounds(setting, "/v2/")?;
    for (unit, digits, [larder, distribution, nginx]) in [
        ("requests/s", 0, medians(&rounds, |seen| seen.rate)),
        (
            "server CPU µs/request",
            1,
            medians(&rounds, |seen| seen.cost),
        ),
    ] {
        let what = format!("ping of /v2/, {CLIENTS} clients: {unit}");
        report.add(Row::new(&what).values(larder, distribution, "nginx", nginx, digits));
    }
    Ok(())
}

/// What each round says of Larder, distribution and nginx.
fn rounds(setting: &Setting, path: &str) -> Result<Vec<[Seen; 3]>> {
    for target in [&setting.larder, &setting.distribution, &setting.nginx] {
        get(target.address, path)?;
        get(target.address, path)?;
    }
    let one = |round| {
        let mut seen = [const { None }; 3];
        for (place, target) in setting.targets(round) {
            seen[place] = Some(round_of(target, path)?);
        }
        let [Some(larder), Some(distribution), Some(nginx)] = seen else {
            bail!("a server had no turn");
        };
        Ok([larder, distribution, nginx])
    };
    (0..ROUNDS).map(one).collect()
}

/// Of each server, the value in the middle.
fn medians(rounds: &[[Seen; 3]], value: impl Fn(&Seen) -> f64) -> [f64; 3] {
    [0, 1, 2].map(|place| {
        let values: Vec<f64> = rounds.iter().map(|seen| value(&seen[place])).collect();
        median(&values)
    })
}

/// Larder's rate over nginx's in each round, when the machine was as quick for both.
fn ratios(rounds: &[[Seen; 3]]) -> Vec<f64> {
    let ratio = |[larder, _, nginx]: &[Seen; 3]| larder.rate / nginx.rate;
    rounds.iter().map(ratio).collect()
}

fn round_of(target: &Target, path: &str) -> Result<Seen> {
    let (cpu, begun) = (target.program.cpu()?, Instant::now());
    let mut times: Vec<Duration> = on_threads(CLIENTS, |_| {
        let mut client = Client::connect(target.address)?;
        let mut times = Vec::with_capacity(8192);
        while begun.elapsed() < TIME {
            times.push(client.get(path)?.whole);
        }
        Ok(times)
    })?
    .concat();
    let took = begun.elapsed().as_secs_f64();
    let cpu = target.program.cpu_since(cpu)? * 1e6;
    times.sort_unstable();
    let at = |hundredth: usize| {
        let time = times.get(times.len() * hundredth / 100);
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    let count = f64::from(u32::try_from(times.len())?);
    Ok(Seen {
        rate: count / took,
        cost: cpu / count,
        middle: at(50),
        slowest: at(99),
    })
}
