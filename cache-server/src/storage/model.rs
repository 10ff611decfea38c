//! The store next to a model of it: whatever is done in whatever order, both say the same, also after restarts and crashes.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use crds::values::RegistryHost;
use proptest::prelude::*;

use super::{Finished, Key, Kind, Store, TagRecord};
use crate::clock::{Clock, Moment};
use crate::oci::{Algorithm, Digest, Repository, Tag};

/// The second at which everything happens.
const NOW: u32 = 1000;
const CONTENTS: usize = 5;
const REPOSITORIES: usize = 3;
const TAGS: usize = 2;

#[derive(Debug, Clone)]
enum Operation {
    Put(usize),
    Commit(usize),
    Drop(usize),
    Read(usize),
    AddMember(usize, usize),
    PutType(usize, usize, bool),
    PutTag(usize, usize, usize),
    RemoveTag(usize, usize),
    RemoveRecord(usize, usize),
    Evict(usize),
    EvictIfOlder(usize),
    Quarantine(usize),
    /// The second value: whether a manifest still refers to each content.
    Sweep(usize, [bool; CONTENTS]),
    Restart,
    Crash(usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let content = || 0..CONTENTS;
    let repository = || 0..REPOSITORIES;
    prop_oneof![
        content().prop_map(Operation::Put),
        content().prop_map(Operation::Commit),
        content().prop_map(Operation::Drop),
        content().prop_map(Operation::Read),
        (repository(), content()).prop_map(|(a, b)| Operation::AddMember(a, b)),
        (repository(), content(), any::<bool>()).prop_map(|(a, b, c)| Operation::PutType(a, b, c)),
        (repository(), 0..TAGS, content()).prop_map(|(a, b, c)| Operation::PutTag(a, b, c)),
        (repository(), 0..TAGS).prop_map(|(a, b)| Operation::RemoveTag(a, b)),
        (repository(), content()).prop_map(|(a, b)| Operation::RemoveRecord(a, b)),
        content().prop_map(Operation::Evict),
        content().prop_map(Operation::EvictIfOlder),
        content().prop_map(Operation::Quarantine),
        (repository(), any::<[bool; CONTENTS]>()).prop_map(|(a, b)| Operation::Sweep(a, b)),
        Just(Operation::Restart),
        content().prop_map(Operation::Crash),
    ]
}

fn content(number: usize) -> Vec<u8> {
    // The first is empty; the sizes differ, so that a sum says which are counted.
    vec![u8::try_from(number).unwrap(); (1 << number) - 1]
}

fn name(number: usize) -> Digest {
    let algorithm = if number == 1 {
        Algorithm::Sha512
    } else {
        Algorithm::Sha256
    };
    Digest::of(algorithm, &content(number))
}

/// One name is the beginning of another, and one repository is of another upstream.
fn place(number: usize) -> (RegistryHost, Repository) {
    let (host, repository) = [("h.io", "a"), ("h.io", "a/b"), ("i.io:5000", "a")][number];
    (
        host.parse().unwrap(),
        Repository::parse(repository).unwrap(),
    )
}

fn tag(number: usize) -> Tag {
    Tag::parse(["latest", "v1"][number]).unwrap()
}

fn media_type(index: bool) -> &'static str {
    if index { "x/index" } else { "x/manifest" }
}

fn record(content: usize) -> TagRecord {
    TagRecord {
        digest: name(content),
        media_type: media_type(false).into(),
        size: (1 << content) - 1,
        checked_at: Moment(i64::try_from(content).unwrap()),
    }
}

#[derive(Default)]
struct Model {
    /// What is there, and as what.
    contents: HashMap<usize, Kind>,
    members: HashSet<(usize, usize)>,
    manifests: HashMap<(usize, usize), &'static str>,
    tags: HashMap<(usize, usize), usize>,
}

