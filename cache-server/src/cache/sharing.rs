//! What goes to the bucket that replicas share, behind the answers: no client waits for it, and no failure of it reaches one.
//! A queue in memory is quick, and a round that compares everything makes good what the queue lost.

mod round;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crds::values::RegistryHost;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::memory::Memory;
use super::{Cache, Error, Origin};
use crate::bucket::{self, Bucket};
use crate::clock::Moment;
use crate::oci::manifest::Manifest;
use crate::oci::{Digest, MAXIMUM_MANIFEST, Repository, Tag};
use crate::storage;

/// What waits at most; more is left to the next round.
const MOST: usize = 4096;
/// Jobs that run at the same time, with one part of a body in memory each.
const WORKERS: usize = 4;
/// Small objects that one job writes at the same time.
const AT_ONCE: usize = 8;
/// How long it is remembered that the upstream had no such tag: no record may live longer.
const GONE: Duration = Duration::from_hours(24 * 30);

/// Something of the store to be made known to other replicas.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Job {
    /// Content, and that the repository has it.
    Content(RegistryHost, Repository, Digest),
    /// A manifest, and that the repository has it and what it refers to.
    Manifest(RegistryHost, Repository, Digest),
    /// What a tag is, or that it is gone.
    Tag(RegistryHost, Repository, Tag),
}

/// Why something is not in the bucket.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Bucket(#[from] bucket::Error),
    #[error(transparent)]
    Store(#[from] Error),
}

/// What is to be shared, and what is known of the bucket's content.
#[derive(Debug)]
pub(super) struct Sharing {
    queue: Mutex<Queue>,
    wake: Notify,
    /// The store has been looked through.
    scanned: Notify,
    /// Whether something may be missing in the bucket. A start may follow a crash.
    behind: AtomicBool,
    /// Objects that are not what their keys say, until they are replaced.
    wrong: Mutex<HashSet<Digest>>,
    /// When the upstream was last found to have no such tag.
    gone: Memory<String, Moment>,
}

impl Default for Sharing {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            scanned: Notify::new(),
            behind: AtomicBool::new(true),
            wrong: Mutex::default(),
            gone: Memory::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    known: HashSet<Job>,
}

impl Sharing {
    pub(super) fn is_wrong(&self, digest: &Digest) -> bool {
        self.wrong().contains(digest)
    }

    pub(super) fn distrust(&self, digest: &Digest) {
        let mut wrong = self.wrong();
        if wrong.len() < MOST {
            wrong.insert(digest.clone());
        }
    }

    fn wrong(&self) -> MutexGuard<'_, HashSet<Digest>> {
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    pub(super) fn share_content(&self, origin: &Origin, digest: &Digest) {
        let (host, repository) = (origin.host().clone(), origin.repository.clone());
        self.share(Job::Content(host, repository, digest.clone()));
    }

    pub(super) fn share_manifest(&self, origin: &Origin, digest: &Digest) {
        let (host, repository) = (origin.host().clone(), origin.repository.clone());
        self.share(Job::Manifest(host, repository, digest.clone()));
    }

    pub(super) fn share_tag(&self, origin: &Origin, tag: &Tag) {
        let (host, repository) = (origin.host().clone(), origin.repository.clone());
        self.share(Job::Tag(host, repository, tag.clone()));
    }

    /// The upstream has no such tag any more: what replicas wrote of it until now is worth nothing.
    pub(super) fn share_end_of_tag(&self, origin: &Origin, tag: &Tag) {
        if self.bucket().is_some() {
            let now = self.0.clock.now();
            self.0.sharing.gone.put(name(origin, tag), now, now, GONE);
            self.share_tag(origin, tag);
        }
    }

    pub(super) fn gone_since(&self, origin: &Origin, tag: &Tag) -> Option<Moment> {
        let now = self.0.clock.now();
        self.0.sharing.gone.get(&name(origin, tag), now, GONE)
    }

    fn share(&self, job: Job) {
        let Some(bucket) = self.bucket() else {
            return;
        };
        let sharing = &self.0.sharing;
        let mut queue = sharing.queue();
        if queue.known.contains(&job) {
            return;
        }
        if queue.jobs.len() >= MOST || bucket.is_left_alone() {
            drop(queue);
            self.fell_behind();
            return;
        }
        queue.known.insert(job.clone());
        queue.jobs.push_back(job);
        self.0.metrics.bucket_queue.inc();
        drop(queue);
        sharing.wake.notify_one();
    }

    fn fell_behind(&self) {
        self.0.metrics.bucket_dropped.inc();
        self.0.metrics.bucket_behind.set(1);
        self.0.sharing.behind.store(true, Ordering::SeqCst);
    }

    /// Compares the store with the bucket, now that all that is stored is known.
    pub fn compare_with_bucket(&self) {
        self.0.sharing.scanned.notify_one();
    }

