use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Moment};
use crate::oci::{Algorithm, Repository, Tag};
use crate::storage::{ReferrersRecord, TagRecord};

fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

#[test]
fn committed_content_is_read_back_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    let name = digest(b"hello");
    assert!(store.blob(&name).unwrap().is_none());
    store.put(&name, b"hello").unwrap();
    store.put(&name, b"hello").unwrap();
    assert_eq!(store.read(&name, 100).unwrap().unwrap(), b"hello");
    assert_eq!(store.read(&name, 4).unwrap(), None);
    assert_eq!(store.used(), 5);

    let again = Store::open(root.path(), Clock::default()).unwrap();
    assert!(!again.is_scanned());
    again.scan().unwrap();
    again.scan().unwrap();
    assert!(again.is_scanned());
    assert_eq!(again.used(), 5);
}

#[test]
fn a_dropped_blob_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    let blob = store.begin().unwrap();
    blob.write_at(b"half", 0).unwrap();
    drop(blob);
    assert_eq!(fs::read_dir(store.layout().temporary()).unwrap().count(), 0);
}

#[test]
fn opening_removes_what_a_crash_left() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    fs::write(store.layout().temporary().join("1-1"), "half").unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    assert_eq!(fs::read_dir(store.layout().temporary()).unwrap().count(), 0);
}

#[test]
fn a_store_of_another_version_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("version"), "larder-store 2\n").unwrap();
    let error = Store::open(root.path(), Clock::default()).unwrap_err();
    assert!(matches!(error, Error::Version { ref found, .. } if found == "larder-store 2"));
    assert!(!root.path().join("blobs").exists());
}

#[test]
fn a_tree_without_a_version_is_not_taken_for_a_store() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("blobs")).unwrap();
    assert!(matches!(
        Store::open(root.path(), Clock::default()),
        Err(Error::NotAStore { .. })
    ));
}

#[test]
fn records_read_back_and_broken_ones_count_as_none() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    let host = "h.io:5000".parse().unwrap();
    let repository = Repository::parse("a/b").unwrap();
    let tag = Tag::parse("v1").unwrap();
    let record = TagRecord {
        digest: digest(b"m"),
        media_type: "x/y".into(),
        size: 1,
        checked_at: Moment(7),
    };
    assert_eq!(store.tag(&host, &repository, &tag).unwrap(), None);
    store.put_tag(&host, &repository, &tag, &record).unwrap();
    assert_eq!(
        store.tag(&host, &repository, &tag).unwrap().as_ref(),
        Some(&record)
    );
    fs::write(store.layout().tag_record(&host, &repository, &tag), "{").unwrap();
    assert_eq!(store.tag(&host, &repository, &tag).unwrap(), None);

    assert!(!store.is_member(&host, &repository, &record.digest));
    store
        .add_member(&host, &repository, &record.digest)
        .unwrap();
    store
        .add_member(&host, &repository, &record.digest)
        .unwrap();
    assert!(store.is_member(&host, &repository, &record.digest));
}

#[test]
fn uses_survive_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let time = Arc::new(std::sync::atomic::AtomicI64::new(1_000_000));
    let store = Store::open(root.path(), Clock::Manual(time.clone())).unwrap();
    let (one, two) = (digest(b"one"), digest(b"two"));
    store.put(&one, b"one").unwrap();
    store.put(&two, b"two").unwrap();
    time.store(9_000_000, Ordering::SeqCst);
    store.blob(&two).unwrap().unwrap();
    assert_eq!(store.write_uses(), 1);
    assert_eq!(store.write_uses(), 0);

    let again = Store::open(root.path(), Clock::default()).unwrap();
    again.scan().unwrap();
    let used = |digest: &Digest| {
        again
            .index()
            .get(&crate::storage::Key::from(digest))
            .map(|entry| entry.used)
    };
    assert_eq!((used(&one), used(&two)), (Some(1000), Some(9000)));
}

#[test]
fn evicted_content_is_read_to_its_end_by_who_has_it_open() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    let name = digest(b"hello");
    store.put(&name, b"hello").unwrap();
    let open = store.blob(&name).unwrap().unwrap();
    let key = crate::storage::Key::from(&name);
    assert_eq!(store.evict(&key, 0).unwrap(), None);
    assert_eq!(store.evict(&key, u32::MAX).unwrap(), Some(5));
    assert_eq!(store.used(), 0);
    assert!(store.blob(&name).unwrap().is_none());
    let mut content = [0; 5];
    open.file.read_exact_at(&mut content, 0).unwrap();
    assert_eq!(&content, b"hello");
}

