//! What every place that content is kept in must do, as tests over [`Backend`]. Each backend lists itself at the end.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;

use crds::values::RegistryHost;

use super::{Finished, Key, Kind, Store, StoredBlob, TagRecord, TemporaryBlob};
use crate::clock::{Clock, Moment};
use crate::oci::{Algorithm, Digest, Repository, Tag};

/// What the cache needs. `name` is a repository.
trait Backend: Sized + Sync {
    type Writer: Send;
    type Reader: Send + Sync;

    /// Opens what is kept at that place, or begins it. What was not committed before is gone.
    fn open(place: &Path) -> Self;
    fn begin(&self) -> Self::Writer;
    fn write(writer: &Self::Writer, bytes: &[u8], offset: u64);
    /// Whole and under its digest at once, and there after a restart.
    fn commit(&self, writer: Self::Writer, digest: &Digest, size: u64);
    /// The content and its size, readable until it is dropped, whatever happens to the name.
    fn reader(&self, digest: &Digest) -> Option<(Self::Reader, u64)>;
    fn read(reader: &Self::Reader, range: Range<u64>) -> Vec<u8>;
    /// Whether it was there.
    fn remove(&self, digest: &Digest) -> bool;
    fn list(&self) -> BTreeMap<Digest, u64>;
    fn add_member(&self, host: &RegistryHost, name: &Repository, digest: &Digest);
    fn is_member(&self, host: &RegistryHost, name: &Repository, digest: &Digest) -> bool;
    fn put_tag(&self, host: &RegistryHost, name: &Repository, tag: &Tag, record: &TagRecord);
    fn tag(&self, host: &RegistryHost, name: &Repository, tag: &Tag) -> Option<TagRecord>;
    fn remove_tag(&self, host: &RegistryHost, name: &Repository, tag: &Tag);
    fn put_type(&self, host: &RegistryHost, name: &Repository, digest: &Digest, media_type: &str);
    fn media_type(&self, host: &RegistryHost, name: &Repository, digest: &Digest)
    -> Option<String>;
    /// What writers that are gone have left behind.
    fn leftovers(&self) -> usize;

    fn store(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(Algorithm::Sha256, bytes);
        let writer = self.begin();
        Self::write(&writer, bytes, 0);
        self.commit(writer, &digest, bytes.len() as u64);
        digest
    }

    fn whole(&self, digest: &Digest) -> Option<Vec<u8>> {
        let (reader, size) = self.reader(digest)?;
        Some(Self::read(&reader, 0..size))
    }
}

impl Backend for Store {
    type Writer = TemporaryBlob;
    type Reader = StoredBlob;

    fn open(place: &Path) -> Self {
        let store = Self::open(place, Clock::default()).unwrap();
        store.scan().unwrap();
        store
    }

    fn begin(&self) -> TemporaryBlob {
        self.begin().unwrap()
    }

    fn write(writer: &TemporaryBlob, bytes: &[u8], offset: u64) {
        writer.write_at(bytes, offset).unwrap();
    }

    fn commit(&self, writer: TemporaryBlob, digest: &Digest, size: u64) {
        let finished = Finished {
            blob: writer,
            digest: digest.clone(),
            size,
            kind: Kind::Blob,
            member_of: None,
        };
        self.commit(finished).unwrap();
    }

    fn reader(&self, digest: &Digest) -> Option<(StoredBlob, u64)> {
        let blob = self.blob(digest).unwrap()?;
        let size = blob.size;
        Some((blob, size))
    }