    /// Runs until told to stop, if there is a bucket. What waits then is found by the round of the next start.
    pub async fn keep_sharing(self, stop: CancellationToken) {
        let Some(bucket) = self.bucket().cloned() else {
            return;
        };
        let workers = (0..WORKERS).map(|_| self.work(&bucket, &stop));
        let working = futures::future::join_all(workers);
        tokio::join!(working, self.keep_comparing(&bucket, &stop));
    }

    async fn work(&self, bucket: &Arc<Bucket>, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let Some(job) = self.next_job() else {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = self.0.sharing.wake.notified() => continue,
                }
            };
            // Several jobs may have come with one call to wake up.
            self.0.sharing.wake.notify_one();
            let done = tokio::select! {
                biased;
                done = self.write_job(bucket, &job, stop) => done,
                () = ended(stop) => return,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "failed to share what was stored; it is tried again later");
                self.fell_behind();
            }
            self.0.metrics.bucket_queue.dec();
        }
    }

    fn next_job(&self) -> Option<Job> {
        let mut queue = self.0.sharing.queue();
        let job = queue.jobs.pop_front()?;
        queue.known.remove(&job);
        Some(job)
    }

    async fn write_job(
        &self,
        bucket: &Arc<Bucket>,
        job: &Job,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        match job {
            Job::Content(host, repository, digest) => {
                if self.upload(bucket, digest, stop).await? {
                    let key = bucket.keys().member(host, repository, digest);
                    bucket.put(&key, Bytes::new()).await?;
                }
                Ok(())
            }
            Job::Manifest(host, repository, digest) => {
                let members = self.references(digest).await?;
                if !self.upload(bucket, digest, stop).await? {
                    return Ok(());
                }
                self.put_members(bucket, host, repository, members).await?;
                self.put_record(bucket, host, repository, digest).await
            }
            Job::Tag(host, repository, tag) => self.put_tag(bucket, host, repository, tag).await,
        }
    }

    /// Puts content there, unless it is. `false`: it is not in the store any more.
    async fn upload(
        &self,
        bucket: &Arc<Bucket>,
        digest: &Digest,
        stop: &CancellationToken,
    ) -> Result<bool, Failure> {
        let name = digest.clone();
        let Some(blob) = self.blocking(move |store| store.peek_file(&name)).await? else {
            return Ok(false);
        };
        let there = bucket.size(&bucket.keys().content(digest)).await?;
        if there != Some(blob.size) || self.0.sharing.is_wrong(digest) {
            bucket.upload(digest, blob.file, blob.size, stop).await?;
            self.0.sharing.wrong().remove(digest);
        }
        Ok(true)
    }

    /// A stored manifest and what it refers to.
    async fn references(&self, digest: &Digest) -> Result<Vec<Digest>, Failure> {
        let name = digest.clone();
        let text = self
            .blocking(move |store| store.peek(&name, MAXIMUM_MANIFEST))
            .await?;
        let manifest = text.and_then(|text| Manifest::parse(&text).ok());
        let mut members = manifest.map(|found| found.references).unwrap_or_default();
        members.push(digest.clone());
        Ok(members)
    }

    async fn put_members(
        &self,
        bucket: &Arc<Bucket>,
        host: &RegistryHost,
        repository: &Repository,
        members: Vec<Digest>,
    ) -> Result<(), Failure> {
        let putting = members.into_iter().map(|member| async move {
            let key = bucket.keys().member(host, repository, &member);
            bucket.put(&key, Bytes::new()).await
        });
        stream::iter(putting)
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
            .map_err(Failure::from)
    }

    /// The record of a manifest. Call it when its content and its members are there.
    async fn put_record(
        &self,
        bucket: &Arc<Bucket>,
        host: &RegistryHost,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), Failure> {
        let (of, name, manifest) = (host.clone(), repository.clone(), digest.clone());
        let media_type = self
            .blocking(move |store| store.manifest_type(&of, &name, &manifest))
            .await?;
        if let Some(media_type) = media_type {
            let key = bucket.keys().manifest(host, repository, digest);
            bucket.put(&key, media_type.into()).await?;
        }
        Ok(())
    }

    async fn put_tag(
        &self,
        bucket: &Arc<Bucket>,
        host: &RegistryHost,
        repository: &Repository,
        tag: &Tag,
    ) -> Result<(), Failure> {
        let (of, name, wanted) = (host.clone(), repository.clone(), tag.clone());
        let record = self
            .blocking(move |store| store.tag(&of, &name, &wanted))
            .await?;
        let key = bucket.keys().tag(host, repository, tag);
        match record {
            Some(record) => {
                let text = serde_json::to_vec(&record).map_err(|error| {
                    Error::store(storage::Error::Io {
                        action: "encode",
                        path: key.to_string().into(),
                        source: error.into(),
                    })
                })?;
                bucket.put(&key, text.into()).await?;
            }
            None => bucket.remove(&key).await?,
        }
        Ok(())
    }
}

/// A moment after the stop: uploads take themselves back meanwhile.
async fn ended(stop: &CancellationToken) {
    stop.cancelled().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

fn name(origin: &Origin, tag: &Tag) -> String {
    format!("{}/{}:{tag}", origin.host(), origin.repository)
}