#[test]
fn a_sweep_removes_records_of_what_is_gone_only() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    let host = "h.io".parse().unwrap();
    let repository = Repository::parse("a/b").unwrap();
    let names = [b"kept", b"gone"].map(|content| {
        let name = digest(content);
        store.put(&name, content).unwrap();
        store.add_member(&host, &repository, &name).unwrap();
        store
            .put_manifest_type(&host, &repository, &name, "x/y")
            .unwrap();
        let record = TagRecord {
            digest: name.clone(),
            media_type: "x/y".into(),
            size: 4,
            checked_at: Moment(7),
        };
        let tag = Tag::parse(std::str::from_utf8(content).unwrap()).unwrap();
        store.put_tag(&host, &repository, &tag, &record).unwrap();
        let record = ReferrersRecord {
            checked_at: Moment(7),
            index: "{}".into(),
        };
        store
            .put_referrers(&host, &repository, &name, &record)
            .unwrap();
        name
    });
    let referred = digest(b"referred");
    store.add_member(&host, &repository, &referred).unwrap();
    let needed = [crate::storage::Key::from(&referred)].into();
    let key = crate::storage::Key::from(&names[1]);
    store.evict(&key, u32::MAX).unwrap();
    let touched = [key, crate::storage::Key::from(&referred)].into();
    assert!(store.speaks_of(&host, &repository, &touched).unwrap());
    store.sweep(&host, &repository, &touched, &needed).unwrap();
    assert_eq!(
        store.manifests(&host, &repository).unwrap(),
        [names[0].clone()]
    );
    assert_eq!(store.tags(&host, &repository).unwrap().len(), 1);
    let referrers = names.each_ref().map(|name| {
        let found = store.referrers(&host, &repository, name).unwrap();
        found.is_some()
    });
    assert_eq!(referrers, [true, false]);
    assert!(store.is_member(&host, &repository, &referred));
    assert!(!store.is_member(&host, &repository, &names[1]));
    let mut seen = Vec::new();
    store
        .each_repository(&mut |host, repository| {
            seen.push(format!("{host}/{repository}"));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, ["h.io/a/b"]);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Use(u8),
    Evict(u8),
    Quarantine(u8),
    Advance,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Step::Put),
        2 => (0..8_u8).prop_map(Step::Use),
        2 => (0..8_u8).prop_map(Step::Evict),
        1 => (0..8_u8).prop_map(Step::Quarantine),
        2 => Just(Step::Advance),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The store does what a map of contents and last uses does.
    #[test]
    fn the_store_is_a_map_with_uses(steps in prop::collection::vec(step(), 1..30)) {
        let root = tempfile::tempdir().unwrap();
        let time = Arc::new(std::sync::atomic::AtomicI64::new(1_000_000));
        let clock = Clock::Manual(time.clone());
        let mut store = Store::open(root.path(), clock.clone()).unwrap();
        let mut model = std::collections::BTreeMap::<u8, u32>::new();
        let named = |number: u8| {
            let content = vec![number; usize::from(number) + 1];
            (digest(&content), content)
        };
        for step in steps {
            let now = u32::try_from(time.load(Ordering::SeqCst) / 1000).unwrap();
            match step {
                Step::Put(number) => {
                    let (name, content) = named(number);
                    store.put(&name, &content).unwrap();
                    model.entry(number).or_insert(now);
                }
                Step::Use(number) => {
                    let (name, content) = named(number);
                    let found = store.read(&name, 100).unwrap();
                    let known = model.get_mut(&number).map(|used| *used = now);
                    prop_assert_eq!(found, known.map(|()| content));
                }
                Step::Evict(number) => {
                    let key = crate::storage::Key::from(&named(number).0);
                    let freed = store.evict(&key, u32::MAX).unwrap();
                    let known = model.remove(&number);
                    prop_assert_eq!(freed, known.map(|_| u64::from(number) + 1));
                }
                Step::Quarantine(number) => {
                    store.quarantine(&named(number).0).unwrap();
                    model.remove(&number);
                }
                Step::Advance => {
                    time.fetch_add(5_000, Ordering::SeqCst);
                }
                Step::Reopen => {
                    store.write_uses();
                    store = Store::open(root.path(), clock.clone()).unwrap();
                    store.scan().unwrap();
                }
            }
            let bytes: u64 = model.keys().map(|number| u64::from(*number) + 1).sum();
            prop_assert_eq!((store.used(), store.index().count()), (bytes, model.len() as u64));
            for (number, used) in &model {
                let key = crate::storage::Key::from(&named(*number).0);
                prop_assert_eq!(store.index().get(&key).map(|entry| entry.used), Some(*used));
            }
        }
    }
}

#[test]
fn what_is_not_in_the_index_is_known_to_be_missing_once_the_disk_was_looked_through() {
    let root = tempfile::tempdir().unwrap();
    let name = digest(b"hello");
    let store = Store::open(root.path(), Clock::default()).unwrap();
    store.put(&name, b"hello").unwrap();
    let again = Store::open(root.path(), Clock::default()).unwrap();
    assert!(!again.surely_lacks(&name));
    assert!(!again.surely_lacks(&digest(b"other")));
    again.scan().unwrap();
    assert!(!again.surely_lacks(&name));
    assert!(again.surely_lacks(&digest(b"other")));
}

#[test]
fn members_share_one_inode_and_need_no_link() {
    use std::os::unix::fs::MetadataExt;
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), Clock::default()).unwrap();
    let (host, repository) = (
        "docker.io".parse().unwrap(),
        Repository::parse("a/b").unwrap(),
    );
    let inode = |name: &Digest| {
        let path = store.layout().membership(&host, &repository, name);
        fs::metadata(path).unwrap().ino()
    };
    let (one, two, three) = (digest(b"one"), digest(b"two"), digest(b"three"));
    for name in [&one, &two, &two] {
        store.add_member(&host, &repository, name).unwrap();
        assert!(store.is_member(&host, &repository, name));
    }
    assert_eq!(inode(&one), inode(&two));
    fs::remove_file(store.layout().marker()).unwrap();
    store.add_member(&host, &repository, &three).unwrap();
    assert!(store.is_member(&host, &repository, &three));
    assert_ne!(inode(&one), inode(&three));
}

#[test]
fn a_directory_that_lies_in_nothing_is_an_error() {
    let error = make_directory(Path::new("")).unwrap_err().to_string();
    assert!(error.starts_with("failed to create "), "{error}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = make_directory(&file.path().join("below")).unwrap_err();
    assert!(
        error.to_string().starts_with("failed to examine "),
        "{error}"
    );
}
