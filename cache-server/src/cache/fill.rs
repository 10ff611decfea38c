//! One fetch of one blob into the store, apart from any client. All clients, the first one too, read what it writes.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::{Instrument as _, Span};

use super::eviction::Reservation;
use super::segments::Segments;
use super::source::Source;
use super::transfer::Stopped;
use super::writer::{self, Verified, WriteError};
use super::{Cache, Error, Origin};
use crate::oci::Digest;
use crate::spans;
use crate::storage::{self, TemporaryBlob};

/// Running fills by digest.
pub(super) type Fills = HashMap<Digest, Fill>;

/// A running fill, as its readers see it.
#[derive(Debug, Clone)]
pub(super) struct Fill {
    pub(super) origin: Origin,
    pub(super) progress: watch::Receiver<Progress>,
}

/// How far a fill is.
#[derive(Debug, Default)]
pub struct Progress {
    /// There as soon as the upstream has answered.
    pub(super) head: Option<Head>,
    /// What is in the file.
    pub(super) segments: Segments,
    /// Up to where the content went into the digest.
    pub(super) hashed: u64,
    /// Size of the whole, once it is all there and right. From then on readers need not wait for the disk.
    pub(super) verified: Option<u64>,
    pub(super) end: Option<End>,
    /// Whether it comes from the bucket that replicas share.
    from_bucket: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) file: Arc<File>,
    /// `None` if the upstream did not say it.
    pub(super) size: Option<u64>,
}

/// How a fill ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// Right and committed, with that size.
    Stored(u64),
    /// Another fill was quicker: the store has it.
    AlreadyThere,
    Failed(Error),
}

/// What a client that waits for a fill can go on with.
pub(super) enum Start {
    /// There is a file of that size to read.
    Reading(Head, u64),
    /// The store has it.
    LookAgain,
}

impl Fill {
    /// Size of the content if it is all there and right, and only not yet durable.
    pub(super) fn verified(&self) -> Option<u64> {
        self.progress.borrow().verified
    }

    /// Whether it comes from the bucket that replicas share. Known when there is a head.
    pub(super) fn is_from_bucket(&self) -> bool {
        self.progress.borrow().from_bucket
    }

    /// Waits until the size is known, which needs the whole fill if the upstream does not say it.
    pub(super) async fn start(&self) -> Result<Start, Error> {
        let mut progress = self.progress.clone();
        let progress = progress
            .wait_for(|progress| {
                // Of nothing, no last byte can be held back: it must be right before it is said.
                progress.end.is_some()
                    || progress.verified.is_some()
                    || progress
                        .head
                        .as_ref()
                        .is_some_and(|head| head.size.is_some_and(|size| size > 0))
            })
            .await
            .map_err(|_| Error::Gone)?;
        match (&progress.end, &progress.head) {
            (Some(End::Failed(error)), _) => Err(error.clone()),
            (Some(End::AlreadyThere), _) | (_, None) => Ok(Start::LookAgain),
            (Some(End::Stored(size)), Some(head)) => Ok(Start::Reading(head.clone(), *size)),
            (None, Some(head)) => match progress.verified.or(head.size) {
                Some(size) => Ok(Start::Reading(head.clone(), size)),
                None => Err(Error::Gone),
            },
        }
    }
}

impl Cache {
    /// The running fill of that digest.
    pub(super) fn running_fill(&self, digest: &Digest) -> Option<Fill> {
        self.fills().get(digest).cloned()
    }

    /// The running fill of that digest, or a new one; and whether it is new.
    pub(super) fn fill(&self, origin: &Origin, digest: &Digest) -> (Fill, bool) {
        let mut fills = self.fills();
        if let Some(fill) = fills.get(digest) {
            return (fill.clone(), false);
        }
        let (sender, receiver) = watch::channel(Progress::default());
        let fill = Fill {
            origin: origin.clone(),
            progress: receiver,
        };
        fills.insert(digest.clone(), fill.clone());
        self.0.metrics.fills_running.inc();
        let registration = Registration {
            cache: self.clone(),
            digest: digest.clone(),
        };
        let repository = origin.repository.as_str();
        let span = spans::fill(origin.host().as_str(), repository, digest);
        let filling = run(registration, origin.clone(), sender).instrument(span);
        self.0.tasks.spawn(filling);
        (fill, true)
    }

    fn fills(&self) -> std::sync::MutexGuard<'_, Fills> {
        self.0.fills.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a fill in the list of running ones.
struct Registration {
    cache: Cache,
    digest: Digest,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.cache.fills().remove(&self.digest);
        self.cache.0.metrics.fills_running.dec();
    }
}

async fn run(registration: Registration, origin: Origin, progress: watch::Sender<Progress>) {
    let (cache, digest) = (registration.cache.clone(), registration.digest.clone());
    let progress = Arc::new(progress);
    let filling = async {
        // In a box of its own, which is given back before the wait: hundreds may wait.
        let fetching = Box::pin(fetch(&cache, &origin, &digest, &progress));
        let fetched = fetching.await?;
        match fetched {
            Fetched::AlreadyThere => Ok(End::AlreadyThere),
            Fetched::Whole(whole) => commit(&cache, &origin, &digest, whole).await,
        }
    };
    let filled = tokio::select! {
        filled = filling => filled,
        () = cache.0.stop.cancelled() => Err(Error::Gone),
    };
    let end = filled.unwrap_or_else(|error| {
        tracing::warn!(upstream = %origin.host(), repository = %origin.repository, %digest, %error, "failed to fill {digest}");
        cache.remember_failure(&origin, &digest, &error);
        End::Failed(error)
    });
    let result = match &end {
        End::Stored(_) => "stored",
        End::AlreadyThere | End::Failed(Error::Gone) => "dropped",
        End::Failed(Error::Mismatch { .. } | Error::Bucket(_)) => "mismatch",
        End::Failed(Error::Upstream(_)) => "upstream",
        End::Failed(Error::Full) => "full",
        End::Failed(_) => "store",
    };
    cache.0.metrics.fills.with_label_values(&[result]).inc();
    Span::current().record("larder.outcome", result);
    // Removed before it is told: who comes later finds the stored blob, or tries anew.
    drop(registration);
    progress.send_modify(|progress| progress.end = Some(end));
}

