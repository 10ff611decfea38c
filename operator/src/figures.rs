//! What moves in a status: how much of the requests a cache answers, how full it is, and which upstreams it can't reach.
//!
//! One task for all caches (`round`), beside the reconciles: they say which pods answer, and are woken when there is something to tell. Figures
//! change all the time, and a status must not: [`Ledger`] decides what is worth a write.

mod round;
mod sum;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crds::registry_cache::RegistryCacheStatus;
use tokio::time::Instant;

use crate::watches::CacheRef;

pub use round::run;
pub use sum::{Summary, Upstreams, Usage};

/// Shortest time between two writes of how much a cache is used.
const RARELY: Duration = Duration::from_mins(5);

/// A pod that answers, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweringPod {
    pub name: String,
    pub address: String,
}

/// What the status of a cache has to tell. `None`: what it told before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    pub usage: Option<Usage>,
    pub upstreams: Option<Upstreams>,
}

/// What reconciles and the task of the figures tell each other.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<HashMap<CacheRef, Entry>>);

#[derive(Debug)]
struct Entry {
    pods: Vec<AnsweringPod>,
    told: Told,
    /// When the usage was told last. `None`: never.
    told_at: Option<Instant>,
    /// Upstreams of which all is known that the status tells: those that are there, and those of them that are away.
    known: Option<Standing>,
    /// What the last round saw of them.
    last: Option<Standing>,
}

/// Hosts of upstreams, and those of them that are away. Why they are is no news.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    all: BTreeSet<String>,
    away: BTreeSet<String>,
}

impl Standing {
    fn of(upstreams: &Upstreams) -> Self {
        let away = upstreams.iter().filter(|(_, reason)| reason.is_some());
        Self {
            all: upstreams.keys().cloned().collect(),
            away: away.map(|(host, _)| host.clone()).collect(),
        }
    }

    /// What a status tells. `None`: nothing.
    fn told(status: &RegistryCacheStatus) -> Option<Self> {
        let away = status.upstreams.iter().filter(|one| !one.reachable);
        (!status.upstreams.is_empty()).then(|| Self {
            all: status
                .upstreams
                .iter()
                .map(|one| one.host.clone())
                .collect(),
            away: away.map(|one| one.host.clone()).collect(),
        })
    }
}

impl Ledger {
    /// Says which pods of a cache answer, and what its status tells so far.
    pub fn declare(
        &self,
        cache: CacheRef,
        pods: Vec<AnsweringPod>,
        status: &RegistryCacheStatus,
        now: Instant,
    ) {
        let mut entries = self.lock();
        let entry = entries.entry(cache).or_insert_with(|| Entry {
            pods: Vec::new(),
            told: Told::default(),
            told_at: status.usage.is_some().then_some(now),
            known: Standing::told(status),
            last: None,
        });
        entry.pods = pods;
    }

    /// Says that a cache is gone.
    pub fn forget(&self, cache: &CacheRef) {
        self.lock().remove(cache);
    }

    /// What the status of a cache has to tell.
    pub fn told(&self, cache: &CacheRef) -> Told {
        let entries = self.lock();
        let entry = entries.get(cache);
        entry.map(|entry| entry.told.clone()).unwrap_or_default()
    }

    /// The pods to ask, by cache.
    fn pods(&self) -> Vec<(CacheRef, Vec<AnsweringPod>)> {
        let entries = self.lock();
        let entries = entries.iter().filter(|(_, entry)| !entry.pods.is_empty());
        entries
            .map(|(cache, entry)| (cache.clone(), entry.pods.clone()))
            .collect()
    }

