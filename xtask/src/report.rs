//! Counts tests while their output passes by.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

/// What a test run counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    /// A run that ended badly, even if it counted no failure.
    pub(crate) broken_runs: u32,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.broken_runs += other.broken_runs;
    }

    pub(crate) fn is_good(self) -> bool {
        self.failed == 0 && self.broken_runs == 0 && self.passed > 0
    }
}

/// Runs a test command, shows its output, and adds up its closing lines.
pub(crate) fn run_tests(mut command: Command) -> Result<Counts> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("failed to start {command:?}"))?;
    let mut counts = Counts::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.with_context(|| format!("failed to read the output of {command:?}"))?;
            println!("{line}");
            if let Some((passed, failed)) = closing_line(&line) {
                counts.passed += passed;
                counts.failed += failed;
            }
        }
    }
    let status = child
        .wait()
        .with_context(|| format!("failed to wait for {command:?}"))?;
    if !status.success() {
        counts.broken_runs = 1;
    }
    Ok(counts)
}

/// `test result: ok. 12 passed; 0 failed; …`
fn closing_line(line: &str) -> Option<(u32, u32)> {
    let rest = line.strip_prefix("test result: ")?;
    let number = |word: &str| {
        rest.split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(word)?.trim().parse().ok())
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        assert_eq!(
            closing_line("test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured"),
            Some((12, 0))
        );
        assert_eq!(
            closing_line("test result: FAILED. 1 passed; 2 failed; 0 ignored"),
            Some((1, 2))
        );
        assert_eq!(closing_line("test a ... ok"), None);
    }
}
