//! Small answers, by digest and by tag: how many and how soon.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Setting, get, median, on_threads};
use crate::client::Client;
use crate::report::{Report, Row};
use crate::target::Target;
use crate::upstream::{Manner, Rate};

const CLIENTS: usize = 32;
/// Many short rounds: a machine that slows down for seconds must not meet one server more than another. One round's ratio of two
/// servers is off by eight hundredths in the standard deviation, the middle of so many by one and a half.
const TIME: Duration = Duration::from_millis(300);
const ROUNDS: usize = 45;

/// What the rounds say of the three servers: requests in a second, processor microseconds for each, and the middle and the 99th
/// hundredth of their times in milliseconds.
struct Rounds {
    rates: Vec<[f64; 3]>,
    costs: Vec<[f64; 3]>,
    middles: Vec<[f64; 3]>,
    slowest: Vec<[f64; 3]>,
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
    let [larder, distribution, nginx] = medians(&rounds.rates);
    report.add(
        Row::new(&format!("{what}: requests/s"))
            .values(larder, distribution, "nginx", nginx, 0)
            .at_least(1.0, &ratios(&rounds.rates), "nginx"),
    );
    let [larder, distribution, nginx] = medians(&rounds.costs);
    report.add(Row::new(&format!("{what}: server CPU µs/request")).values(
        larder,
        distribution,
        "nginx",
        nginx,
        1,
    ));
    let [larder, middle, nginx] = medians(&rounds.middles);
    report.add(Row::new(&format!("{what}: p50 ms")).values(larder, middle, "nginx", nginx, 2));
    let [larder, distribution, nginx] = medians(&rounds.slowest);
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
    for (unit, digits, values) in [
        ("requests/s", 0, &rounds.rates),
        ("server CPU µs/request", 1, &rounds.costs),
    ] {
        let [larder, distribution, nginx] = medians(values);
        let what = format!("ping of /v2/, {CLIENTS} clients: {unit}");
        report.add(Row::new(&what).values(larder, distribution, "nginx", nginx, digits));
    }
    Ok(())
}

fn rounds(setting: &Setting, path: &str) -> Result<Rounds> {
    for target in [&setting.larder, &setting.distribution, &setting.nginx] {
        get(target.address, path)?;
        get(target.address, path)?;
    }
    let mut measured = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        let mut of_all = [[f64::NAN; 3]; 4];
        for (place, target) in setting.targets(round) {
            let [rate, p50, p99, cost] = round_of(target, path)?;
            for (values, value) in of_all.iter_mut().zip([rate, cost, p50, p99]) {
                values[place] = value;
            }
        }
        for (all, values) in measured.iter_mut().zip(of_all) {
            all.push(values);
        }
    }
    let [rates, costs, middles, slowest] = measured;
    Ok(Rounds {
        rates,
        costs,
        middles,
        slowest,
    })
}

/// Of each server, the value in the middle.
fn medians(rounds: &[[f64; 3]]) -> [f64; 3] {
    [0, 1, 2].map(|place| {
        let values: Vec<f64> = rounds.iter().map(|values| values[place]).collect();
        median(&values)
    })
}

/// Larder's value over nginx's in each round, when the machine was as quick for both.
fn ratios(rounds: &[[f64; 3]]) -> Vec<f64> {
    let ratio = |[larder, _, nginx]: &[f64; 3]| larder / nginx;
    rounds.iter().map(ratio).collect()
}

/// Requests in a second, the middle and the 99th hundredth of their times in milliseconds, and processor microseconds for
/// each.
fn round_of(target: &Target, path: &str) -> Result<[f64; 4]> {
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
    Ok([count / took, at(50), at(99), cpu / count])
}
