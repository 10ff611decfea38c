//! Tells a body that comes slowly from one that is as good as dead: a byte every second is never silent for long, and would keep
//! clients waiting for days.

use std::time::Duration;

/// How slow is too slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowest {
    /// Bytes a second.
    pub rate: u64,
    /// Time of waiting over which the rate is judged.
    pub over: Duration,
}

impl Default for Slowest {
    /// A tenth of what a modem brought.
    fn default() -> Self {
        Self {
            rate: 512,
            over: Duration::from_mins(1),
        }
    }
}

/// The pace of one body. Only time that is spent waiting for the upstream counts: a slow disk or a limit of ours is not its fault.
#[derive(Debug, Default)]
pub(super) struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// Notes a piece and how long it was waited for. Whether the body is fast enough.
    pub(super) fn note(&mut self, slowest: Slowest, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < slowest.over {
            return true;
        }
        let least = u128::from(slowest.rate) * slowest.over.as_millis() / 1000;
        let enough = u128::from(self.bytes) >= least;
        *self = Self::default();
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWEST: Slowest = Slowest {
        rate: 100,
        over: Duration::from_secs(10),
    };

    #[test]
    fn a_body_is_judged_by_each_stretch_of_waiting() {
        let mut pace = Pace::default();
        let second = Duration::from_secs(1);
        // Quick, then a byte a second.
        assert!(pace.note(SLOWEST, Duration::ZERO, 1 << 30));
        for _ in 0..9 {
            assert!(pace.note(SLOWEST, second, 1));
        }
        assert!(pace.note(SLOWEST, second, 1));
        for _ in 0..9 {
            assert!(pace.note(SLOWEST, second, 1));
        }
        assert!(!pace.note(SLOWEST, second, 1));
    }

    #[test]
    fn what_is_just_fast_enough_goes_on_for_ever() {
        let mut pace = Pace::default();
        for _ in 0..1000 {
            assert!(pace.note(SLOWEST, Duration::from_secs(1), 100));
        }
    }
}
