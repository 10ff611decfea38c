//! docs/faults.md names tests as proof: each must exist.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::rust_files;
use crate::command::root;

/// Every row of the tables names a test in its last column, and each of those is a function of a Rust file.
pub(super) fn check() -> Result<()> {
    let path = root().join("docs/faults.md");
    let page =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let files = rust_files::all()?;
    let exists = |name: &str| {
        let function = format!("fn {name}(");
        files.iter().any(|file| file.text.contains(&function))
    };
    let findings = findings(&page, exists);
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}

fn findings(page: &str, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let Some(row) = line
            .strip_prefix("| ")
            .and_then(|row| row.strip_suffix(" |"))
        else {
            continue;
        };
        let tests = row.rsplit(" | ").next().unwrap_or_default();
        if tests == "tests" {
            continue;
        }
        let names: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            findings.push(format!("docs/faults.md:{}: names no test", index + 1));
        }
        for name in names.into_iter().filter(|name| !exists(name)) {
            findings.push(format!(
                "docs/faults.md:{}: there is no test {name}",
                index + 1
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_test_that_exists_are_found() {
        let page = "| fault | tests |\n|---|---|\n| a | `one`, `two` |\n| b | none |\n";
        assert_eq!(
            findings(page, |name| name == "one"),
            [
                "docs/faults.md:3: there is no test two",
                "docs/faults.md:4: names no test"
            ]
        );
    }
}
