//! How many requests there were, and how many of them the cache answered: since the start, and in the last hour.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cache::CacheOutcome;
use crate::clock::{Clock, Moment};
use crate::metrics::Metrics;

/// Time between two samples.
const STEP: Duration = Duration::from_mins(5);
/// Samples of one hour.
const SAMPLES: usize = 12;

/// Requests for manifests and blobs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) requests: u64,
    /// Those that were answered with what was stored, or was on its way.
    pub(super) hits: u64,
    /// Those of the hits that were answered with what should have been checked, and could not.
    pub(super) stale: u64,
}

impl Answered {
    /// Since the server's start.
    pub(super) fn so_far(metrics: &Metrics) -> Self {
        const FROM_CACHE: [CacheOutcome; 5] = [
            CacheOutcome::Hit,
            CacheOutcome::Bucket,
            CacheOutcome::Revalidated,
            CacheOutcome::Joined,
            CacheOutcome::Stale,
        ];
        let mut sum = Self::default();
        for (labels, count) in metrics.requests_by_label() {
            let is = |value: &str| labels.iter().any(|label| label == value);
            if !is("manifest") && !is("blob") {
                continue;
            }
            sum.requests += count;
            if FROM_CACHE.iter().any(|outcome| is(outcome.as_str())) {
                sum.hits += count;
            }
            if is(CacheOutcome::Stale.as_str()) {
                sum.stale += count;
            }
        }
        sum
    }

    fn after(self, earlier: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            hits: self.hits.saturating_sub(earlier.hits),
            stale: self.stale.saturating_sub(earlier.stale),
        }
    }
}

/// What the counts were in the last hour.
#[derive(Debug)]
pub struct LastHour {
    clock: Clock,
    /// The oldest first.
    samples: Mutex<VecDeque<(Moment, Answered)>>,
}

impl LastHour {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            samples: Mutex::default(),
        }
    }

    /// What came in the last hour, or since the start.
    pub(super) fn answered(&self, so_far: Answered) -> Answered {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        since(&samples, self.clock.now(), so_far)
    }

    /// Takes samples until told to stop.
    pub async fn keep(&self, metrics: &Metrics, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(STEP))
            .await
            .is_some()
        {
            let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut samples, self.clock.now(), Answered::so_far(metrics));
        }
    }
}

fn note(samples: &mut VecDeque<(Moment, Answered)>, now: Moment, so_far: Answered) {
    samples.push_back((now, so_far));
    while samples.len() > SAMPLES {
        samples.pop_front();
    }
}

/// `None` of a sample's age: the clock went backwards, and the sample is as good as any.
fn since(samples: &VecDeque<(Moment, Answered)>, now: Moment, so_far: Answered) -> Answered {
    // One that is due at this very moment may have come a little late.
    let longest = STEP * u32::try_from(SAMPLES).unwrap_or(u32::MAX) + STEP / 2;
    // Before the first sample of a server's life, all that there was came in the last hour.
    if samples.len() < SAMPLES {
        return so_far;
    }
    let young = |(at, _): &&(Moment, Answered)| now.since(*at).is_none_or(|age| age <= longest);
    match samples.iter().find(young) {
        Some((_, earlier)) => so_far.after(*earlier),
        // The machine slept: nothing is known of the last hour.
        None => Answered::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(requests: u64) -> Answered {
        Answered {
            requests,
            hits: requests / 2,
            stale: 0,
        }
    }

    fn minute(minutes: i64) -> Moment {
        Moment(minutes * 60_000)
    }

    #[test]
    fn only_what_came_in_the_last_hour_counts() {
        let mut samples = VecDeque::new();
        for step in 1..=100 {
            let now = minute(step * 5);
            let so_far = answered(u64::try_from(step).unwrap() * 10);
            note(&mut samples, now, so_far);
            // Ten in each step, of which the first hour of its life has had fewer.
            let expected = if step < 12 { so_far } else { answered(110) };
            assert_eq!(since(&samples, now, so_far), expected, "{step}");
        }
        // Nothing came for an hour.
        for step in 101..=113 {
            note(&mut samples, minute(step * 5), answered(1000));
        }
        assert_eq!(since(&samples, minute(565), answered(1000)), answered(0));
    }

    #[test]
    fn after_a_long_sleep_nothing_is_known() {
        let mut samples = VecDeque::new();
        for step in 1..=12 {
            note(&mut samples, minute(step * 5), answered(0));
        }
        let after = since(&samples, minute(1000), answered(70));
        assert_eq!(after, answered(0));
    }
}
