//! Results, and how they are printed.

use std::time::Instant;

use anyhow::Result;
use serde::{Deserialize, Serialize};

/// How one case went; an empty error is success.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    name: String,
    error: Option<String>,
}

#[derive(Debug)]
pub(super) struct Report {
    start: Instant,
    filtered_out: usize,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(filtered_out: usize) -> Self {
        Self {
            start: Instant::now(),
            filtered_out,
            outcomes: Vec::new(),
        }
    }

    pub(super) fn results(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// Adds what another process has recorded and printed.
    pub(super) fn add(&mut self, outcomes: Vec<Outcome>) {
        self.outcomes.extend(outcomes);
    }

    /// Adds a result and prints its line.
    pub(super) fn record(&mut self, name: &str, outcome: Result<()>) {
        let error = outcome.err().map(|error| format!("{error:#}"));
        println!(
            "test {name} ... {}",
            if error.is_none() { "ok" } else { "FAILED" }
        );
        if let Some(error) = &error {
            // At once, because the cases behind may take minutes.
            eprintln!("{error}");
        }
        self.outcomes.push(Outcome {
            name: name.to_owned(),
            error,
        });
    }

    pub(super) fn has_failures(&self) -> bool {
        self.failures().next().is_some()
    }

    pub(super) fn print_start(count: usize) {
        println!(
            "\nrunning {count} test{}",
            if count == 1 { "" } else { "s" }
        );
    }

    pub(super) fn print_end(&self) {
        let failed = self.failures().count();
        if failed > 0 {
            println!("\nfailures:\n");
            for (name, error) in self.failures() {
                println!("---- {name} ----\n{error}\n");
            }
        }
        println!(
            "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if failed == 0 { "ok" } else { "FAILED" },
            self.outcomes.len() - failed,
            self.filtered_out,
            self.start.elapsed().as_secs_f64(),
        );
    }

    fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.outcomes
            .iter()
            .filter_map(|outcome| Some((outcome.name.as_str(), outcome.error.as_deref()?)))
    }
}
