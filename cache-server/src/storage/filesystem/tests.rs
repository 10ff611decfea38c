use super::*;
use crate::clock::Moment;
use crate::oci::{Algorithm, Repository, Tag};
use crate::storage::TagRecord;

fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

#[test]
fn committed_content_is_read_back_and_counted() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let name = digest(b"hello");
    assert!(store.blob(&name).unwrap().is_none());
    store.put(&name, b"hello").unwrap();
    store.put(&name, b"hello").unwrap();
    assert_eq!(store.read(&name, 100).unwrap().unwrap(), b"hello");
    assert_eq!(store.read(&name, 4).unwrap(), None);
    assert_eq!(store.used(), 5);

    let again = Store::open(root.path()).unwrap();
    again.scan().unwrap();
    assert_eq!(again.used(), 5);
}

#[test]
fn a_dropped_blob_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let blob = store.begin().unwrap();
    blob.write_at(b"half", 0).unwrap();
    drop(blob);
    assert_eq!(fs::read_dir(store.layout().temporary()).unwrap().count(), 0);
}

#[test]
fn opening_removes_what_a_crash_left() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    fs::write(store.layout().temporary().join("1-1"), "half").unwrap();
    let store = Store::open(root.path()).unwrap();
    assert_eq!(fs::read_dir(store.layout().temporary()).unwrap().count(), 0);
}

#[test]
fn a_store_of_another_version_is_refused_untouched() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("version"), "larder-store 2\n").unwrap();
    let error = Store::open(root.path()).unwrap_err();
    assert!(matches!(error, Error::Version { ref found, .. } if found == "larder-store 2"));
    assert!(!root.path().join("blobs").exists());
}

#[test]
fn a_tree_without_a_version_is_not_taken_for_a_store() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("blobs")).unwrap();
    assert!(matches!(
        Store::open(root.path()),
        Err(Error::NotAStore { .. })
    ));
}

#[test]
fn records_read_back_and_broken_ones_count_as_none() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
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
