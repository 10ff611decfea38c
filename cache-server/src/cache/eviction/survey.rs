//! What the rules keep of what the store holds: from tags and manifests to everything that they consist of. Blocks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::SystemTime;

use crds::policy::Retention;
use crds::values::RegistryHost;

use super::plan::{Reason, Standing};
use crate::cache::admission::Rules;
use crate::oci::manifest::Manifest;
use crate::oci::{Digest, MAXIMUM_MANIFEST, Repository, Tag};
use crate::storage::{Error, Key, Kind, Store, StoredTag};

/// Indexes in indexes that are followed.
const DEEPEST: usize = 8;
/// A second that never comes: kept while there is room.
const FOREVER: u32 = u32::MAX;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    keeps: HashMap<Key, Keep>,
    superseded: HashSet<Key>,
    /// Records to remove.
    pub(super) old_tags: Vec<(RegistryHost, Repository, Tag, Digest)>,
    pub(super) old_manifests: Vec<(RegistryHost, Repository, Digest)>,
    /// Image manifests of which everything is stored: they can be pulled without the upstream.
    pub(super) complete: u64,
    pub(super) incomplete: u64,
}

#[derive(Debug, Clone, Copy)]
struct Keep {
    pinned: bool,
    until: u32,
}

impl Survey {
    /// Looks at everything.
    pub(super) fn take(store: &Store, rules: &Rules) -> Result<Self, Error> {
        let mut survey = Self::default();
        store.each_repository(&mut |host, repository| {
            let view = View::new(store, rules, host, repository)?;
            survey.add(view);
            Ok(())
        })?;
        Ok(survey)
    }

    /// What the rules say of content at a second.
    pub(super) fn standing(&self, key: &Key, now: u32) -> Standing {
        match self.keeps.get(key) {
            Some(keep) if keep.pinned => Standing::Pinned,
            Some(keep) if keep.until <= now => Standing::Dropped(Reason::Unused),
            None if self.superseded.contains(key) => Standing::Dropped(Reason::Superseded),
            _ => Standing::Kept,
        }
    }

    fn add(&mut self, mut view: View<'_>) {
        let mut kept = HashMap::new();
        for (root, retention) in view.roots() {
            view.walk(&root, &retention, 0, DEEPEST, &mut kept);
        }
        let mut old = HashMap::new();
        for digest in &view.superseded.clone() {
            view.walk(digest, &Retention::default(), 0, DEEPEST, &mut old);
        }
        old.retain(|key, _| !kept.contains_key(key));
        let (host, repository) = (view.host, view.repository);
        let place = || (host.clone(), repository.clone());
        for (tag, digest) in view.old_tags.iter().zip(&view.superseded) {
            let (host, repository) = place();
            let (tag, digest) = (tag.clone(), digest.clone());
            self.old_tags.push((host, repository, tag, digest));
        }
        for digest in view
            .records
            .iter()
            .filter(|d| old.contains_key(&Key::from(*d)))
        {
            let (host, repository) = place();
            self.old_manifests.push((host, repository, digest.clone()));
        }
        self.superseded.extend(old.into_keys());
        for (key, keep) in kept {
            let merged = self.keeps.entry(key).or_insert(keep);
            merged.pinned |= keep.pinned;
            merged.until = merged.until.max(keep.until);
        }
        let index = view.store.index();
        for digest in view.records.clone() {
            let Some(manifest) = view.document(&digest).filter(|found| !found.is_index) else {
                continue;
            };
            let is_here = |reference: &Digest| index.get(&Key::from(reference)).is_some();
            if manifest.references.iter().all(is_here) {
                self.complete += 1;
            } else {
                self.incomplete += 1;
            }
        }
    }
}

/// One repository.
struct View<'a> {
    store: &'a Store,
    host: &'a RegistryHost,
    repository: &'a Repository,
    records: HashSet<Digest>,
    tagged: Vec<(Digest, Retention)>,
    untagged: Retention,
    old_tags: Vec<Tag>,
    superseded: Vec<Digest>,
    documents: HashMap<Key, Option<Manifest>>,
}

