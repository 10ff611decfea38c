//! Waiting for something to become true, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// The time between two looks. Nothing is concluded from its passing.
const INTERVAL: Duration = Duration::from_millis(100);

/// Calls `attempt` until it succeeds, and fails with its last error when `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return Ok(value),
            Err(error) if start.elapsed() >= limit => {
                let seconds = limit.as_secs();
                return Err(error.context(format!("waited {seconds} s in vain for {what}")));
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

/// As [`until`], for a condition that has nothing to say about why it does not hold yet.
pub fn until_true(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || {
        condition().then_some(()).ok_or_else(|| anyhow!("not yet"))
    })
}
