//! House rules that a plain look can check.

use anyhow::{Result, ensure};

use super::rust_files;

const MOST_LINES: usize = 500;
const FORBIDDEN: [(&str, &str); 4] = [
    ("#[ignore", "no test is ignored"),
    ("todo!(", "no stub is landed"),
    ("unimplemented!(", "no stub is landed"),
    ("#[allow(", "use #[expect(…, reason = …)]"),
];

/// Every file opens with `//!`, stays under the limit without its tests, and has none of the forbidden marks.
pub(super) fn check() -> Result<()> {
    let mut findings = Vec::new();
    for file in rust_files::all()? {
        if file.path == "xtask/src/check/style.rs" {
            continue;
        }
        let lines = file.code().count();
        if lines > MOST_LINES && !file.is_test() {
            findings.push(format!(
                "{}: {lines} lines without tests; {MOST_LINES} at most",
                file.path
            ));
        }
        if !file.is_test() && !file.text.starts_with("//!") {
            findings.push(format!(
                "{}:1: begin with //! and say what the file is for",
                file.path
            ));
        }
        for (number, line) in file.text.lines().enumerate() {
            for (mark, reason) in FORBIDDEN {
                if line.contains(mark) {
                    findings.push(format!("{}:{}: {mark}: {reason}", file.path, number + 1));
                }
            }
        }
    }
    ensure!(findings.is_empty(), "{}", findings.join("\n"));
    Ok(())
}