impl Model {
    /// The kinds are forgotten but for what the records say.
    fn restart(&mut self) {
        let manifests = &self.manifests;
        for (number, kind) in &mut self.contents {
            let has_record = manifests.keys().any(|(_, content)| content == number);
            *kind = if has_record {
                Kind::Manifest
            } else {
                Kind::Blob
            };
        }
    }

    fn sweep(&mut self, repository: usize, referred: [bool; CONTENTS]) {
        let contents = &self.contents;
        let stays =
            |place: usize, content: usize| place != repository || contents.contains_key(&content);
        self.manifests
            .retain(|(place, content), _| stays(*place, *content));
        self.tags
            .retain(|(place, _), content| stays(*place, *content));
        self.members
            .retain(|(place, content)| stays(*place, *content) || referred[*content]);
    }
}

fn open(root: &Path) -> Store {
    let clock = Clock::Manual(Arc::new(AtomicI64::new(i64::from(NOW) * 1000)));
    Store::open(root, clock).unwrap()
}

fn reopen(store: Store) -> Store {
    let root = store.layout().root().to_owned();
    drop(store);
    let store = open(&root);
    store.scan().unwrap();
    store
}

/// As a fill does, with the parts in another order.
fn commit(store: &Store, number: usize) {
    let bytes = content(number);
    let (front, back) = bytes.split_at(bytes.len() / 2);
    let blob = store.begin().unwrap();
    blob.set_aside(bytes.len() as u64).unwrap();
    blob.write_at(back, front.len() as u64).unwrap();
    blob.write_at(front, 0).unwrap();
    let finished = Finished {
        blob,
        digest: name(number),
        size: bytes.len() as u64,
        kind: Kind::Blob,
        member_of: None,
    };
    store.commit(finished).unwrap();
}

/// Does the same to both.
fn step(store: Store, model: &mut Model, operation: &Operation) -> Store {
    match operation {
        Operation::Put(number) => {
            store.put(&name(*number), &content(*number)).unwrap();
            model.contents.insert(*number, Kind::Manifest);
        }
        Operation::Commit(number) => {
            commit(&store, *number);
            model.contents.entry(*number).or_insert(Kind::Blob);
        }
        Operation::Drop(number) => {
            store
                .begin()
                .unwrap()
                .write_at(&content(*number), 0)
                .unwrap();
        }
        Operation::Read(number) => {
            let found = store.read(&name(*number), 100).unwrap();
            let expected = model
                .contents
                .contains_key(number)
                .then(|| content(*number));
            assert_eq!(found, expected);
        }
        Operation::AddMember(repository, number) => {
            let (host, place) = place(*repository);
            store.add_member(&host, &place, &name(*number)).unwrap();
            model.members.insert((*repository, *number));
        }
        Operation::PutType(repository, number, index) => {
            let ((host, place), media_type) = (place(*repository), media_type(*index));
            store
                .put_manifest_type(&host, &place, &name(*number), media_type)
                .unwrap();
            model.manifests.insert((*repository, *number), media_type);
        }
        Operation::PutTag(repository, number, content) => {
            let (host, place) = place(*repository);
            store
                .put_tag(&host, &place, &tag(*number), &record(*content))
                .unwrap();
            model.tags.insert((*repository, *number), *content);
        }
        Operation::RemoveTag(repository, number) => {
            let (host, place) = place(*repository);
            store.remove_tag(&host, &place, &tag(*number)).unwrap();
            model.tags.remove(&(*repository, *number));
        }
        Operation::RemoveRecord(repository, number) => {
            let (host, place) = place(*repository);
            store
                .remove_manifest_record(&host, &place, &name(*number))
                .unwrap();
            model.manifests.remove(&(*repository, *number));
            model.members.remove(&(*repository, *number));
        }
        Operation::Evict(number) => {
            let freed = store.evict(&Key::from(&name(*number)), NOW).unwrap();
            let expected = model.contents.remove(number);
            assert_eq!(freed, expected.map(|_| (1 << number) - 1));
        }
        Operation::EvictIfOlder(number) => {
            let freed = store.evict(&Key::from(&name(*number)), NOW - 1).unwrap();
            assert_eq!(freed, None);
        }
        Operation::Quarantine(number) => {
            store.quarantine(&name(*number)).unwrap();
            model.contents.remove(number);
        }
        Operation::Sweep(repository, referred) => {
            let (host, place) = place(*repository);
            let keys = |wanted: &dyn Fn(usize) -> bool| -> HashSet<Key> {
                let wanted = (0..CONTENTS).filter(|number| wanted(*number));
                wanted.map(|number| Key::from(&name(number))).collect()
            };
            let (touched, referred_to) = (keys(&|_| true), keys(&|number| referred[number]));
            store.sweep(&host, &place, &touched, &referred_to).unwrap();
            model.sweep(*repository, *referred);
        }
        Operation::Restart => {
            model.restart();
            return reopen(store);
        }
        Operation::Crash(number) => {
            let blob = store.begin().unwrap();
            blob.write_at(&content(*number), 0).unwrap();
            std::mem::forget(blob);
            model.restart();
            return reopen(store);
        }
    }
    store
}