    /// Takes what a round saw of a cache, and returns whether its status has to tell something new: upstreams when two rounds agree, usage when it
    /// moved far enough and was not told a moment ago.
    fn take(&self, cache: &CacheRef, summary: Summary, now: Instant) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(cache) else {
            return false;
        };
        let standing = Standing::of(&summary.upstreams);
        let steady = entry.known.is_none() || entry.last.as_ref() == Some(&standing);
        let turned = steady && entry.known.as_ref() != Some(&standing);
        if turned {
            entry.told.upstreams = Some(summary.upstreams);
            entry.known = Some(standing.clone());
        }
        entry.last = Some(standing);
        let before = entry.told.usage.as_ref();
        // A person who tries the cache out does not wait for the first ratio.
        let first = |told: &Usage| told.requests == 0 && summary.usage.requests > 0;
        let due = entry.told_at.is_none_or(|at| now - at >= RARELY) || before.is_some_and(first);
        let moved = due && !before.is_some_and(|told| told.is_near(&summary.usage));
        if moved {
            entry.told.usage = Some(summary.usage);
            entry.told_at = Some(now);
        }
        turned || moved
    }

    /// No code panics while it holds the lock, so that what is behind it is whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<CacheRef, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use crds::registry_cache::{UpstreamStatus, UsageStatus};
    use kube::runtime::reflector::ObjectRef;

    use super::*;

    fn cache() -> CacheRef {
        ObjectRef::new("images").within("team-a")
    }

    fn ledger(status: &RegistryCacheStatus, now: Instant) -> Ledger {
        let ledger = Ledger::default();
        ledger.declare(cache(), Vec::new(), status, now);
        ledger
    }

    fn summary(hits: u64, away: Option<&str>) -> Summary {
        Summary {
            usage: Usage {
                requests: 100,
                hits,
                used: 1,
                maximum: 100,
            },
            upstreams: [("quay.io".to_owned(), away.map(str::to_owned))].into(),
        }
    }

    #[test]
    fn usage_is_told_at_once_and_then_rarely() {
        let start = Instant::now();
        let ledger = ledger(&RegistryCacheStatus::default(), start);
        assert!(ledger.take(&cache(), summary(50, None), start));
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!ledger.take(&cache(), summary(90, None), at(299)));
        assert!(ledger.take(&cache(), summary(90, None), at(300)));
        assert_eq!(ledger.told(&cache()).usage.unwrap().hits, 90);
        assert!(
            !ledger.take(&cache(), summary(91, None), at(900)),
            "what hardly moved is no news"
        );
        assert!(ledger.take(&cache(), summary(92, None), at(930)));
    }

    #[test]
    fn the_first_ratio_is_told_at_once() {
        let start = Instant::now();
        let ledger = ledger(&RegistryCacheStatus::default(), start);
        let mut idle = summary(0, None);
        idle.usage.requests = 0;
        assert!(ledger.take(&cache(), idle, start));
        assert!(ledger.take(&cache(), summary(50, None), start));
        assert!(!ledger.take(&cache(), summary(90, None), start));
    }

    #[test]
    fn an_upstream_that_blinks_is_not_told() {
        let start = Instant::now();
        let ledger = ledger(&RegistryCacheStatus::default(), start);
        let take = |away| ledger.take(&cache(), summary(50, away), start);
        assert!(take(None), "the first look is told at once");
        assert!(!take(Some("refused")));
        assert!(!take(None));
        assert!(!take(Some("refused")));
        assert!(take(Some("timeout")), "two rounds agree that it is away");
        assert!(!take(Some("refused")), "another error is no news");
        let told = ledger.told(&cache()).upstreams.unwrap();
        assert_eq!(told["quay.io"].as_deref(), Some("timeout"));
        assert!(!take(None));
        assert!(take(None));
    }

    #[test]
    fn an_operator_that_starts_tells_nothing_that_stands_in_the_status() {
        let start = Instant::now();
        let status = RegistryCacheStatus {
            usage: Some(UsageStatus::default()),
            upstreams: vec![UpstreamStatus {
                host: "quay.io".to_owned(),
                reachable: true,
                message: None,
            }],
            ..RegistryCacheStatus::default()
        };
        let ledger = ledger(&status, start);
        assert!(!ledger.take(&cache(), summary(50, None), start));
        assert_eq!(ledger.told(&cache()), Told::default());
        assert!(ledger.take(&cache(), summary(50, None), start + RARELY));
    }

    #[test]
    fn a_cache_that_is_gone_has_nothing_to_tell() {
        let now = Instant::now();
        let ledger = ledger(&RegistryCacheStatus::default(), now);
        ledger.forget(&cache());
        assert!(!ledger.take(&cache(), summary(50, None), now));
        assert_eq!(ledger.told(&cache()), Told::default());
    }
}
