//! What is counted of every request. Each counter is looked up by its labels once: that costs hashing and a lock.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};

use super::route::RequestKind;
use crate::cache::CacheOutcome;
use crate::metrics::Metrics;

/// The counters that have been needed. One for all connections.
#[derive(Debug)]
pub struct Tally {
    pub(super) metrics: Arc<Metrics>,
    requests: [[OnceLock<IntCounter>; RequestKind::COUNT]; CacheOutcome::COUNT],
    times: [OnceLock<Histogram>; CacheOutcome::COUNT],
}

impl Tally {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            requests: [const { [const { OnceLock::new() }; _] }; _],
            times: [const { OnceLock::new() }; _],
        }
    }

    /// The head of an answer is ready.
    pub(super) fn answered(&self, kind: RequestKind, outcome: CacheOutcome) {
        let (metrics, word) = (&self.metrics, outcome.as_str());
        self.requests[outcome as usize][kind as usize]
            .get_or_init(|| metrics.requests.with_label_values(&[kind.as_str(), word]))
            .inc();
    }

    /// The first byte of an answer's body is ready, or the head of one without a body, so long after the request came.
    pub(super) fn began(&self, outcome: CacheOutcome, after: Duration) {
        let (metrics, word) = (&self.metrics, outcome.as_str());
        self.times[outcome as usize]
            .get_or_init(|| metrics.time_to_first_byte.with_label_values(&[word]))
            .observe(after.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_and_outcome_has_a_counter_of_its_own() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let tally = Tally::new(metrics.clone());
        let kinds = [RequestKind::Other, RequestKind::Blob, RequestKind::Tags];
        let outcomes = [CacheOutcome::Hit, CacheOutcome::Miss, CacheOutcome::Local];
        for (times, (kind, outcome)) in kinds.into_iter().zip(outcomes).enumerate() {
            for _ in 0..=times {
                tally.answered(kind, outcome);
                tally.began(outcome, Duration::ZERO);
            }
        }
        let mut found = metrics.requests_by_label();
        found.sort_by_key(|(_, count)| *count);
        let found: Vec<_> = found
            .iter()
            .map(|(labels, count)| (labels.join(" "), *count))
            .collect();
        let wanted = [("other hit", 1), ("blob miss", 2), ("tags local", 3)];
        assert_eq!(
            found,
            wanted.map(|(labels, count)| (labels.to_owned(), count))
        );
        let last = metrics.time_to_first_byte.with_label_values(&["local"]);
        assert_eq!(last.get_sample_count(), 3);
    }
}
