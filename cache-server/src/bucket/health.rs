//! Whether the bucket is worth asking: after failures in a row it is left alone for a while, so that no pull waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::{Clock, Moment};
use crate::metrics::Metrics;

/// Failures in a row after which it is left alone.
const MANY: u32 = 3;
/// Longest time for which it is left alone, in milliseconds.
const LONGEST: i64 = 60_000;
/// Who asks while it is left alone finds out for the others; in milliseconds.
const PROBE: i64 = 1000;

#[derive(Debug)]
pub(super) struct Health {
    clock: Clock,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Until when it is left alone.
    until: Option<Moment>,
}

impl Health {
    pub(super) fn new(clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            clock,
            metrics,
            state: Mutex::default(),
        }
    }

    /// Whether it may be asked now. Of those who come when the time is over, one a second may.
    pub(super) fn may_ask(&self) -> bool {
        let now = self.clock.now();
        let mut state = self.state();
        if state.is_left_alone(now) {
            return false;
        }
        if state.until.is_some() {
            state.until = Some(Moment(now.0 + PROBE));
        }
        true
    }

    pub(super) fn is_left_alone(&self) -> bool {
        self.state().is_left_alone(self.clock.now())
    }

    pub(super) fn answered(&self) {
        let mut state = self.state();
        state.failures = 0;
        if state.until.take().is_some() {
            self.metrics.bucket_left_alone.set(0);
            tracing::info!("the bucket answers again");
        }
    }

    pub(super) fn failed(&self, reason: &str) {
        let now = self.clock.now();
        let mut state = self.state();
        state.failures = state.failures.saturating_add(1);
        if state.failures < MANY {
            return;
        }
        if state.until.is_none() {
            tracing::warn!(
                reason,
                "the bucket failed several times in a row; it is left alone for a while"
            );
        }
        let pause = (1000 << (state.failures - MANY).min(10)).min(LONGEST);
        state.until = Some(Moment(now.0 + pause));
        self.metrics.bucket_left_alone.set(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_left_alone(&self, now: Moment) -> bool {
        // A clock that was set back must not make it last for ever.
        self.until
            .is_some_and(|until| now < until && until.0 - now.0 <= LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[test]
    fn it_is_left_alone_after_failures_and_found_again_by_one_who_asks() {
        let time = Arc::new(AtomicI64::new(0));
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Health::new(Clock::Manual(time.clone()), metrics.clone());
        health.failed("a");
        health.failed("b");
        assert!(health.may_ask());
        health.failed("c");
        assert!(!health.may_ask() && health.is_left_alone());
        assert_eq!(metrics.bucket_left_alone.get(), 1);
        time.store(1000, Ordering::SeqCst);
        assert!(health.may_ask(), "one finds out");
        assert!(!health.may_ask(), "the others go on without");
        health.failed("d");
        time.store(2999, Ordering::SeqCst);
        assert!(!health.may_ask(), "two seconds now");
        time.store(3000, Ordering::SeqCst);
        assert!(health.may_ask());
        health.answered();
        assert!(health.may_ask() && health.may_ask());
        assert_eq!(metrics.bucket_left_alone.get(), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_last_for_ever() {
        let time = Arc::new(AtomicI64::new(1_000_000));
        let metrics = Arc::new(Metrics::new().unwrap());
        let health = Health::new(Clock::Manual(time.clone()), metrics);
        for _ in 0..40 {
            health.failed("a");
        }
        assert!(health.is_left_alone());
        time.store(0, Ordering::SeqCst);
        assert!(!health.is_left_alone());
    }
}
