//! Manifests and tags that were asked for lately, so that an answer that is in memory waits for no thread and no disk.
//! What may be served is decided before, for each request.

use std::time::Duration;

use bytes::Bytes;

use super::manifest::{Key, Sought, Stored};
use super::recent::{Recent, Ticket};
use super::{Cache, Origin, Place};
use crate::clock::Moment;
use crate::oci::{Digest, MediaType, Tag};
use crate::storage::TagRecord;

/// All manifests in memory together.
const MANIFESTS: usize = 7 * 1024 * 1024;
/// A larger one is read from the store each time.
const LARGEST: usize = 256 * 1024;
/// All tags in memory together.
const TAGS: usize = 1024 * 1024;
/// What an entry weighs besides its content, about.
const ENTRY: usize = 512;
/// Uses within it are noted once: the store knows them to the second.
const NOTED: Duration = Duration::from_millis(500);

/// What is in memory.
#[derive(Debug)]
pub(super) struct RecentManifests {
    manifests: Recent<Key<Digest>, Manifest>,
    tags: Recent<Key<Tag>, TagRecord>,
}

#[derive(Debug)]
struct Manifest {
    media_type: MediaType,
    content: Bytes,
    /// When its use was noted last.
    noted: Moment,
}

/// Taken before the store is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tickets {
    manifests: Ticket,
    tags: Ticket,
}

impl Default for RecentManifests {
    fn default() -> Self {
        Self {
            manifests: Recent::new(MANIFESTS),
            tags: Recent::new(TAGS),
        }
    }
}

impl Cache {
    /// Drops all that is in memory. To be called after records or content were removed from the store: that is rare, and what
    /// is asked for again is soon back.
    pub(super) fn forget_recent(&self) {
        self.0.recent.tags.clear();
        self.0.recent.manifests.clear();
    }

    pub(super) fn tickets(&self) -> Tickets {
        Tickets {
            manifests: self.0.recent.manifests.ticket(),
            tags: self.0.recent.tags.ticket(),
        }
    }

    pub(super) fn recent_manifest(&self, place: Place<'_>, digest: &Digest) -> Option<Stored> {
        let (key, now) = (Sought::new(place, digest), self.0.clock.now());
        let (media_type, content, is_noted) = self.0.recent.manifests.get(&key, now, |found| {
            let is_noted = now.since(found.noted).is_some_and(|age| age < NOTED);
            if !is_noted {
                found.noted = now;
            }
            (found.media_type.clone(), found.content.clone(), is_noted)
        })?;
        if !is_noted {
            self.use_manifest(digest);
        }
        Some(Stored {
            digest: digest.clone(),
            media_type,
            content,
        })
    }

    /// Whoever answers with the record alone has used its manifest ([`Self::use_manifest`]).
    pub(super) fn recent_tag(&self, place: Place<'_>, tag: &Tag) -> Option<TagRecord> {
        let (key, now) = (Sought::new(place, tag), self.0.clock.now());
        self.0.recent.tags.get(&key, now, |record| record.clone())
    }

    /// An answer from memory is a use like any other: what is asked for all the time must not look unused.
    pub(super) fn use_manifest(&self, digest: &Digest) {
        self.0.store.touch(digest);
    }

    /// The repository's manifest was read from the store.
    pub(super) fn manifest_was_read(&self, origin: &Origin, stored: &Stored, tickets: Tickets) {
        if stored.content.len() > LARGEST {
            return;
        }
        let weight = stored.content.len() + ENTRY;
        let (key, now) = (Key::new(origin, &stored.digest), self.0.clock.now());
        let manifest = Manifest {
            media_type: stored.media_type.clone(),
            content: stored.content.clone(),
            noted: now,
        };
        let tickets = tickets.manifests;
        self.0
            .recent
            .manifests
            .put(key, manifest, weight, now, tickets);
    }

    pub(super) fn tag_was_read(
        &self,
        origin: &Origin,
        tag: &Tag,
        record: &TagRecord,
        tickets: Tickets,
    ) {
        let (key, record) = (Key::new(origin, tag), record.clone());
        let now = self.0.clock.now();
        self.0
            .recent
            .tags
            .put(key, record, ENTRY, now, tickets.tags);
    }

    /// The record in the store is this one now.
    pub(super) fn tag_was_written(&self, origin: &Origin, tag: &Tag, record: &TagRecord) {
        let (key, record) = (Key::new(origin, tag), record.clone());
        self.0
            .recent
            .tags
            .set(key, record, ENTRY, self.0.clock.now());
    }

    /// The store has another record now, or none.
    pub(super) fn tag_was_removed(&self, origin: &Origin, tag: &Tag) {
        let key = Sought::new(origin.place(), tag);
        self.0.recent.tags.forget(&key);
    }
}
