//! Whether a cache is healthy enough for nodes to be sent to it. Pure: the time is passed in.
//!
//! Files come with the first answer. They go only after failures for a while, since each change of mind makes nodes pull past
//! the cache; and come back only after answers for a while.

use std::time::{Duration, Instant};

/// A cache is given up after failures for so long. containerd before 2.1 waits 30 s for each request to a cache that is gone.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// And after so many.
const FAILURES: u32 = 3;
/// A cache that was given up is used again after answers for so long.
const TRIAL: Duration = Duration::from_secs(10);

/// What should become of a cache's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Install,
    /// It does not answer now; what is on the disk stays as it is.
    Wait,
    Withdraw,
}

/// What is known of a cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    failing_since: Option<Instant>,
    failures: u32,
    healthy_since: Option<Instant>,
    given_up: bool,
}

impl Health {
    /// Takes the outcome of one probe.
    pub fn probed(&mut self, healthy: bool, now: Instant) {
        if healthy {
            self.failures = 0;
            self.failing_since = None;
            let since = *self.healthy_since.get_or_insert(now);
            if now.duration_since(since) >= TRIAL {
                self.given_up = false;
            }
        } else {
            self.healthy_since = None;
            self.failures += 1;
            let since = *self.failing_since.get_or_insert(now);
            if self.failures >= FAILURES && now.duration_since(since) >= PATIENCE {
                self.given_up = true;
            }
        }
    }

    /// Whether the last probe was answered.
    pub fn answers(&self) -> bool {
        self.healthy_since.is_some()
    }

    /// What follows.
    pub fn verdict(&self) -> Verdict {
        if self.given_up {
            Verdict::Withdraw
        } else if self.answers() {
            Verdict::Install
        } else {
            Verdict::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Verdicts after probes, each some seconds after the one before.
    fn verdicts(probes: &[(u64, bool)]) -> Vec<Verdict> {
        let mut health = Health::default();
        let mut now = Instant::now();
        probes
            .iter()
            .map(|(seconds, healthy)| {
                now += Duration::from_secs(*seconds);
                health.probed(*healthy, now);
                health.verdict()
            })
            .collect()
    }

    #[test]
    fn the_first_answer_installs() {
        use Verdict::{Install, Wait};
        assert_eq!(verdicts(&[(0, false), (5, true)]), [Wait, Install]);
    }

    #[test]
    fn short_outages_change_nothing() {
        use Verdict::{Install, Wait};
        assert_eq!(
            verdicts(&[(0, true), (5, false), (20, false), (9, true), (5, false)]),
            [Install, Wait, Wait, Install, Wait]
        );
        // Long, but seen once only: the agent itself may have been asleep.
        assert_eq!(verdicts(&[(0, true), (90, false)]), [Install, Wait]);
    }

    #[test]
    fn a_long_outage_withdraws_until_the_cache_has_answered_for_a_while() {
        use Verdict::{Install, Wait, Withdraw};
        assert_eq!(
            verdicts(&[
                (0, false),
                (15, false),
                (15, false),
                (5, true),
                (5, true),
                (5, true)
            ]),
            [Wait, Wait, Withdraw, Withdraw, Withdraw, Install]
        );
        assert_eq!(
            verdicts(&[
                (0, false),
                (15, false),
                (15, false),
                (5, true),
                (5, false),
                (5, true)
            ]),
            [Wait, Wait, Withdraw, Withdraw, Withdraw, Withdraw]
        );
    }
}
