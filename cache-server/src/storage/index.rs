//! What the store holds, in memory: size, last use and kind of each content. Built from the disk by a scan in the
//! background and kept up to date from then on. Only a hint: the disk stays the truth for every answer.
//!
//! A use is one atomic write under a shared lock. What was used since is written to the files' access times in batches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::clock::Moment;
use crate::oci::{Algorithm, Digest};

/// Locks; growing the map of one stops the users of the others not.
const SHARDS: usize = 64;

/// Seconds up to which a use that lies ahead is left as it is.
const FAR_AHEAD: u32 = 3600;

/// A digest without its text: the index of a million blobs is small.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

/// What content is used as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Blob,
    Manifest,
}

/// One content, as it is in the index at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: Key,
    pub size: u64,
    /// Seconds since 1970.
    pub used: u32,
    pub kind: Kind,
}

#[derive(Debug)]
struct Slot {
    size: u64,
    used: AtomicU32,
    /// Whether `used` is newer than what the file says.
    changed: AtomicBool,
    manifest: AtomicBool,
}

impl Slot {
    fn entry(&self, key: &Key) -> Entry {
        Entry {
            key: key.clone(),
            size: self.size,
            used: self.used.load(Ordering::Relaxed),
            kind: if self.manifest.load(Ordering::Relaxed) {
                Kind::Manifest
            } else {
                Kind::Blob
            },
        }
    }
}

type Shard = HashMap<Key, Slot>;

/// The index.
#[derive(Debug)]
pub struct Index {
    shards: Box<[RwLock<Shard>]>,
    bytes: AtomicU64,
    count: AtomicU64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            bytes: AtomicU64::new(0),
            count: AtomicU64::new(0),
        }
    }
}

impl From<&Digest> for Key {
    fn from(digest: &Digest) -> Self {
        match digest.algorithm() {
            Algorithm::Sha256 => Self::Sha256(bytes(digest.hex())),
            Algorithm::Sha512 => Self::Sha512(Box::new(bytes(digest.hex()))),
        }
    }
}

impl Key {
    pub fn digest(&self) -> Digest {
        match self {
            Self::Sha256(bytes) => Digest::from_bytes(Algorithm::Sha256, bytes),
            Self::Sha512(bytes) => Digest::from_bytes(Algorithm::Sha512, &bytes[..]),
        }
    }

    fn shard(&self) -> usize {
        let first = match self {
            Self::Sha256(bytes) => bytes[0],
            Self::Sha512(bytes) => bytes[0],
        };
        usize::from(first) % SHARDS
    }
}

/// The value of the digits, which a digest has in the right number.
fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte.wrapping_sub(b'a') + 10,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0]) << 4 | digit(pair[1]);
    }
    bytes
}

/// Whole seconds since 1970.
pub fn seconds(moment: Moment) -> u32 {
    u32::try_from(moment.0.div_euclid(1000).max(0)).unwrap_or(u32::MAX)
}

