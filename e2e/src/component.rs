//! One long-running program with its log file.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How many log lines an error quotes.
const LAST_LINES: usize = 15;

/// A program that runs until it is dropped or stopped.
#[derive(Debug)]
pub struct Component {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Component {
    /// Starts `command` with both outputs appended to `log`.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let output = append_to(log)?;
        let errors = output
            .try_clone()
            .with_context(|| format!("failed to share {}", log.display()))?;
        Self::start_with_outputs(name, command, log, output, errors)
    }

    /// Starts `command` with standard output and standard error in files of their own; the latter is its log.
    pub fn start_with_two_logs(
        name: &'static str,
        command: &mut Command,
        output: &Path,
        log: &Path,
    ) -> Result<Self> {
        Self::start_with_outputs(name, command, log, append_to(output)?, append_to(log)?)
    }

    fn start_with_outputs(
        name: &'static str,
        command: &mut Command,
        log: &Path,
        output: File,
        errors: File,
    ) -> Result<Self> {
        // A process group of its own: a Ctrl-C in a terminal is for the one outer process, which then ends them all.
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        let log = log.to_owned();
        Ok(Self { name, child, log })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Fails when the program has ended, with the last lines that it logged.
    pub fn check_running(&mut self) -> Result<()> {
        let Some(status) = self
            .child
            .try_wait()
            .with_context(|| format!("failed to look after {}", self.name))?
        else {
            return Ok(());
        };
        bail!(
            "{} ended with {status}; its last lines were:\n{}",
            self.name,
            last_lines(&self.log)
        );
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the program to end (SIGTERM), and waits until it has.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("failed to end {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("failed to wait for {}", self.name))
    }

    /// Ends the program at once and waits until it is gone.
    pub fn stop(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("failed to end {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("failed to wait for {}", self.name))?;
        Ok(())
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // Nobody is left to hear of a failure, and the namespace ends what this does not.
        let _ = self.stop();
    }
}

fn append_to(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::Component;
    use crate::wait;

    #[test]
    fn the_error_of_an_ended_component_quotes_its_log() {
        let directory = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo no such flag; exit 3"]);
        let mut component =
            Component::start("etcd", &mut shell, &directory.path().join("log")).unwrap();
        let mut error = String::new();
        wait::until_true("the shell to end", Duration::from_secs(20), || {
            let outcome = component.check_running();
            error = outcome
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            !error.is_empty()
        })
        .unwrap();
        assert!(
            error.starts_with("etcd ended with exit status: 3"),
            "{error}"
        );
        assert!(error.ends_with("no such flag"), "{error}");
    }
}
