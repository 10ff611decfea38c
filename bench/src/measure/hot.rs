//! Large blobs that every server has: what a byte costs.

use std::time::Instant;

use anyhow::{Context, Result};

use super::{ROUNDS, Setting, blob_path, get, median, on_threads};
use crate::client::Client;
use crate::report::{Report, Row};
use crate::secure::SecureClient;
use crate::target::Target;

const CLIENTS: usize = 8;
/// Downloads of each client in a round.
const DOWNLOADS: usize = 4;

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    for target in [&setting.larder, &setting.distribution, &setting.nginx] {
        for _ in 0..2 {
            for digest in &setting.blobs {
                get(target.address, &blob_path(digest))?;
            }
        }
        target.program.forget_peak();
    }
    let mut costs = [const { Vec::new() }; 3];
    let mut speeds = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for (place, target) in setting.targets(round) {
            let (cost, speed) = round_of(setting, target)?;
            costs[place].push(cost);
            speeds[place].push(speed);
        }
    }
    let [larder, distribution, nginx] = costs.map(|values| median(&values));
    report.add(
        Row::new("hot 64 MiB blobs, 8 clients: server CPU s/GiB")
            .values(larder, distribution, "nginx", nginx, 2)
            .at_most(1.0, nginx, "nginx"),
    );
    let [larder, distribution, nginx] = speeds.map(|values| median(&values));
    report.add(Row::new("hot 64 MiB blobs, 8 clients: MiB/s").values(
        larder,
        distribution,
        "nginx",
        nginx,
        0,
    ));
    let peak = |target: &Target| target.program.memory("VmHWM");
    report.add(
        Row::new("hot 64 MiB blobs, 8 clients: peak RSS MiB").values(
            peak(&setting.larder)?,
            peak(&setting.distribution)?,
            "nginx",
            peak(&setting.nginx)?,
            1,
        ),
    );
    over_tls(setting, report)
}

/// The same over TLS, without distribution, which has one port.
fn over_tls(setting: &Setting, report: &mut Report) -> Result<()> {
    let mut costs = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (place, target) in [(0, &setting.larder), (1, &setting.nginx)] {
            costs[place].push(secure_round_of(setting, target)?);
        }
    }
    let [larder, nginx] = costs.map(|values| median(&values));
    report.add(
        Row::new("hot 64 MiB blobs over TLS, 8 clients: server CPU s/GiB").values(
            larder,
            f64::NAN,
            "nginx",
            nginx,
            2,
        ),
    );
    Ok(())
}

fn secure_round_of(setting: &Setting, target: &Target) -> Result<f64> {
    let address = target.secure.context("it speaks no TLS")?;
    let cpu = target.program.cpu()?;
    let bytes: u64 = on_threads(CLIENTS, |number| {
        let mut client = SecureClient::connect(address, &setting.pair)?;
        client.get(&blob_path(&setting.blobs[number % setting.blobs.len()]))
    })?
    .into_iter()
    .sum();
    let cpu = target.program.cpu_since(cpu)?;
    let gib = f64::from(u32::try_from(bytes >> 20)?) / 1024.0;
    Ok(cpu / gib)
}

/// Processor seconds for a GiB, and MiB in a second.
fn round_of(setting: &Setting, target: &Target) -> Result<(f64, f64)> {
    let (cpu, begun) = (target.program.cpu()?, Instant::now());
    let bytes: u64 = on_threads(CLIENTS, |number| {
        let mut client = Client::connect(target.address)?;
        let path = blob_path(&setting.blobs[number % setting.blobs.len()]);
        (0..DOWNLOADS)
            .map(|_| client.get(&path).map(|timing| timing.bytes))
            .sum::<Result<u64>>()
    })?
    .into_iter()
    .sum();
    let took = begun.elapsed().as_secs_f64();
    let cpu = target.program.cpu_since(cpu)?;
    let gib = f64::from(u32::try_from(bytes >> 20)?) / 1024.0;
    Ok((cpu / gib, gib * 1024.0 / took))
}
