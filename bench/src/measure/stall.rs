//! Files that are not in memory: what others wait for while they are read from the disk.

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Advice, fadvise};

use super::{ROUNDS, Setting, blob_path, files, get, in_turn, median, on_threads};
use crate::client::Client;
use crate::content;
use crate::report::{Report, Row};
use crate::slow_disk::SlowDisk;
use crate::target::{self, Target};

/// Each reads one of the blobs, which is not in memory.
const READERS: usize = 4;
/// What a disk of a cloud reads in a second.
const RATE: u64 = 100 << 20;
/// For two blobs in three stores.
const MEBIBYTES: u64 = 600;

pub(crate) fn measure(setting: &Setting, report: &mut Report) -> Result<()> {
    let place = setting.directory.join("slow");
    let Some(_disk) = SlowDisk::mount(&place, MEBIBYTES, RATE)? else {
        report.progress("this machine slows no disk down: stall is left out");
        return Ok(());
    };
    let stores = ["larder", "distribution", "nginx"].map(|name| place.join(name));
    for store in &stores {
        fs::create_dir_all(store).context("failed to create a directory")?;
    }
    let [larder, distribution, nginx] = &stores;
    let (address, files) = (
        setting.upstream.address,
        files(&setting.manifest, &setting.blobs),
    );
    let targets = [
        target::larder(larder, address, &setting.pair)?,
        target::distribution(distribution, address)?,
        target::nginx(nginx, &setting.content, &files, &setting.pair)?,
    ];
    for target in &targets {
        for digest in &setting.blobs {
            get(target.address, &blob_path(digest))?;
        }
    }
    let mut slowest = [const { Vec::new() }; 3];
    let mut whole = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        for (place, target) in in_turn(targets.each_ref(), round) {
            let [late, read] = round_of(setting, target, &stores[place])?;
            slowest[place].push(late);
            whole[place].push(read);
        }
    }
    let [larder, distribution, nginx] = slowest.map(|values| median(&values));
    report.add(
        Row::new("manifest while blobs come from a disk of 100 MiB/s, 4 clients: p99 ms")
            .values(larder, distribution, "nginx", nginx, 2)
            .at_most(1.0, nginx, "nginx"),
    );
    let [larder, distribution, nginx] = whole.map(|values| median(&values));
    report.add(
        Row::new("two 64 MiB blobs from a disk of 100 MiB/s, 4 clients: the last one ms").values(
            larder,
            distribution,
            "nginx",
            nginx,
            0,
        ),
    );
    Ok(())
}

/// In milliseconds: the 99th hundredth of the times of a manifest, and when the last blob was there.
fn round_of(setting: &Setting, target: &Target, store: &Path) -> Result<[f64; 2]> {
    let manifest = format!("/v2/bench/manifests/{}", setting.manifest);
    get(target.address, &manifest)?;
    let dropped = drop_large(store)?;
    ensure!(
        dropped >= setting.blobs.len(),
        "{}: {dropped} large files are known",
        target.name
    );
    let reading = AtomicUsize::new(READERS);
    let times = on_threads(READERS + 1, |number| {
        let mut client = Client::connect(target.address)?;
        if number < READERS {
            let path = blob_path(&setting.blobs[number % setting.blobs.len()]);
            let timing = client.get(&path);
            reading.fetch_sub(1, Ordering::SeqCst);
            return Ok(vec![timing?.whole]);
        }
        let mut times = Vec::with_capacity(8192);
        while reading.load(Ordering::SeqCst) > 0 {
            times.push(client.get(&manifest)?.whole);
        }
        Ok(times)
    })?;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let read = times[..READERS].iter().flatten().max();
    let mut manifests = times[READERS].clone();
    manifests.sort_unstable();
    let late = manifests.get(manifests.len() * 99 / 100);
    Ok([late, read].map(|time| time.copied().map_or(f64::NAN, milliseconds)))
}

/// Takes the large files below a directory out of memory, and counts them.
fn drop_large(directory: &Path) -> Result<usize> {
    let mut count = 0;
    let entries = fs::read_dir(directory)
        .with_context(|| format!("failed to read {}", directory.display()))?;
    for entry in entries {
        let entry = entry.context("failed to read a directory")?;
        let path = entry.path();
        let metadata = entry.metadata().context("failed to look at a file")?;
        if metadata.is_dir() {
            count += drop_large(&path)?;
        } else if metadata.len() >= content::LARGEST as u64 {
            let failed = || format!("failed to take {} out of memory", path.display());
            let file = File::open(&path).with_context(failed)?;
            // Only what is on the disk can go.
            file.sync_all().with_context(failed)?;
            fadvise(&file, 0, None, Advice::DontNeed).with_context(failed)?;
            count += 1;
        }
    }
    Ok(count)
}