enum Fetched {
    AlreadyThere,
    Whole(Whole),
}

/// A blob that is all there and right, on its way to its name.
struct Whole {
    verified: Verified,
    /// Until it has its name.
    held: (Reservation, Option<OwnedSemaphorePermit>),
    /// Whether the bucket that replicas share lacks it.
    is_new: bool,
}

async fn fetch(
    cache: &Cache,
    origin: &Origin,
    digest: &Digest,
    progress: &Arc<watch::Sender<Progress>>,
) -> Result<Fetched, Error> {
    let slot = cache.0.fill_slots.acquire().await;
    let busy = cache.0.commits.begin();
    // Looked up again: between a client's look and this fill another one may have ended.
    if !cache.0.store.surely_lacks(digest) {
        let name = digest.clone();
        let there = cache
            .blocking(move |store| Ok(store.blob(&name)?.is_some()))
            .await?;
        if there {
            return Ok(Fetched::AlreadyThere);
        }
    }
    // At the same time: a busy disk makes a new file wait, and that is time in which the upstream can answer.
    let beginning = cache.blocking(storage::Store::begin);
    let (blob, source) = tokio::join!(beginning, Source::open(cache, origin, digest));
    let blob = match blob {
        Ok(blob) => blob,
        Err(error) => {
            cache.after_write_failure(&error, 0).await;
            return Err(error);
        }
    };
    let source = source?;
    let length = source.length().unwrap_or(0);
    let reservation = cache.reserve(length).await.ok_or(Error::Full)?;
    let is_new = !source.is_all_shared();
    let verified = copy(cache, origin, digest, source, blob, progress).await?;
    drop(busy);
    let place = cache.0.commits.place().await;
    drop(slot);
    Ok(Fetched::Whole(Whole {
        verified,
        held: (reservation, place),
        is_new,
    }))
}

/// Waits until it is durable.
async fn commit(
    cache: &Cache,
    origin: &Origin,
    digest: &Digest,
    whole: Whole,
) -> Result<End, Error> {
    let Verified { size, committed } = whole.verified;
    if let Err(error) = committed.await.map_err(|_| Error::Gone)? {
        let error = Error::store(error);
        cache.after_write_failure(&error, size).await;
        return Err(error);
    }
    drop(whole.held);
    if whole.is_new {
        cache.share_content(origin, digest);
    }
    Ok(End::Stored(size))
}

/// Moves the body through a bounded channel to the thread that writes and hashes.
async fn copy(
    cache: &Cache,
    origin: &Origin,
    digest: &Digest,
    source: Source,
    blob: TemporaryBlob,
    progress: &Arc<watch::Sender<Progress>>,
) -> Result<Verified, Error> {
    let (length, from_bucket) = (source.length().unwrap_or(0), source.is_bucket());
    progress.send_modify(|progress| progress.from_bucket = from_bucket);
    let (sender, receiver) = writer::channel();
    let job = writer::Job {
        commits: cache.0.commits.clone(),
        host: origin.host().clone(),
        repository: origin.repository.clone(),
        digest: digest.clone(),
        size: source.promised(),
        blob,
        progress: progress.clone(),
        receiver,
    };
    let moving = async move {
        // Closing the channel without an end makes the writer give up.
        source.send(&sender, &cache.0.turns).await
    };
    let writing = write(cache, origin, digest, job, length);
    let (moved, written) = tokio::join!(moving, writing);
    match (written, moved) {
        (_, Err(Stopped::Upstream(error))) => Err(Error::Upstream(error)),
        (written, _) => written,
    }
}

/// Runs the writer to its end. A full disk gets one round of eviction.
async fn write(
    cache: &Cache,
    origin: &Origin,
    digest: &Digest,
    mut job: writer::Job,
    length: u64,
) -> Result<Verified, Error> {
    let from_bucket = job.progress.borrow().from_bucket;
    let mut again = true;
    loop {
        let running = cache.0.tasks.spawn_blocking(move || job.run());
        let failure = match running.await {
            Ok(Ok(verified)) => return Ok(verified),
            Ok(Err(failure)) => failure,
            Err(_) => return Err(Error::Gone),
        };
        let (unbegun, error) = match failure {
            WriteError::GivenUp => return Err(Error::Gone),
            WriteError::Mismatch if from_bucket => return Err(cache.distrust(digest)),
            WriteError::Mismatch => return Err(cache.count_mismatch(origin, digest)),
            WriteError::Store(error) => (None, Error::store(error)),
            WriteError::NoRoom(job, error) => (Some(job), Error::store(error)),
        };
        cache.after_write_failure(&error, length).await;
        match unbegun {
            Some(unbegun) if std::mem::take(&mut again) && !cache.store_is_broken() => {
                job = *unbegun;
            }
            _ => return Err(error),
        }
    }
}
