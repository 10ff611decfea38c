//! Whether an endpoint is worth asking. Pure: the time is passed in.
//!
//! A failure moves an endpoint behind the others for a while. After some in a row its breaker opens: it is not asked at
//! all, until the while is over and one request finds out how it is. Each while is twice as long as the one before.

use std::time::Duration;

use crate::clock::Moment;
use crate::last_error::LastError;

/// Failures in a row that open the breaker.
pub(super) const OPENS_AFTER: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// After that long, a probe that has not come back is taken for lost.
const LOST_PROBE: Duration = Duration::from_secs(40);

/// A while that began at some moment. It is over too if the clock went backwards.
#[derive(Debug, Clone, Copy)]
struct Wait {
    since: Moment,
    length: Duration,
}

impl Wait {
    fn left(self, now: Moment) -> Option<Duration> {
        let age = now.since(self.since)?;
        self.length.checked_sub(age).filter(|left| !left.is_zero())
    }
}

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    wait: Option<Wait>,
    /// The endpoint asked for it.
    pause: Option<Wait>,
    probe: Option<Wait>,
    /// Kept when it answers again: for people, who come later.
    pub(super) last_error: Option<LastError>,
}

/// Where an endpoint stands among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    /// In its place.
    Good,
    /// Behind the others.
    Doubtful,
    /// Not asked for so long.
    Closed(Duration),
}

impl Health {
    pub(super) fn standing(&self, now: Moment) -> Standing {
        let left = |wait: Option<Wait>| wait.and_then(|wait| wait.left(now));
        match (left(self.pause), left(self.wait), left(self.probe)) {
            (Some(left), ..) => Standing::Closed(left),
            (None, Some(left), _) | (None, None, Some(left)) if self.is_open() => {
                Standing::Closed(left)
            }
            (None, Some(_), _) => Standing::Doubtful,
            _ => Standing::Good,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.failures >= OPENS_AFTER
    }

    /// Whether it asked for a pause that is not over.
    pub(super) fn is_paused(&self, now: Moment) -> bool {
        self.pause.is_some_and(|pause| pause.left(now).is_some())
    }

    /// Whether it may be asked now. Of an open breaker only one asks, until it is known how that ended.
    pub(super) fn claim(&mut self, now: Moment) -> bool {
        if matches!(self.standing(now), Standing::Closed(_)) {
            return false;
        }
        if self.is_open() {
            self.probe = Some(Wait {
                since: now,
                length: LOST_PROBE,
            });
        }
        true
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.wait = None;
        self.probe = None;
    }

    /// A request that began at `began` failed. `jitter` from 0 to 1 keeps many caches from coming back at the same moment.
    pub(super) fn failed(&mut self, began: Moment, now: Moment, jitter: f64) {
        // Requests that ran side by side fail together: that is one failure.
        if self.wait.is_some_and(|wait| began < wait.since) {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.probe = None;
        let doubled = FIRST_WAIT * 2_u32.saturating_pow((self.failures - 1).min(10));
        let length = doubled.min(LONGEST_WAIT).mul_f64(0.75 + jitter / 2.0);
        self.wait = Some(Wait { since: now, length });
    }

    pub(super) fn pause(&mut self, now: Moment, length: Duration) {
        self.probe = None;
        self.pause = Some(Wait { since: now, length });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Moment {
        Moment(seconds * 1000)
    }

    #[test]
    fn a_failure_moves_it_back_for_twice_as_long_each_time() {
        let mut health = Health::default();
        for length in [1, 2, 4, 8] {
            health.failed(at(0), at(0), 0.5);
            assert_eq!(
                health.standing(Moment(length * 1000 - 1)),
                Standing::Doubtful
            );
            assert_eq!(health.standing(at(length)), Standing::Good);
        }
        health.succeeded();
        health.failed(at(0), at(0), 0.5);
        assert_eq!(health.standing(at(1)), Standing::Good);
    }

    #[test]
    fn an_open_breaker_lets_one_probe_through_after_its_time() {
        let mut health = Health::default();
        for _ in 0..OPENS_AFTER {
            assert!(health.claim(at(0)));
            health.failed(at(0), at(0), 0.5);
        }
        assert_eq!(
            health.standing(at(0)),
            Standing::Closed(Duration::from_secs(16))
        );
        assert!(!health.claim(at(15)));
        assert!(health.claim(at(16)));
        assert!(!health.claim(at(17)));
        // A probe that never comes back does not close it for ever.
        assert!(health.claim(at(60)));
        health.failed(at(60), at(60), 0.5);
        assert!(!health.claim(at(60 + 31)));
        assert!(health.claim(at(60 + 32)));
        health.succeeded();
        assert!(health.claim(at(60 + 32)) && health.claim(at(60 + 32)));
    }

    #[test]
    fn requests_that_fail_side_by_side_are_one_failure() {
        let mut health = Health::default();
        for end in 1..20 {
            health.failed(at(0), at(end), 0.5);
        }
        assert!(!health.is_open());
        assert_eq!(health.standing(at(2)), Standing::Good);
    }

    #[test]
    fn waits_have_an_end_whatever_happens() {
        let mut health = Health::default();
        for _ in 0..100 {
            health.failed(at(100), at(100), 1.0);
        }
        assert_eq!(
            health.standing(at(100)),
            Standing::Closed(Duration::from_secs(75))
        );
        // The clock was set back.
        assert_eq!(health.standing(at(50)), Standing::Good);
        health.succeeded();
        health.pause(at(100), Duration::from_secs(5));
        assert!(!health.claim(at(104)) && health.claim(at(105)));
    }
}