    fn read(reader: &StoredBlob, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap()];
        reader.file.read_exact_at(&mut bytes, range.start).unwrap();
        bytes
    }

    fn remove(&self, digest: &Digest) -> bool {
        self.evict(&Key::from(digest), u32::MAX).unwrap().is_some()
    }

    fn list(&self) -> BTreeMap<Digest, u64> {
        let mut contents = BTreeMap::new();
        self.each_content(&mut |digest, metadata| {
            contents.insert(digest, metadata.len());
            Ok(true)
        })
        .unwrap();
        contents
    }

    fn add_member(&self, host: &RegistryHost, name: &Repository, digest: &Digest) {
        self.add_member(host, name, digest).unwrap();
    }

    fn is_member(&self, host: &RegistryHost, name: &Repository, digest: &Digest) -> bool {
        self.is_member(host, name, digest)
    }

    fn put_tag(&self, host: &RegistryHost, name: &Repository, tag: &Tag, record: &TagRecord) {
        self.put_tag(host, name, tag, record).unwrap();
    }

    fn tag(&self, host: &RegistryHost, name: &Repository, tag: &Tag) -> Option<TagRecord> {
        self.tag(host, name, tag).unwrap()
    }

    fn remove_tag(&self, host: &RegistryHost, name: &Repository, tag: &Tag) {
        self.remove_tag(host, name, tag).unwrap();
    }

    fn put_type(&self, host: &RegistryHost, name: &Repository, digest: &Digest, media_type: &str) {
        self.put_manifest_type(host, name, digest, media_type)
            .unwrap();
    }

    fn media_type(
        &self,
        host: &RegistryHost,
        name: &Repository,
        digest: &Digest,
    ) -> Option<String> {
        self.manifest_type(host, name, digest).unwrap()
    }

    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.layout().temporary())
            .unwrap()
            .count()
    }
}

/// Content that no two places of are alike.
fn content(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(length as u64).fill(&mut bytes);
    bytes
}

fn names() -> (RegistryHost, [Repository; 3], Tag) {
    let repositories = ["a", "a/b", "b"].map(|name| Repository::parse(name).unwrap());
    (
        "h.io:5000".parse().unwrap(),
        repositories,
        Tag::parse("v1").unwrap(),
    )
}

fn record(digest: &Digest, checked: i64) -> TagRecord {
    TagRecord {
        digest: digest.clone(),
        media_type: "x/y".into(),
        size: 1,
        checked_at: Moment(checked),
    }
}

fn content_is_there_whole_after_its_commit_and_not_before<B: Backend>(place: &Path) {
    let store = B::open(place);
    let bytes = content(300_000);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let writer = store.begin();
    // In any order, as segments come.
    B::write(&writer, &bytes[100_000..], 100_000);
    assert!(store.reader(&digest).is_none() && store.list().is_empty());
    B::write(&writer, &bytes[..100_000], 0);
    assert!(store.reader(&digest).is_none());
    store.commit(writer, &digest, 300_000);
    assert_eq!(store.whole(&digest), Some(bytes.clone()));
    let (reader, size) = store.reader(&digest).unwrap();
    assert_eq!(size, 300_000);
    for range in [0..1, 99_999..100_001, 299_999..300_000, 5..5] {
        let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        assert_eq!(B::read(&reader, range), bytes[part]);
    }
    let empty = store.store(b"");
    assert_eq!(store.whole(&empty), Some(Vec::new()));
    drop(store);
    let store = B::open(place);
    assert_eq!(store.whole(&digest), Some(bytes));
    assert_eq!(
        store.list(),
        BTreeMap::from([(digest, 300_000), (empty, 0)])
    );
}

fn writers_that_are_dropped_leave_nothing<B: Backend>(place: &Path) {
    let store = B::open(place);
    let writer = store.begin();
    B::write(&writer, &content(1000), 0);
    drop(writer);
    assert_eq!(store.leftovers(), 0);
    // One that a crash kept from tidying up.
    let writer = store.begin();
    B::write(&writer, &content(1000), 0);
    std::mem::forget(writer);
    drop(store);
    let store = B::open(place);
    assert_eq!(store.leftovers(), 0);
    assert!(store.list().is_empty());
}

fn who_reads_reads_on_after_the_removal<B: Backend>(place: &Path) {
    let store = B::open(place);
    let bytes = content(200_000);
    let digest = store.store(&bytes);
    let (reader, size) = store.reader(&digest).unwrap();
    assert_eq!(B::read(&reader, 0..1000), bytes[..1000]);
    assert!(store.remove(&digest) && !store.remove(&digest));
    assert!(store.reader(&digest).is_none() && store.list().is_empty());
    assert_eq!(B::read(&reader, 0..size), bytes);
    // Coming back does not touch what is being read.
    store.store(&bytes);
    assert_eq!(B::read(&reader, 0..size), bytes);
    assert_eq!(store.whole(&digest), Some(bytes));
}

