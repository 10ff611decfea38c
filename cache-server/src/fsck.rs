//! `cache-server fsck`: reads a whole store and says which content is not what its name says. A server may be running on it.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::storage::{Error, Store, Verdict};

/// How often progress is said.
const EVERY: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    pub checked: u64,
    pub bytes: u64,
    pub wrong: u64,
    pub repaired: u64,
}

impl Report {
    /// Whether the store is right now.
    pub fn is_right(&self) -> bool {
        self.wrong == self.repaired
    }
}

/// Checks. `repair`: what is wrong is moved to `quarantine/`.
pub fn run(root: &Path, repair: bool) -> Result<Report, Error> {
    let store = Store::look_into(root, Clock::default())?;
    let mut report = Report::default();
    let mut said = Instant::now();
    store.each_content(&mut |digest, _| {
        let verdict = store.verify(&digest, &mut |count| {
            report.bytes += count as u64;
            if said.elapsed() >= EVERY {
                said = Instant::now();
                say(&format!(
                    "{} checked, {} MiB",
                    report.checked,
                    report.bytes >> 20
                ));
            }
            true
        })?;
        report.checked += 1;
        if verdict == Verdict::Wrong {
            report.wrong += 1;
            println!("wrong: {digest}");
            if repair {
                store.quarantine(&digest)?;
                report.repaired += 1;
            }
        }
        Ok(true)
    })?;
    say(&format!(
        "{} checked, {} MiB; {} wrong, {} moved to quarantine",
        report.checked,
        report.bytes >> 20,
        report.wrong,
        report.repaired
    ));
    Ok(report)
}

fn say(text: &str) {
    // Nobody needs to read it.
    let _ = writeln!(std::io::stderr(), "{text}");
}
