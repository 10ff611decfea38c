//! A round: all that is stored is compared with what the bucket lists, and what is missing there goes there. It makes good
//! what a crash, a full queue, a failing bucket or a rule of the bucket's life cycle took, and fills a new bucket.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crds::values::RegistryHost;
use tokio_util::sync::CancellationToken;

use super::{Cache, Failure};
use crate::bucket::{self, Bucket, Times, keys};
use crate::oci::{Digest, Repository};
use crate::storage::StoredTag;

impl Cache {
    pub(super) async fn keep_comparing(&self, bucket: &Arc<Bucket>, stop: &CancellationToken) {
        let Times { retry, round, .. } = bucket.times();
        let mut timer = tokio::time::interval(retry);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last: Option<Instant> = None;
        let sharing = &self.0.sharing;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sharing.scanned.notified() => {}
                _ = timer.tick() => {}
            }
            let due = sharing.behind.load(Ordering::SeqCst)
                || last.is_none_or(|last| last.elapsed() >= round);
            // Before the scan is over, not all that is stored is known.
            if !due || !self.0.store.is_scanned() || bucket.is_left_alone() {
                continue;
            }
            // What falls behind from now on may be missed.
            sharing.behind.store(false, Ordering::SeqCst);
            let compared = tokio::select! {
                biased;
                compared = self.compare_all(bucket, stop) => compared,
                () = super::ended(stop) => return,
            };
            match compared {
                Ok(()) => last = Some(Instant::now()),
                Err(error) => {
                    sharing.behind.store(true, Ordering::SeqCst);
                    tracing::warn!(%error, "failed to compare the store with the bucket; it is tried again");
                }
            }
            let behind = sharing.behind.load(Ordering::SeqCst);
            self.0.metrics.bucket_behind.set(i64::from(behind));
        }
    }

    async fn compare_all(
        &self,
        bucket: &Arc<Bucket>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        self.compare_contents(bucket, stop).await?;
        let repositories = self
            .blocking(|store| {
                let mut found = Vec::new();
                store.each_repository(&mut |host, repository| {
                    found.push((host.clone(), repository.clone()));
                    Ok(())
                })?;
                Ok(found)
            })
            .await?;
        for (host, repository) in &repositories {
            if stop.is_cancelled() {
                return Ok(());
            }
            self.compare_repository(bucket, host, repository).await?;
        }
        Ok(())
    }

    async fn compare_contents(
        &self,
        bucket: &Arc<Bucket>,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let entries = self.0.store.index().entries();
        let mut missing: HashMap<String, (Digest, u64)> = entries
            .iter()
            .map(|entry| {
                let digest = entry.key.digest();
                (fanned(&digest), (digest, entry.size))
            })
            .collect();
        let all = bucket.keys().contents();
        let listing = bucket.each(&all, |name, size, _| {
            let there = missing.get(name).is_some_and(|(digest, stored)| {
                *stored == size && !self.0.sharing.is_wrong(digest)
            });
            if there {
                missing.remove(name);
            }
        });
        listing.await?;
        for (digest, _) in missing.into_values() {
            match self.upload(bucket, &digest, stop).await {
                // The scrubber takes care of it.
                Err(Failure::Bucket(error @ bucket::Error::Rotten { .. })) => {
                    tracing::error!(%error, "the content of {digest} rotted; it is not shared");
                }
                other => other.map(|_| ())?,
            }
        }
        Ok(())
    }

    async fn compare_repository(
        &self,
        bucket: &Arc<Bucket>,
        host: &RegistryHost,
        repository: &Repository,
    ) -> Result<(), Failure> {
        let (of, name) = (host.clone(), repository.clone());
        let (members, manifests, tags) = self
            .blocking(move |store| {
                Ok((
                    store.members(&of, &name)?,
                    store.manifests(&of, &name)?,
                    store.tags(&of, &name)?,
                ))
            })
            .await?;
        let keys = bucket.keys();
        let mut members = by_place(members);
        let listed = keys.members(host, repository);
        bucket
            .each(&listed, |name, _, _| drop(members.remove(name)))
            .await?;
        let members = members.into_values().collect();
        self.put_members(bucket, host, repository, members).await?;
        let mut manifests = by_place(manifests);
        let listed = keys.manifests(host, repository);
        bucket
            .each(&listed, |name, _, _| drop(manifests.remove(name)))
            .await?;
        for digest in manifests.into_values() {
            self.put_record(bucket, host, repository, &digest).await?;
        }
        let mut tags: HashMap<String, StoredTag> = tags
            .into_iter()
            .map(|tag| (tag.tag.to_string(), tag))
            .collect();
        let listed = keys.tags(host, repository);
        let newer = |tag: &StoredTag, written| tag.record.checked_at > written;
        bucket
            .each(&listed, |name, _, written| {
                if tags.get(name).is_some_and(|tag| !newer(tag, written)) {
                    tags.remove(name);
                }
            })
            .await?;
        for tag in tags.into_values() {
            self.put_tag(bucket, host, repository, &tag.tag).await?;
        }
        Ok(())
    }
}

/// What content's place below the prefix of all content is called.
fn fanned(digest: &Digest) -> String {
    let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
    format!("{algorithm}/{}/{hex}", &hex[..2])
}

fn by_place(digests: Vec<Digest>) -> HashMap<String, Digest> {
    let named = digests.into_iter();
    named.map(|digest| (keys::place(&digest), digest)).collect()
}