fn two_writers_of_one_digest_end_with_one_content<B: Backend>(place: &Path) {
    let store = B::open(place);
    let bytes = content(100_000);
    let digest = Digest::of(Algorithm::Sha256, &bytes);
    let start = Barrier::new(3);
    for _ in 0..20 {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    store.store(&bytes);
                });
            }
            // Whoever looks meanwhile sees nothing or the whole.
            scope.spawn(|| {
                start.wait();
                for _ in 0..20 {
                    if let Some(found) = store.whole(&digest) {
                        assert!(found == bytes);
                    }
                }
            });
        });
        assert_eq!(store.list(), BTreeMap::from([(digest.clone(), 100_000)]));
        assert_eq!(store.leftovers(), 0);
        assert!(store.remove(&digest));
    }
}

fn records_belong_to_one_repository_and_last<B: Backend>(place: &Path) {
    let store = B::open(place);
    let (host, [a, below, b], tag) = names();
    let digest = store.store(b"x");
    store.add_member(&host, &a, &digest);
    store.add_member(&host, &a, &digest);
    store.put_type(&host, &a, &digest, "x/y");
    store.put_type(&host, &a, &digest, "x/z");
    store.put_tag(&host, &a, &tag, &record(&digest, 1));
    store.put_tag(&host, &a, &tag, &record(&digest, 2));
    let other: RegistryHost = "i.io".parse().unwrap();
    for store in [store, B::open(place)] {
        assert!(store.is_member(&host, &a, &digest));
        assert_eq!(store.media_type(&host, &a, &digest).as_deref(), Some("x/z"));
        assert_eq!(store.tag(&host, &a, &tag), Some(record(&digest, 2)));
        for (host, repository) in [(&host, &below), (&host, &b), (&other, &a)] {
            assert!(!store.is_member(host, repository, &digest));
            assert_eq!(store.media_type(host, repository, &digest), None);
            assert_eq!(store.tag(host, repository, &tag), None);
        }
    }
    let store = B::open(place);
    store.remove_tag(&host, &a, &tag);
    store.remove_tag(&host, &a, &tag);
    assert_eq!(store.tag(&host, &a, &tag), None);
    // Content and records are apart.
    assert!(store.remove(&digest) && store.is_member(&host, &a, &digest));
}

fn a_tag_that_is_written_while_it_is_read_is_the_old_or_the_new_one<B: Backend>(place: &Path) {
    let store = B::open(place);
    let (host, [a, ..], tag) = names();
    let digests = [store.store(b"x"), store.store(b"y")];
    store.put_tag(&host, &a, &tag, &record(&digests[0], 0));
    std::thread::scope(|scope| {
        for (digest, checked) in digests.iter().zip([0, 1]) {
            let (store, host, a, tag) = (&store, &host, &a, &tag);
            scope.spawn(move || {
                for _ in 0..50 {
                    store.put_tag(host, a, tag, &record(digest, checked));
                }
            });
        }
        for _ in 0..200 {
            let found = store.tag(&host, &a, &tag);
            let known = [record(&digests[0], 0), record(&digests[1], 1)];
            assert!(found.is_some_and(|found| known.contains(&found)));
        }
    });
    assert_eq!(store.leftovers(), 0);
}

/// The whole suite for one backend.
macro_rules! conforms {
    ($module:ident, $backend:ty: $($promise:ident),+ $(,)?) => {
        mod $module {
            $(
                #[test]
                fn $promise() {
                    let place = tempfile::tempdir().unwrap();
                    super::$promise::<$backend>(place.path());
                }
            )+
        }
    };
    ($module:ident, $backend:ty) => {
        conforms! {
            $module, $backend:
            content_is_there_whole_after_its_commit_and_not_before,
            writers_that_are_dropped_leave_nothing,
            who_reads_reads_on_after_the_removal,
            two_writers_of_one_digest_end_with_one_content,
            records_belong_to_one_repository_and_last,
            a_tag_that_is_written_while_it_is_read_is_the_old_or_the_new_one,
        }
    };
}
conforms!(filesystem, crate::storage::Store);
