//! What people do by hand: look what is stored, and take things out.

use std::collections::HashSet;

use crds::values::RegistryHost;
use serde::Serialize;
use tokio::sync::mpsc;

use super::eviction::sweep;
use super::{Cache, Error};
use crate::clock::Moment;
use crate::oci::manifest::Manifest;
use crate::oci::{Digest, MAXIMUM_MANIFEST, Reference, Repository, Tag};
use crate::storage::{self, Key, Kind, Store};

/// What was taken out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Purged {
    pub tags: u64,
    pub manifests: u64,
    /// Blobs and manifests that were removed from the disk; what others need stays.
    pub contents: u64,
    pub bytes: u64,
}

/// The names of it.
#[derive(Debug, Default)]
struct Removed {
    tags: Vec<Tag>,
    manifests: Vec<Digest>,
    contents: Vec<Digest>,
}

/// An image in the store.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    pub upstream: String,
    pub repository: String,
    /// `None`: known by its digest only.
    pub tag: Option<String>,
    pub digest: String,
    /// Bytes of it that are stored; what it shares with others counts for each.
    pub stored_bytes: u64,
    /// When its manifest was last used; `None` if that is not stored.
    pub last_used: Option<String>,
}

impl Cache {
    /// Takes an image out. A tag goes with what nobody else needs; what is named by its digest goes in any case.
    pub async fn purge(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Purged, Error> {
        // What waits for its name would come after the purge.
        self.0.commits.settle().await;
        // Not while a round removes things.
        let _rounds = self.0.room.pause().await;
        let (host, repository, reference) = (host.clone(), repository.clone(), reference.clone());
        let (of, name, wanted) = (host.clone(), repository.clone(), reference.clone());
        let purged = self
            .blocking(move |store| purge(store, &of, &name, &wanted))
            .await;
        self.forget_recent();
        let (purged, mut removed) = purged?;
        // The bucket may know a tag that this replica does not.
        if let Reference::Tag(tag) = reference {
            removed.tags.push(tag);
        }
        self.purge_shared(&host, &repository, removed).await?;
        Ok(purged)
    }

    /// Takes the same out of the bucket, from where it would come back.
    async fn purge_shared(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        removed: Removed,
    ) -> Result<(), Error> {
        let Some(bucket) = self.bucket() else {
            return Ok(());
        };
        let keys = bucket.keys();
        let tags = removed
            .tags
            .iter()
            .map(|tag| keys.tag(host, repository, tag));
        let records = removed.manifests.iter().flat_map(|digest| {
            [
                keys.manifest(host, repository, digest),
                keys.member(host, repository, digest),
            ]
        });
        let contents = removed.contents.iter().map(|digest| keys.content(digest));
        for key in tags.chain(records).chain(contents) {
            let removing = bucket.remove(&key).await;
            removing.map_err(|error| Error::Bucket(error.to_string().into()))?;
        }
        Ok(())
    }

    /// Lists the images of repositories whose `upstream/repository` begins with the prefix.
    pub async fn images(&self, prefix: String, to: mpsc::Sender<Listed>) -> Result<(), Error> {
        self.blocking(move |store| {
            store.each_repository(&mut |host, repository| {
                let name = format!("{host}/{repository}");
                // Nobody listens any more: the rest is walked over quickly.
                if !name.starts_with(&prefix) || to.is_closed() {
                    return Ok(());
                }
                let tags = store.tags(host, repository)?;
                let mut named: Vec<_> = tags
                    .into_iter()
                    .map(|tag| (Some(tag.tag.to_string()), tag.record.digest))
                    .collect();
                let tagged: HashSet<Digest> =
                    named.iter().map(|(_, digest)| digest.clone()).collect();
                let untagged = store.manifests(host, repository)?.into_iter();
                named.extend(
                    untagged
                        .filter(|digest| !tagged.contains(digest))
                        .map(|digest| (None, digest)),
                );
                for (tag, digest) in named {
                    let found = store.index().get(&Key::from(&digest));
                    let parts = reach(store, [digest.clone()]);
                    let sizes = parts
                        .iter()
                        .filter_map(|part| store.index().get(&Key::from(part)));
                    let line = Listed {
                        upstream: host.to_string(),
                        repository: repository.to_string(),
                        tag,
                        digest: digest.to_string(),
                        stored_bytes: sizes.map(|entry| entry.size).sum(),
                        last_used: found
                            .map(|entry| Moment(i64::from(entry.used) * 1000).to_rfc3339()),
                    };
                    if to.blocking_send(line).is_err() {
                        break;
                    }
                }
                Ok(())
            })
        })
        .await
    }
}

fn purge(
    store: &Store,
    host: &RegistryHost,
    repository: &Repository,
    reference: &Reference,
) -> Result<(Purged, Removed), storage::Error> {
    let (mut purged, mut removed) = (Purged::default(), Removed::default());
    let tags = store.tags(host, repository)?;
    let root = match reference {
        Reference::Digest(digest) => Some(digest.clone()),
        Reference::Tag(name) => tags
            .iter()
            .find(|tag| tag.tag == *name)
            .map(|tag| tag.record.digest.clone()),
    };
    let Some(root) = root else {
        return Ok((purged, removed));
    };
    let mut roots = Vec::new();
    for tag in tags {
        let goes = match reference {
            Reference::Digest(digest) => tag.record.digest == *digest,
            Reference::Tag(name) => tag.tag == *name,
        };
        if goes {
            store.remove_tag(host, repository, &tag.tag)?;
            purged.tags += 1;
            removed.tags.push(tag.tag);
        } else {
            roots.push(tag.record.digest);
        }
    }
    let parts = reach(store, [root.clone()]);
    let records = store.manifests(host, repository)?;
    roots.extend(records.iter().filter(|one| !parts.contains(*one)).cloned());
    let kept = reach(store, roots);
    let by_digest = matches!(reference, Reference::Digest(_));
    let goes_in_any_case = |digest: &Digest| by_digest && *digest == root;
    for digest in &records {
        if parts.contains(digest) && (!kept.contains(digest) || goes_in_any_case(digest)) {
            store.remove_manifest_record(host, repository, digest)?;
            purged.manifests += 1;
            removed.manifests.push(digest.clone());
        }
    }
    let needed = needed(store)?;
    let mut touched = HashSet::new();
    for digest in &parts {
        let key = Key::from(digest);
        if (!needed.contains(&key) || goes_in_any_case(digest))
            && let Some(size) = store.evict(&key, u32::MAX)?
        {
            purged.contents += 1;
            purged.bytes += size;
            removed.contents.push(digest.clone());
        }
        touched.insert(key);
    }
    sweep(store, &touched)?;
    tracing::info!(upstream = %host, %repository, %reference, ?purged, "purged {host}/{repository} {reference}");
    Ok((purged, removed))
}

/// These, and all that the manifests among them refer to, through indexes.
fn reach(store: &Store, roots: impl IntoIterator<Item = Digest>) -> HashSet<Digest> {
    let mut reached = HashSet::new();
    let mut next: Vec<Digest> = roots.into_iter().collect();
    while let Some(digest) = next.pop() {
        if !reached.insert(digest.clone()) {
            continue;
        }
        next.extend(references(store, &digest));
    }
    reached
}

fn references(store: &Store, digest: &Digest) -> Vec<Digest> {
    let entry = store.index().get(&Key::from(digest));
    if entry.is_none_or(|entry| entry.kind != Kind::Manifest) {
        return Vec::new();
    }
    let text = store.peek(digest, MAXIMUM_MANIFEST).ok().flatten();
    text.and_then(|text| Manifest::parse(&text).ok())
        .map(|manifest| manifest.references)
        .unwrap_or_default()
}

/// All that the records of any repository need.
fn needed(store: &Store) -> Result<HashSet<Key>, storage::Error> {
    let mut needed = HashSet::new();
    store.each_repository(&mut |host, repository| {
        for digest in store.manifests(host, repository)? {
            let parts = references(store, &digest);
            needed.extend(parts.iter().chain([&digest]).map(Key::from));
        }
        Ok(())
    })?;
    Ok(needed)
}