impl<'a> View<'a> {
    fn new(
        store: &'a Store,
        rules: &Rules,
        host: &'a RegistryHost,
        repository: &'a Repository,
    ) -> Result<Self, Error> {
        let retention = |tag: Option<&Tag>| {
            rules
                .kept(host, repository, tag)
                .map(|kept| (kept.rule.to_owned(), kept.retention.clone()))
        };
        let mut by_rule: BTreeMap<String, (Retention, Vec<StoredTag>)> = BTreeMap::new();
        for tag in store.tags(host, repository)? {
            let (rule, retention) = retention(Some(&tag.tag)).unwrap_or_default();
            by_rule
                .entry(rule)
                .or_insert((retention, Vec::new()))
                .1
                .push(tag);
        }
        let mut view = Self {
            store,
            host,
            repository,
            records: store.manifests(host, repository)?.into_iter().collect(),
            tagged: Vec::new(),
            untagged: retention(None).unwrap_or_default().1,
            old_tags: Vec::new(),
            superseded: Vec::new(),
            documents: HashMap::new(),
        };
        for (retention, mut tags) in by_rule.into_values() {
            newest_first(&mut tags);
            let count = retention.keep_newest.map_or(tags.len(), |count| {
                usize::try_from(count).unwrap_or(usize::MAX)
            });
            for old in tags.split_off(count.min(tags.len())) {
                view.old_tags.push(old.tag);
                view.superseded.push(old.record.digest);
            }
            let kept = tags.into_iter().map(|tag| tag.record.digest);
            view.tagged
                .extend(kept.map(|digest| (digest, retention.clone())));
        }
        Ok(view)
    }

    /// What tags name, and manifests that no other one of the repository refers to.
    fn roots(&mut self) -> Vec<(Digest, Retention)> {
        let mut referred: HashSet<Digest> = HashSet::new();
        for digest in self.records.clone() {
            if let Some(manifest) = self.document(&digest) {
                referred.extend(manifest.references.iter().cloned());
            }
        }
        referred.extend(self.tagged.iter().map(|(digest, _)| digest.clone()));
        referred.extend(self.superseded.iter().cloned());
        let alone = self
            .records
            .iter()
            .filter(|digest| !referred.contains(digest));
        let alone = alone.map(|digest| (digest.clone(), self.untagged.clone()));
        self.tagged.iter().cloned().chain(alone).collect()
    }

    /// Keeps a manifest and what it consists of. `used`: when what led here was used.
    fn walk(
        &mut self,
        digest: &Digest,
        retention: &Retention,
        used: u32,
        depth: usize,
        keeps: &mut HashMap<Key, Keep>,
    ) {
        let key = Key::from(digest);
        let own = self.store.index().get(&key).map_or(0, |entry| entry.used);
        let used = used.max(own);
        let keep = Keep {
            pinned: retention.pin,
            until: retention.unused_for.map_or(FOREVER, |time| {
                used.saturating_add(u32::try_from(time.as_secs()).unwrap_or(FOREVER))
            }),
        };
        let add = |keeps: &mut HashMap<Key, Keep>, key: Key| {
            let merged = keeps.entry(key).or_insert(keep);
            merged.pinned |= keep.pinned;
            merged.until = merged.until.max(keep.until);
        };
        add(keeps, key);
        let references = self
            .document(digest)
            .map(|manifest| manifest.references.clone());
        for reference in references.into_iter().flatten() {
            if depth > 0 && self.document(&reference).is_some() {
                self.walk(&reference, retention, used, depth - 1, keeps);
            } else {
                add(keeps, Key::from(&reference));
            }
        }
    }

    /// The manifest with that digest, if it is one and stored.
    fn document(&mut self, digest: &Digest) -> Option<&Manifest> {
        let (store, records) = (self.store, &self.records);
        self.documents
            .entry(Key::from(digest))
            .or_insert_with(|| {
                let entry = store.index().get(&Key::from(digest))?;
                let known = entry.kind == Kind::Manifest || records.contains(digest);
                let text = known.then(|| store.peek(digest, MAXIMUM_MANIFEST).ok()?)?;
                Manifest::parse(&text?).ok()
            })
            .as_ref()
    }
}

/// Those whose content came last; what has none here is oldest.
fn newest_first(tags: &mut [StoredTag]) {
    tags.sort_by(|one, other| {
        let time = |tag: &StoredTag| tag.stored.unwrap_or(SystemTime::UNIX_EPOCH);
        time(other)
            .cmp(&time(one))
            .then_with(|| other.tag.cmp(&one.tag))
    });
}
