//! The rules of a pull-through cache: what is served from where, what is kept, and for how long it is true.
//! Speaks of digests, repositories and bytes; no type of an HTTP server is known here.

pub mod segments;

pub mod admission;
pub mod answer;
pub mod blob;
pub mod byte_range;
mod commits;
pub mod error;
pub mod eviction;
pub mod fill;
pub mod flights;
pub mod freshness;
pub mod growing;
pub mod list;
pub mod manifest;
mod manifest_store;
pub mod memory;
pub mod outcome;
pub mod purge;
pub mod recent;
mod recent_manifests;
pub mod referrers;
mod scrub;
mod shared;
mod sharing;
mod source;
pub mod tag;
mod transfer;
mod turns;
pub mod verified;
pub mod warm;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crds::values::RegistryHost;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bucket::Bucket;
use crate::clock::Clock;
use crate::last_error::LastError;
use crate::metrics::Metrics;
use crate::oci::{Repository, Tag};
use crate::storage::{self, Store, TagRecord};
use crate::upstream::Upstream;

pub use admission::Rules;
pub use answer::{Answer, Content};
pub use byte_range::ByteRange;
pub use error::{Error, ErrorKind};
pub use outcome::CacheOutcome;

/// Fills that run at the same time; more wait for a place. Below the runtime's 512 blocking threads.
const MAXIMUM_FILLS: usize = 256;

/// Short operations on the disk at the same time; more wait for a place.
const MAXIMUM_LOOKS: usize = 32;

/// Times that tests shorten.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// How long a client with a stale copy waits for the upstream.
    pub revalidation: Duration,
    /// How long a negative answer is repeated without asking.
    pub negative: Duration,
    /// How long new content is passed through after a write to the store failed.
    pub write_failure: Duration,
    /// How long content counts as in use after a client asked for it.
    pub in_use: Duration,
    /// How often the store is looked at without a reason.
    pub upkeep: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            revalidation: Duration::from_millis(800),
            negative: Duration::from_secs(2),
            write_failure: Duration::from_secs(10),
            in_use: Duration::from_secs(10),
            upkeep: Duration::from_secs(30),
        }
    }
}

/// A repository at an upstream, and what the policy says about it.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    upstream: Arc<Upstream>,
    repository: Repository,
}

/// The same without the means to ask it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    host: &'a RegistryHost,
    repository: &'a Repository,
}

impl Origin {
    fn new(upstream: &Arc<Upstream>, repository: &Repository) -> Self {
        Self {
            upstream: upstream.clone(),
            repository: repository.clone(),
        }
    }

    fn host(&self) -> &RegistryHost {
        self.upstream.host()
    }

    fn host_text(&self) -> Arc<str> {
        self.host().as_str().into()
    }

    fn place(&self) -> Place<'_> {
        Place {
            host: self.host(),
            repository: &self.repository,
        }
    }
}

/// One cache over one store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cache(Arc<State>);

#[derive(Debug)]
struct State {
    store: Arc<Store>,
    /// What replicas share, if they do.
    bucket: Option<Arc<Bucket>>,
    sharing: sharing::Sharing,
    metrics: Arc<Metrics>,
    clock: Clock,
    patience: Patience,
    rules: ArcSwapOption<Rules>,
    fills: Mutex<fill::Fills>,
    /// Fills hold a thread each; hits must find one too.
    fill_slots: Semaphore,
    /// A thousand requests at once would start hundreds of threads, each with memory of its own, to wait for one disk.
    disk_slots: Semaphore,
    commits: commits::Commits,
    /// For what fills receive, write and hash.
    turns: turns::Turns,
    tags: flights::Flights<manifest::Key<Tag>, Result<tag::Resolved, Error>>,
    manifests:
        flights::Flights<manifest::Key<crate::oci::Digest>, Result<manifest::Fetched, Error>>,
    shared_tags: flights::Flights<manifest::Key<Tag>, Option<TagRecord>>,
    referrers: referrers::Questions,
    negative: memory::Memory<String, Error>,
    recent: recent_manifests::RecentManifests,
    /// Of writes to the store.
    write_failure: Mutex<Option<LastError>>,
    room: eviction::Room,
    /// Runs what must outlive its client.
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Cache {
    pub fn new(
        store: Arc<Store>,
        bucket: Option<Arc<Bucket>>,
        metrics: Arc<Metrics>,
        clock: Clock,
        patience: Patience,
    ) -> Self {
        metrics.bucket_behind.set(i64::from(bucket.is_some()));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self(Arc::new(State {
            commits: commits::Commits::new(
                store.clone(),
                tasks.clone(),
                stop.clone(),
                commits::LONGEST_WAIT,
            ),
            store,
            bucket,
            sharing: sharing::Sharing::default(),
            metrics,
            clock,
            patience,
            rules: ArcSwapOption::empty(),
            fills: Mutex::default(),
            fill_slots: Semaphore::new(MAXIMUM_FILLS),
            disk_slots: Semaphore::new(MAXIMUM_LOOKS),
            turns: turns::Turns::default(),
            tags: flights::Flights::default(),
            manifests: flights::Flights::default(),
            shared_tags: flights::Flights::default(),
            referrers: referrers::Questions::default(),
            negative: memory::Memory::default(),
            recent: recent_manifests::RecentManifests::default(),
            write_failure: Mutex::default(),
            room: eviction::Room::default(),
            tasks,
            stop,
        }))
    }

    /// Puts a policy in force. Requests that have begun keep the one they began with.
    pub fn install(&self, rules: Rules) {
        self.0.rules.store(Some(Arc::new(rules)));
        self.look_for_room();
    }

    /// The policy in force.
    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.0.rules.load_full()
    }