fn compare(store: &Store, model: &Model) {
    for number in 0..CONTENTS {
        let kind = model.contents.get(&number).copied();
        let name = name(number);
        let expected = kind.map(|_| content(number));
        assert_eq!(store.peek(&name, 100).unwrap(), expected);
        assert_eq!(store.surely_lacks(&name), kind.is_none());
        let entry = store.index().get(&Key::from(&name));
        assert_eq!(entry.as_ref().map(|entry| entry.kind), kind);
        assert!(entry.is_none_or(|entry| entry.used == NOW));
    }
    let sizes = model.contents.keys().map(|number| (1 << number) - 1);
    assert_eq!(store.used(), sizes.sum::<u64>());
    assert_eq!(store.index().count(), model.contents.len() as u64);
    for repository in 0..REPOSITORIES {
        compare_repository(store, model, repository);
    }
    let temporary = std::fs::read_dir(store.layout().temporary()).unwrap();
    assert_eq!(temporary.count(), 0);
}

fn compare_repository(store: &Store, model: &Model, repository: usize) {
    let (host, place) = place(repository);
    let mut manifests = HashSet::new();
    for number in 0..CONTENTS {
        let name = name(number);
        let is_member = model.members.contains(&(repository, number));
        assert_eq!(store.is_member(&host, &place, &name), is_member);
        let media_type = model.manifests.get(&(repository, number)).copied();
        let found = store.manifest_type(&host, &place, &name).unwrap();
        assert_eq!(found.as_deref(), media_type);
        manifests.extend(media_type.map(|_| name));
    }
    let listed = store.manifests(&host, &place).unwrap();
    assert_eq!(listed.len(), manifests.len());
    assert_eq!(HashSet::from_iter(listed), manifests);
    let mut tags = HashMap::new();
    for number in 0..TAGS {
        let content = model.tags.get(&(repository, number)).copied();
        let found = store.tag(&host, &place, &tag(number)).unwrap();
        assert_eq!(found, content.map(record));
        tags.extend(content.map(|content| (tag(number), content)));
    }
    let listed = store.tags(&host, &place).unwrap();
    assert_eq!(listed.len(), tags.len());
    for found in listed {
        let content = tags[&found.tag];
        assert_eq!(found.record, record(content));
        assert_eq!(
            found.stored.is_some(),
            model.contents.contains_key(&content)
        );
    }
}

proptest! {
    // Each waits for the disk many times. PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.div_ceil(10)))]
    #[test]
    fn the_store_does_what_the_model_does(operations in prop::collection::vec(operation(), 1..40)) {
        let root = tempfile::tempdir().unwrap();
        let mut store = open(root.path());
        store.scan().unwrap();
        let mut model = Model::default();
        for operation in &operations {
            store = step(store, &mut model, operation);
            compare(&store, &model);
        }
    }
}
