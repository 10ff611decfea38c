//! Small answers, by digest and by tag: how many and how soon.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::{Setting, get, median, on_threads};
use crate::client::Client;
use crate::report::{Report, Row};
use crate::target::Target;
use crate::upstream::{Manner, Rate};

const CLIENTS: usize = 32;
/// Many short rounds: a machine that slows down for seconds must not meet one server more than another.
const TIME: Duration = Duration::from_millis(300);
const ROUNDS: usize = 15;

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    setting.upstream.be(Manner {
        latency: Duration::ZERO,
        rate: Rate::Unbounded,
        ranges: false,
    });
    for (name, reference) in [("digest", setting.manifest.as_str()), ("tag", "v1")] {
        let path = format!("/v2/bench/manifests/{reference}");
        let mut rates = [const { Vec::new() }; 3];
        let mut middles = [const { Vec::new() }; 3];
        let mut slowest = [const { Vec::new() }; 3];
        let mut costs = [const { Vec::new() }; 3];
        for target in [&setting.larder, &setting.distribution, &setting.nginx] {
            get(target.address, &path)?;
            get(target.address, &path)?;
        }
        for round in 0..ROUNDS {
            for (place, target) in setting.targets(round) {
                let [rate, p50, p99, cost] = round_of(target, &path)?;
                rates[place].push(rate);
                middles[place].push(p50);
                slowest[place].push(p99);
                costs[place].push(cost);
            }
        }
        let [larder, distribution, nginx] = rates.map(|values| median(&values));
        report.add(
            Row::new(&format!("manifest by {name}, 32 clients: requests/s"))
                .values(larder, distribution, "nginx", nginx, 0)
                .at_least(1.0, nginx, "nginx"),
        );
        let [larder, distribution, nginx] = costs.map(|values| median(&values));
        report.add(
            Row::new(&format!(
                "manifest by {name}, 32 clients: server CPU µs/request"
            ))
            .values(larder, distribution, "nginx", nginx, 1),
        );
        let [larder, middle, nginx] = middles.map(|values| median(&values));
        report.add(
            Row::new(&format!("manifest by {name}, 32 clients: p50 ms"))
                .values(larder, middle, "nginx", nginx, 2),
        );
        let [larder, distribution, nginx] = slowest.map(|values| median(&values));
        report.add(
            Row::new(&format!("manifest by {name}, 32 clients: p99 ms"))
                .values(larder, distribution, "nginx", nginx, 2)
                .at_most(1.0, middle, "distribution's p50"),
        );
    }
    Ok(())
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
