//! When to come back to an object.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

/// Failures in a row, by object.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<String, u32>>);

impl Failures {
    /// Notes a failure, and returns how long to wait: twice as long each time, with jitter.
    pub fn failed(&self, object: &str) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(object.to_owned()).or_insert(0);
        let wait = FIRST.saturating_mul(1 << (*count).min(10)).min(LONGEST);
        *count = count.saturating_add(1);
        wait.mul_f64(0.75 + fastrand::f64() * 0.25)
    }

    /// Forgets the failures of an object that is well, or gone.
    pub fn succeeded(&self, object: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(object);
    }
}

/// Time until an object is looked at again without any event: 5 to 10 minutes.
pub fn periodic() -> Duration {
    Duration::from_secs(300 + fastrand::u64(0..300))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_start_anew_after_success() {
        let failures = Failures::default();
        let waits: Vec<Duration> = (0..20).map(|_| failures.failed("a")).collect();
        assert!(waits[0] <= FIRST && waits[19] > LONGEST / 2 && waits[19] <= LONGEST);
        failures.succeeded("a");
        assert!(failures.failed("a") <= FIRST);
    }
}
