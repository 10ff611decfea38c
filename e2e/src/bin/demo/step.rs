//! What a person sees of a demo.

use std::io::Write as _;
use std::time::Instant;

use e2e::Progress;

/// Where the words of a long step go.
pub(crate) const PROGRESS: Progress<'static> = &|line| println!("    {line}");

/// A table, indented.
pub(crate) fn show(table: &str) {
    println!();
    for line in table.lines() {
        println!("        {line}");
    }
    println!();
}

/// An amount for people.
pub(crate) fn bytes(count: f64) -> String {
    format!("{:.1} MiB", count / 1_048_576.0)
}

/// A step that a person watches: what happens, then how long it took and what came of it.
pub(crate) struct Step {
    start: Instant,
}

impl Step {
    pub(crate) fn begin(what: &str) -> Self {
        println!("\n==> {what}");
        let _ = std::io::stdout().flush();
        Self {
            start: Instant::now(),
        }
    }

    pub(crate) fn end(self, outcome: &str) {
        let separator = if outcome.is_empty() { "" } else { ": " };
        println!(
            "    {:.1} s{separator}{outcome}",
            self.start.elapsed().as_secs_f64()
        );
    }
}
