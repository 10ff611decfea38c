//! The conformance suite of the OCI distribution specification, and what it found.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::Tools;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Passed,
    Skipped,
    /// Missed, or the suite could not go on.
    Failed,
}

/// One check of the suite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// The path of the check, such as `sha256 blobs/post only/blob-get`.
    pub name: String,
    pub status: Status,
    /// Why it did not pass.
    pub reason: String,
}

/// Runs the suite for that version of the specification (`1.1` or `dev`) on the registry at `address`. `settings` are further
/// variables of the suite, without their `OCI_`.
pub fn run(
    tools: &Tools,
    address: &str,
    version: &str,
    settings: &[(&str, &str)],
    directory: &Path,
) -> Result<Vec<Check>> {
    let mut suite = Command::new(tools.path("conformance")?);
    suite
        .current_dir(directory)
        .env("OCI_REGISTRY", address)
        .env("OCI_TLS", "disabled")
        .env("OCI_VERSION", version)
        .env("OCI_RESULTS_DIR", directory);
    for (name, value) in settings {
        suite.env(format!("OCI_{name}"), value);
    }
    // Its code only says that something failed, which the results do too.
    suite
        .stdin(Stdio::null())
        .output()
        .context("failed to start the conformance suite")?;
    let path = directory.join("junit.xml");
    let results =
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
    let checks = read(&results);
    ensure!(!checks.is_empty(), "the suite made no check");
    Ok(checks)
}

/// Reads the checks from a results file: an element a line, with what would break a line escaped.
fn read(results: &str) -> Vec<Check> {
    let mut checks: Vec<Check> = Vec::new();
    for line in results.lines().map(str::trim_start) {
        if let Some(attributes) = line.strip_prefix("<testcase ") {
            let name = attribute(attributes, "name").unwrap_or_default();
            let name = name.split_once('/').map_or(name, |(_, name)| name);
            checks.push(Check {
                name: name.to_owned(),
                status: match attribute(attributes, "status") {
                    Some("passed") => Status::Passed,
                    Some("skipped") => Status::Skipped,
                    _ => Status::Failed,
                },
                reason: String::new(),
            });
        } else if let Some(reason) = line.strip_prefix("<system-out>")
            && let Some(check) = checks.last_mut()
        {
            reason
                .trim_end_matches("</system-out>")
                .clone_into(&mut check.reason);
        }
    }
    checks
}

fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let (_, value) = attributes.split_once(&format!("{name}=\""))?;
    value.split_once('"').map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::{Check, Status, read};

    #[test]
    fn checks_are_read_with_their_reasons() {
        let results = r#"<testsuites time="1" tests="3" skipped="1">
    <testcase name="OCI Conformance Test/ping" classname="" time="0.1" status="passed">
    </testcase>
    <testcase name="OCI Conformance Test/blobs/delete" classname="" time="0.1" status="skipped">
      <system-out>registry returned status 405</system-out>
    </testcase>
    <testcase name="OCI Conformance Test/blobs/get" classname="" time="0.1" status="error">
    </testcase>"#;
        let check = |name: &str, status, reason: &str| Check {
            name: name.to_owned(),
            status,
            reason: reason.to_owned(),
        };
        assert_eq!(
            read(results),
            [
                check("ping", Status::Passed, ""),
                check(
                    "blobs/delete",
                    Status::Skipped,
                    "registry returned status 405"
                ),
                check("blobs/get", Status::Failed, ""),
            ]
        );
    }
}
