//! Prometheus' own tool for rules.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command;
use crate::tools::packages;

/// Has it read `rules`, and try them with `cases`, which call that file `rules.yaml`.
pub fn try_rules(rules: &str, cases: &str) -> Result<()> {
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    for (name, text) in [("rules.yaml", rules), ("alerts.yaml", cases)] {
        fs::write(directory.path().join(name), text)
            .with_context(|| format!("failed to write {name}"))?;
    }
    packages::unpack(packages::PROMETHEUS, directory.path())?;
    for arguments in [
        ["check", "rules", "rules.yaml"],
        ["test", "rules", "alerts.yaml"],
    ] {
        let mut promtool = Command::new(directory.path().join("usr/bin/promtool"));
        let said = command::output(promtool.current_dir(&directory).args(arguments))?;
        ensure!(said.contains("SUCCESS"), "promtool says: {said}");
    }
    Ok(())
}
