//! What is counted of every request. Each thread counts apart, since a counter that all of them write goes from processor to
//! processor with every request; whoever reads the metrics has the counts put together first.

use std::array;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::values::RegistryHost;
use prometheus::local::{LocalHistogram, LocalIntCounter};

use super::route::RequestKind;
use crate::cache::CacheOutcome;
use crate::metrics::{Held, Metrics};

/// More threads than these share.
const SHARES: usize = 32;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The thread's share; none before it has counted.
    static SHARE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The counts that nobody has read yet. One for all connections.
#[derive(Debug)]
pub struct Tally {
    pub(super) metrics: Arc<Metrics>,
    shares: [Share; SHARES],
}

/// Alone in its lines of the processors' caches.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Share(Mutex<Counts>);

/// Each counter is looked up by its labels once.
#[derive(Debug, Default)]
struct Counts {
    requests: [[Option<LocalIntCounter>; RequestKind::COUNT]; CacheOutcome::COUNT],
    times: [Option<LocalHistogram>; CacheOutcome::COUNT],
    bytes: HashMap<RegistryHost, [Option<LocalIntCounter>; 2]>,
}

impl Tally {
    pub fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        let shares = array::from_fn(|_| Share::default());
        let tally = Arc::new(Self { metrics, shares });
        let held: Arc<dyn Held> = tally.clone();
        tally.metrics.hold(Arc::downgrade(&held));
        tally
    }

    /// The head of an answer is ready; and so is the first byte of its body, or it has none, if the time since the request
    /// came is given.
    pub(super) fn answered(
        &self,
        kind: RequestKind,
        outcome: CacheOutcome,
        after: Option<Duration>,
    ) {
        let metrics = &self.metrics.requests;
        let mut counts = self.counts();
        counts.requests[outcome as usize][kind as usize]
            .get_or_insert_with(|| {
                let labels = [kind.as_str(), outcome.as_str()];
                metrics.with_label_values(&labels).local()
            })
            .inc();
        if let Some(after) = after {
            self.observe(&mut counts, outcome, after);
        }
    }

    /// The first byte of an answer's body is ready, so long after the request came.
    pub(super) fn began(&self, outcome: CacheOutcome, after: Duration) {
        self.observe(&mut self.counts(), outcome, after);
    }

    /// So many bytes of a body were sent.
    pub(super) fn sent(&self, upstream: &RegistryHost, outcome: CacheOutcome, bytes: u64) {
        let mut counts = self.counts();
        let counters = match counts.bytes.get_mut(upstream) {
            Some(counters) => counters,
            None => counts.bytes.entry(upstream.clone()).or_default(),
        };
        let from_cache = outcome.is_from_cache();
        counters[usize::from(from_cache)]
            .get_or_insert_with(|| {
                let source = if from_cache { "cache" } else { "upstream" };
                let counters = &self.metrics.response_bytes;
                counters
                    .with_label_values(&[upstream.as_str(), source])
                    .local()
            })
            .inc_by(bytes);
    }

    fn observe(&self, counts: &mut Counts, outcome: CacheOutcome, after: Duration) {
        counts.times[outcome as usize]
            .get_or_insert_with(|| {
                let times = &self.metrics.time_to_first_byte;
                times.with_label_values(&[outcome.as_str()]).local()
            })
            .observe(after.as_secs_f64());
    }

    /// This thread's.
    fn counts(&self) -> MutexGuard<'_, Counts> {
        let share = SHARE.get().unwrap_or_else(|| {
            let share = THREADS.fetch_add(1, Ordering::Relaxed) % SHARES;
            SHARE.set(Some(share));
            share
        });
        self.shares[share].counts()
    }
}

impl Share {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held for Tally {
    fn release(&self) {
        for share in &self.shares {
            let counts = share.counts();
            let requests = counts.requests.iter().flatten();
            let bytes = counts.bytes.values().flatten();
            for counter in requests.chain(bytes).flatten() {
                counter.flush();
            }
            for times in counts.times.iter().flatten() {
                times.flush();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn upstream() -> RegistryHost {
        "r.test".parse().unwrap()
    }

    #[test]
    fn every_kind_and_outcome_has_a_counter_of_its_own() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let tally = Tally::new(metrics.clone());
        let kinds = [RequestKind::Other, RequestKind::Blob, RequestKind::Tags];
        let outcomes = [CacheOutcome::Hit, CacheOutcome::Miss, CacheOutcome::Local];
        for (times, (kind, outcome)) in kinds.into_iter().zip(outcomes).enumerate() {
            for _ in 0..=times {
                tally.answered(kind, outcome, None);
                tally.began(outcome, Duration::ZERO);
            }
        }
        tally.answered(RequestKind::Tags, CacheOutcome::Local, Some(Duration::ZERO));
        let mut found = metrics.requests_by_label();
        found.sort_by_key(|(_, count)| *count);
        let found: Vec<_> = found
            .iter()
            .map(|(labels, count)| (labels.join(" "), *count))
            .collect();
        let wanted = [("other hit", 1), ("blob miss", 2), ("tags local", 4)];
        assert_eq!(
            found,
            wanted.map(|(labels, count)| (labels.to_owned(), count))
        );
        let last = metrics.time_to_first_byte.with_label_values(&["local"]);
        assert_eq!(last.get_sample_count(), 4);
    }

    #[test]
    fn whoever_reads_the_metrics_sees_what_all_threads_have_counted() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let tally = Tally::new(metrics.clone());
        let count = || {
            for _ in 0..1000 {
                tally.answered(RequestKind::Blob, CacheOutcome::Hit, None);
                tally.sent(&upstream(), CacheOutcome::Hit, 3);
                tally.sent(&upstream(), CacheOutcome::Miss, 4);
            }
        };
        for round in 1..=2 {
            // More than there are shares.
            thread::scope(|scope| {
                for _ in 0..=SHARES {
                    scope.spawn(count);
                }
            });
            let threads = 1 + u64::try_from(SHARES).unwrap();
            let page = String::from_utf8(metrics.page()).unwrap();
            for (line, each) in [
                ("requests_total{kind=\"blob\",outcome=\"hit\"}", 1),
                (
                    "response_bytes_total{source=\"cache\",upstream=\"r.test\"}",
                    3,
                ),
                (
                    "response_bytes_total{source=\"upstream\",upstream=\"r.test\"}",
                    4,
                ),
            ] {
                let line = format!("larder_{line} {}\n", 1000 * threads * round * each);
                assert!(page.contains(&line), "{line} is not in {page}");
            }
        }
    }
}
