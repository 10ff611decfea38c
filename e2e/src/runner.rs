//! Runs cases one after the other on a shared [`Setting`], and prints as Rust's own test runner does.
//!
//! The outer process prepares, looks for leftovers when everything has ended and prints the closing line; the inner one runs
//! the cases in between and leaves its results in a file.

mod arguments;
mod report;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use crate::namespaces::{self, Side};
use crate::{Progress, command};
use arguments::Arguments;
use report::Report;

/// What the cases of one test target share.
pub trait Setting: Sized {
    /// Files and directories of the state directory that are worth reading when a case has failed.
    const LOGS: &'static [&'static str];

    /// Gets what has to be there before the process moves into a network without a way out.
    fn prepare(progress: Progress<'_>) -> Result<()>;

    /// Starts everything below the state directory, inside the namespaces.
    fn start(state: &Path, progress: Progress<'_>) -> Result<Self>;

    /// Fails when a part that should run has ended.
    fn check_running(&mut self) -> Result<()>;

    /// Puts next to the logs what can be seen only now that the case has failed.
    fn write_down(&self, case: &str);
}

/// One test on a setting.
#[derive(Debug)]
pub struct Case<S> {
    pub name: &'static str,
    pub run: fn(&mut S) -> Result<()>,
}

/// `cases![first, module::second]`: a slice of [`Case`]s named after their functions.
#[macro_export]
macro_rules! cases {
    ($($run:path),* $(,)?) => {
        &[$($crate::runner::Case { name: stringify!($run), run: $run }),*]
    };
}

/// The case that the outer process adds when everything has ended.
const NOTHING_IS_LEFT: &str = "nothing_is_left_on_the_machine";

/// What fails when no case could be run.
const SETTING_STARTS: &str = "setting_starts";

/// The inner process's results in the state directory.
const RESULTS: &str = "results.json";

/// Where the logs are copied to when a case has failed; without it they go with the state directory.
const LOGS: &str = "LARDER_NODE_LOGS";

/// The whole of a test target's `main`.
pub fn main<S: Setting>(cases: &[Case<S>]) -> ExitCode {
    match try_main(cases) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_main<S: Setting>(cases: &[Case<S>]) -> Result<ExitCode> {
    let arguments = Arguments::parse(std::env::args().skip(1));
    let chosen: Vec<&Case<S>> = cases
        .iter()
        .filter(|case| arguments.choose(case.name))
        .collect();
    if arguments.list {
        for case in chosen {
            println!("{}: test", case.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let start = Instant::now();
    let progress: Progress<'_> =
        &|line| eprintln!("{:7.1} s  {line}", start.elapsed().as_secs_f64());
    match namespaces::side()? {
        Side::Outer => Ok(run_outer(&chosen, cases.len() - chosen.len(), progress)),
        Side::Inner(state) => {
            run_inner(&chosen, &state, progress)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_outer<S: Setting>(
    cases: &[&Case<S>],
    filtered_out: usize,
    progress: Progress<'_>,
) -> ExitCode {
    let mut report = Report::new(filtered_out);
    if cases.is_empty() {
        Report::print_start(0);
    } else {
        Report::print_start(cases.len() + 1);
        run_in_namespaces::<S>(&mut report, progress)
            .unwrap_or_else(|error| report.record(SETTING_STARTS, Err(error)));
    }
    report.print_end();
    if report.has_failures() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn run_in_namespaces<S: Setting>(report: &mut Report, progress: Progress<'_>) -> Result<()> {
    S::prepare(progress)?;
    let ended = namespaces::run_inside(Some(RESULTS))?;
    let results = ended
        .kept
        .with_context(|| format!("the cases ended early, with {}", ended.status))?;
    report.add(serde_json::from_slice(&results).context("failed to read the results")?);
    let clean = if ended.leftovers.is_empty() {
        Ok(())
    } else {
        Err(anyhow!("left on the machine: {}", ended.leftovers))
    };
    report.record(NOTHING_IS_LEFT, clean);
    Ok(())
}

fn run_inner<S: Setting>(cases: &[&Case<S>], state: &Path, progress: Progress<'_>) -> Result<()> {
    install_crypto();
    let mut setting = S::start(state, progress).inspect_err(|_| copy_logs::<S>(state))?;
    let mut report = Report::new(0);
    for case in cases {
        progress(case.name);
        // A panic ends the case only, as it would in a test of the language's own runner.
        let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&mut setting)))
            .unwrap_or_else(|_| Err(anyhow!("the case panicked")));
        let outcome = outcome.and_then(|()| setting.check_running().context("after the case"));
        if outcome.is_err() {
            setting.write_down(&case.name.replace("::", "-"));
        }
        report.record(case.name, outcome);
    }
    if report.has_failures() {
        copy_logs::<S>(state);
    }
    let results = serde_json::to_vec(report.results()).context("failed to write the results")?;
    std::fs::write(state.join(RESULTS), results).context("failed to write the results")
}

/// One provider for all clients of this process, as the workspace builds them without one.
pub fn install_crypto() {
    // An error only says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn copy_logs<S: Setting>(state: &Path) {
    let Some(target) = std::env::var_os(LOGS) else {
        return;
    };
    let copied = std::fs::create_dir_all(&target)
        .map_err(anyhow::Error::from)
        .and_then(|()| {
            let mut copy = Command::new("cp");
            copy.arg("-r");
            let logs = S::LOGS.iter().map(|log| state.join(log));
            copy.args(logs.filter(|log| log.exists()));
            command::output(copy.arg("-t").arg(&target)).map(drop)
        });
    if let Err(error) = copied {
        let _ = writeln!(std::io::stderr(), "failed to copy the logs: {error:#}");
    }
}
