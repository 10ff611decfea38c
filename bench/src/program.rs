//! A server under test: a process with its children, and what the kernel says of them.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running program. Dropping it ends it, by its process number.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
}

impl Program {
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let output =
            File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
        let errors = output.try_clone().context("failed to share a log")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { child })
    }

    pub(crate) fn check_running(&mut self) -> Result<()> {
        if let Some(status) = self
            .child
            .try_wait()
            .context("failed to look after a server")?
        {
            bail!("it ended with {status}");
        }
        Ok(())
    }

    /// The process and those that it started.
    fn processes(&self) -> Vec<u32> {
        let main = self.child.id();
        let children = fs::read_to_string(format!("/proc/{main}/task/{main}/children"));
        let mut processes = vec![main];
        processes.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|number| number.parse::<u32>().ok()),
        );
        processes
    }

    /// Processor time used so far.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let mut ticks = 0;
        for process in self.processes() {
            let text = fs::read_to_string(format!("/proc/{process}/stat"))
                .context("failed to read a server's times")?;
            // After the name, which may hold anything: state is the first, utime and stime the 12th and 13th.
            let (_, fields) = text.rsplit_once(')').context("a strange stat file")?;
            ticks += fields
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|field| field.parse::<u64>().ok())
                .sum::<u64>();
        }
        let per_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(ticks * 1000 / per_second.max(1)))
    }

    /// Processor seconds since it had used `before`.
    pub(crate) fn cpu_since(&self, before: Duration) -> Result<f64> {
        Ok(self.cpu()?.saturating_sub(before).as_secs_f64())
    }

    /// Memory in MiB, by the name of a line of `status`: `VmRSS` is now, `VmHWM` the peak.
    pub(crate) fn memory(&self, line: &str) -> Result<f64> {
        let mut kibibytes = 0;
        for process in self.processes() {
            let text = fs::read_to_string(format!("/proc/{process}/status"))
                .context("failed to read a server's memory")?;
            kibibytes += text
                .lines()
                .find_map(|found| found.strip_prefix(line)?.strip_prefix(':'))
                .and_then(|value| value.split_whitespace().next()?.parse::<u32>().ok())
                .unwrap_or(0);
        }
        Ok(f64::from(kibibytes) / 1024.0)
    }

    /// Makes the peak begin anew.
    pub(crate) fn forget_peak(&self) {
        for process in self.processes() {
            // Without the right to, the peak is that of the whole run.
            let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Asked, not killed: a master that is killed leaves its workers.
        let number = i32::try_from(self.child.id()).ok();
        if let Some(process) = number.and_then(Pid::from_raw) {
            let _ = kill_process(process, Signal::TERM);
        }
        for _ in 0..100 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
