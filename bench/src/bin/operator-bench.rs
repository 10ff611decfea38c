//! What a thousand caches cost the operator: from nothing to all children, at rest, and after a restart. The control plane is
//! real, pods are made up, and everything shares the cores of this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench::section;
use e2e::cluster::{Cluster, Crowd, Looks};
use e2e::namespaces::{self, Side};
use e2e::programs::Build;
use e2e::{Progress, runner};

const LIMIT: Duration = Duration::from_mins(5);

/// How long nothing happens while reads and writes are counted.
const QUIET: Duration = Duration::from_secs(30);

/// The inner process's result in the state directory.
const RESULT: &str = "table";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (mut write, mut count, mut build) = (None, 1_000, Build::Optimised);
    for pair in arguments.chunks(2) {
        match pair {
            [flag, path] if flag == "--write" => write = Some(PathBuf::from(path)),
            [flag, number] if flag == "--caches" => {
                count = number
                    .parse()
                    .context("failed to read the number of caches")?;
            }
            [flag, name] if flag == "--build" && name == "quick" => build = Build::Quick,
            _ => bail!("usage: operator-bench [--caches NUMBER] [--build quick] [--write FILE]"),
        }
    }
    let progress: Progress<'_> = &|line| eprintln!("bench: {line}");
    match namespaces::side()? {
        Side::Outer => {
            Cluster::prepare_with(build, progress)?;
            let ended = namespaces::run_inside(Some(RESULT))?;
            let code = ended.exit_code();
            let table = ended.kept.context("the measure ended early")?;
            let table = String::from_utf8(table).context("the table is not UTF-8")?;
            println!("{table}");
            if let Some(path) = write {
                section::replace_operator_part(&path, &table)?;
            }
            Ok(code)
        }
        Side::Inner(state) => {
            runner::install_crypto();
            let table = measure(build, &state, count, progress)?;
            std::fs::write(state.join(RESULT), table).context("failed to write the table")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn measure(build: Build, state: &Path, count: u32, progress: Progress<'_>) -> Result<String> {
    let mut cluster = Cluster::start_with(build, state, progress)?;
    cluster.pause_workloads()?;
    progress("creating the caches");
    let crowd = Crowd::create(&cluster, "crowd", count)?;
    let mut rows = Vec::new();

    progress("starting the operator");
    let start = Instant::now();
    let operator = cluster.start_operator()?;
    let none = operator.metrics()?;
    crowd.wait_until_applied(&cluster, LIMIT)?;
    let applied = start.elapsed();
    progress(&format!(
        "all children after {:.1} s",
        applied.as_secs_f64()
    ));
    rows.push(row(
        &format!("{count} new caches: all children applied, s"),
        applied.as_secs_f64(),
        1,
        Some((60.0, "60 s")),
    ));
    rows.push(seconds(
        "operator's CPU until then, s",
        operator.processor_time()?,
    ));
    rows.push(row(
        "writes for each cache until then",
        operator.writes()? / f64::from(count),
        1,
        None,
    ));
    for written in operator.written_since(&none)? {
        progress(&format!("written until then: {written}"));
    }
    let start = Instant::now();
    cluster.resume_workloads()?;
    crowd.wait_until_ready(&cluster, LIMIT)?;
    rows.push(seconds(
        "pods may be made (they are made up): all caches ready, s",
        start.elapsed(),
    ));
    rows.push(seconds(
        "operator's CPU until then, s",
        operator.processor_time()?,
    ));
    let writes_of_each = operator.writes()? / f64::from(count);
    rows.push(row("writes for each cache", writes_of_each, 1, None));
    rows.push(row(
        "reads for each cache",
        operator.reads()? / f64::from(count),
        1,
        None,
    ));
    rows.push(memory(
        "most memory until then, MiB",
        operator.peak_memory()?,
    ));
    progress(&format!("ready; {writes_of_each:.1} writes for each"));

    crowd.settle(&cluster, &operator, LIMIT)?;
    let (reads, writes) = (operator.reads()?, operator.writes()?);
    crowd.look_at_all(&cluster, &operator, usize::MAX, LIMIT)?;
    // Not to wait for something: what is measured is that nothing happens.
    std::thread::sleep(QUIET);
    rows.push(row(
        "at rest, every cache looked at again: writes",
        operator.writes()? - writes,
        0,
        Some((0.0, "0")),
    ));
    rows.push(row(
        &format!(
            "at rest, every cache looked at again, and {} s more: reads",
            QUIET.as_secs()
        ),
        operator.reads()? - reads,
        0,
        None,
    ));
    rows.push(memory("memory at rest, MiB", operator.resident_memory()?));
    operator.terminate()?;

    restart(&mut cluster, &crowd, &mut rows, progress)?;
    crowded(&mut cluster, count, &mut rows, progress)?;
    Ok(format!(
        "| what | value | bar |\n|---|---|---|\n{}",
        rows.concat()
    ))
}

/// An operator that finds everything done.
fn restart(
    cluster: &mut Cluster,
    crowd: &Crowd,
    rows: &mut Vec<String>,
    progress: Progress<'_>,
) -> Result<()> {
    progress("starting the operator again");
    let start = Instant::now();
    let operator = cluster.start_operator()?;
    crowd.wait_until_looked_at(&operator, Looks::default(), LIMIT)?;
    rows.push(seconds(
        "after a restart: all caches looked at, s",
        start.elapsed(),
    ));
    rows.push(row(
        "after a restart: writes",
        operator.writes()?,
        0,
        Some((0.0, "0")),
    ));
    rows.push(row("after a restart: reads", operator.reads()?, 0, None));
    rows.push(memory(
        "after a restart: most memory, MiB",
        operator.peak_memory()?,
    ));
    operator.terminate().map(drop)
}

/// Caches whose pods are made, by Kubernetes on the same cores, as soon as they have a `StatefulSet`.
fn crowded(
    cluster: &mut Cluster,
    count: u32,
    rows: &mut Vec<String>,
    progress: Progress<'_>,
) -> Result<()> {
    progress("creating as many caches again");
    let crowd = Crowd::create(cluster, "more", count)?;
    let start = Instant::now();
    let operator = cluster.start_operator()?;
    crowd.wait_until_applied(cluster, LIMIT)?;
    rows.push(seconds(
        &format!("{count} more caches, while Kubernetes makes their pods: all children applied, s"),
        start.elapsed(),
    ));
    operator.terminate().map(drop)
}

/// A time that no bar is set for.
fn seconds(what: &str, time: Duration) -> String {
    row(what, time.as_secs_f64(), 1, None)
}

fn row(what: &str, value: f64, digits: usize, bar: Option<(f64, &str)>) -> String {
    let bar = bar.map_or_else(String::new, |(bound, name)| {
        let word = if value <= bound { "met" } else { "**missed**" };
        format!("≤ {name}: {word}")
    });
    format!("| {what} | {value:.digits$} | {bar} |\n")
}

#[expect(clippy::cast_precision_loss, reason = "kibibytes are exact enough")]
fn memory(what: &str, bytes: u64) -> String {
    let mebibytes = (bytes / 1024) as f64 / 1024.0;
    row(what, mebibytes, 1, Some((150.0, "150 MiB")))
}