impl Index {
    fn read(&self, key: &Key) -> RwLockReadGuard<'_, Shard> {
        self.shards[key.shard()]
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, key: &Key) -> RwLockWriteGuard<'_, Shard> {
        self.shards[key.shard()]
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of all content.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Number of contents.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Notes a use. Whether the content is known.
    pub fn touch(&self, key: &Key, now: u32) -> bool {
        let shard = self.read(key);
        let Some(slot) = shard.get(key) else {
            return false;
        };
        if slot.used.fetch_max(now, Ordering::Relaxed) < now {
            slot.changed.store(true, Ordering::Relaxed);
        }
        true
    }

    /// Notes that the content is a manifest.
    pub fn mark_manifest(&self, key: &Key) {
        if let Some(slot) = self.read(key).get(key) {
            slot.manifest.store(true, Ordering::Relaxed);
        }
    }

    /// What is known of one content.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.read(key).get(key).map(|slot| slot.entry(key))
    }

    /// Takes up content. What is known already keeps its newer use.
    pub fn insert(&self, entry: Entry) {
        let mut shard = self.write(&entry.key);
        if let Some(slot) = shard.get(&entry.key) {
            slot.used.fetch_max(entry.used, Ordering::Relaxed);
            return;
        }
        self.bytes.fetch_add(entry.size, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let slot = Slot {
            size: entry.size,
            used: AtomicU32::new(entry.used),
            changed: AtomicBool::new(false),
            manifest: AtomicBool::new(entry.kind == Kind::Manifest),
        };
        shard.insert(entry.key, slot);
    }

    /// Forgets content, unless it was used after `seen`; `remove` then takes it from the disk while nobody can note a use.
    /// Its size, or `None` if it stays.
    pub fn remove<E>(
        &self,
        key: &Key,
        seen: u32,
        remove: impl FnOnce() -> Result<(), E>,
    ) -> Result<Option<u64>, E> {
        let mut shard = self.write(key);
        let Some(slot) = shard.get(key) else {
            return Ok(None);
        };
        if slot.used.load(Ordering::Relaxed) > seen {
            return Ok(None);
        }
        remove()?;
        let size = slot.size;
        shard.remove(key);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
        self.count.fetch_sub(1, Ordering::Relaxed);
        Ok(Some(size))
    }

    /// Takes uses that lie far ahead for uses of this moment: the clock went back, and nothing may stay in use for it.
    /// Those nearer keep their order; their time comes soon.
    pub fn believe(&self, now: u32) {
        let far = now.saturating_add(FAR_AHEAD);
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            for slot in shard.values() {
                if slot.used.load(Ordering::Relaxed) > far {
                    slot.used.store(now, Ordering::Relaxed);
                    slot.changed.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// A copy of all entries.
    pub fn entries(&self) -> Vec<Entry> {
        self.collect(|_| true)
    }

    /// Entries whose use is newer than their files say; they count as written from now on.
    pub fn take_changed(&self) -> Vec<Entry> {
        self.collect(|slot| slot.changed.swap(false, Ordering::Relaxed))
    }

    fn collect(&self, wanted: impl Fn(&Slot) -> bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = shard.iter().filter(|(_, slot)| wanted(slot));
            entries.extend(wanted.map(|(key, slot)| slot.entry(key)));
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(content: &[u8], used: u32) -> Entry {
        Entry {
            key: Key::from(&Digest::of(Algorithm::Sha256, content)),
            size: content.len() as u64,
            used,
            kind: Kind::Blob,
        }
    }

    #[test]
    fn keys_are_digests() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let digest = Digest::of(algorithm, b"x");
            assert_eq!(Key::from(&digest).digest(), digest);
        }
    }

    #[test]
    fn what_was_used_since_stays() {
        let index = Index::default();
        let one = entry(b"one", 5);
        index.insert(one.clone());
        index.insert(one.clone());
        assert_eq!((index.bytes(), index.count()), (3, 1));
        assert!(index.touch(&one.key, 6));
        let keep = index.remove(&one.key, 5, || Ok::<_, ()>(()));
        assert_eq!(keep, Ok(None));
        assert_eq!(index.remove(&one.key, 6, || Err(())), Err(()));
        assert_eq!(index.remove(&one.key, 6, || Ok::<_, ()>(())), Ok(Some(3)));
        assert_eq!((index.bytes(), index.count()), (0, 0));
        assert!(!index.touch(&one.key, 7));
    }

    #[test]
    fn a_use_that_lies_far_ahead_is_one_of_now() {
        let index = Index::default();
        let (one, two) = (entry(b"one", 7 + FAR_AHEAD), entry(b"two", 8 + FAR_AHEAD));
        index.insert(one.clone());
        index.insert(two.clone());
        index.believe(7);
        let used = |entry: &Entry| index.get(&entry.key).map(|entry| entry.used);
        assert_eq!((used(&one), used(&two)), (Some(one.used), Some(7)));
        // It is written down too: a restart must not bring it back.
        assert_eq!(index.take_changed(), [Entry { used: 7, ..two }]);
    }

    #[test]
    fn a_use_is_handed_out_once() {
        let index = Index::default();
        let one = entry(b"one", 5);
        index.insert(one.clone());
        assert_eq!(index.take_changed(), []);
        index.touch(&one.key, 9);
        assert_eq!(index.take_changed(), [Entry { used: 9, ..one }]);
        assert_eq!(index.take_changed(), []);
    }
}