    /// The same, to look at for a moment: its count of owners would go from processor to processor with every request.
    pub fn rules_now(&self) -> arc_swap::Guard<Option<Arc<Rules>>> {
        self.0.rules.load()
    }

    /// Gives up running fills, and waits until their files are gone.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Work that ends without an answer when the cache is stopped.
    fn until_stop<T>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> impl Future<Output = Result<T, Error>> + Send + 'static {
        let stop = self.0.stop.clone();
        async move {
            tokio::select! {
                result = work => result,
                () = stop.cancelled() => Err(Error::Gone),
            }
        }
    }

    /// What may be done with a request, and where its upstream is.
    fn admit(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        tag: Option<&Tag>,
    ) -> Result<(Origin, admission::Admission), Error> {
        let rules = self.rules_now();
        let rules = rules.as_ref().ok_or(Error::NotReady)?;
        let (upstream, admission) = rules.admit(Place { host, repository }, tag)?;
        Ok((Origin::new(upstream, repository), admission))
    }

    /// Runs what blocks on the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, storage::Error> + Send + 'static,
    ) -> Result<T, Error> {
        let store = self.0.store.clone();
        let _slot = self.0.disk_slots.acquire().await;
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => result.map_err(Error::store),
            Err(_) => Err(Error::Gone),
        }
    }

    /// Whether writes to the store have failed lately.
    fn store_is_broken(&self) -> bool {
        let Some(failed) = self.write_failure().as_ref().map(|failure| failure.at) else {
            return false;
        };
        let age = self.0.clock.now().since(failed);
        age.is_some_and(|age| age < self.0.patience.write_failure)
    }

    fn note_write_failure(&self, error: &dyn std::fmt::Display) {
        self.0.metrics.store_write_failures.inc();
        *self.write_failure() = Some(LastError::new(self.0.clock.now(), error));
        tracing::error!(%error, "failed to write to the store; new content is passed through without storing");
    }

    /// The last write to the store that failed.
    pub fn last_write_error(&self) -> Option<LastError> {
        self.write_failure().clone()
    }

    fn write_failure(&self) -> MutexGuard<'_, Option<LastError>> {
        self.0
            .write_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn count_mismatch(&self, origin: &Origin, name: &dyn std::fmt::Display) -> Error {
        let host = origin.host_text();
        self.0
            .metrics
            .digest_mismatches
            .with_label_values(&[&*host])
            .inc();
        tracing::warn!(upstream = %host, repository = %origin.repository, digest = %name, "the upstream's content is not what its digest says");
        Error::Mismatch {
            host,
            name: name.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bucket, upstream};

    #[test]
    fn nobody_waits_fifteen_seconds_for_the_head_of_what_a_hung_upstream_has() {
        let bound = Duration::from_secs(15);
        let upstream = upstream::Timeouts::default();
        // A blob's: the bucket is asked, and then the upstream.
        assert!(bucket::Times::default().answer + upstream.answer < bound);
        assert!(upstream.manifest < bound);
        // What hangs is known to before the client leaves, and another endpoint has a moment.
        assert!(upstream.header < upstream.answer && upstream.connect < upstream.header);
        assert!(upstream.queue < upstream.answer);
    }
}
