//! The N-th step fails, for every N until a run has no failure: once, or from then on.

use std::cell::Cell;
use std::io;
use std::path::Path;

use crds::values::RegistryHost;
use rustix::io::Errno;

use crate::clock::{Clock, Moment};
use crate::oci::{Algorithm, Digest, Repository, Tag};
use crate::storage::{Error, Finished, Key, Kind, Store, TagRecord, Verdict};

/// Which steps of this thread fail.
#[derive(Debug, Clone, Copy)]
struct Fault {
    /// Steps before it.
    left: usize,
    errno: Errno,
    lasts: bool,
    struck: bool,
}

thread_local! {
    static FAULT: Cell<Option<Fault>> = const { Cell::new(None) };
}

/// Fails if it is this step's turn.
pub(super) fn count() -> io::Result<()> {
    let Some(mut fault) = FAULT.get() else {
        return Ok(());
    };
    let strikes = fault.left == 0 && (fault.lasts || !fault.struck);
    fault.left = fault.left.saturating_sub(1);
    fault.struck |= strikes;
    FAULT.set(Some(fault));
    if strikes {
        Err(fault.errno.into())
    } else {
        Ok(())
    }
}

/// What the store said that it did.
#[derive(Debug, Default)]
struct Said {
    stored: Vec<&'static [u8]>,
    evicted: Vec<&'static [u8]>,
    tag: Option<&'static [u8]>,
    manifest_type: bool,
    member: bool,
}

const LAYER: &[u8] = b"a layer";
const MANIFEST: &[u8] = b"a manifest";
const MOVED: &[u8] = b"the manifest that the tag moved to";

fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

fn names() -> (RegistryHost, Repository, Tag) {
    let host = "r.test".parse().unwrap();
    (
        host,
        Repository::parse("a/b").unwrap(),
        Tag::parse("v1").unwrap(),
    )
}

fn record(content: &[u8]) -> TagRecord {
    TagRecord {
        digest: digest(content),
        media_type: "application/json".into(),
        size: content.len() as u64,
        checked_at: Moment(1),
    }
}

/// A pull, another one, the tag that moves, an eviction and a restart, each as far as it gets.
fn scenario(root: &Path, said: &mut Said) -> Result<(), Error> {
    let (host, repository, tag) = names();
    let store = Store::open(root, Clock::default())?;
    let fill = |said: &mut Said| -> Result<(), Error> {
        let blob = store.begin()?;
        blob.set_aside(LAYER.len() as u64)?;
        blob.write_at(&LAYER[..3], 0)?;
        blob.write_at(&LAYER[3..], 3)?;
        let mut back = [0; 3];
        blob.read_at(&mut back, 0)?;
        assert_eq!(back, LAYER[..3]);
        store.commit(Finished {
            blob,
            digest: digest(LAYER),
            size: LAYER.len() as u64,
            kind: Kind::Blob,
            member_of: Some((host.clone(), repository.clone())),
        })?;
        said.member = true;
        said.stored.push(LAYER);
        Ok(())
    };
    let mut first = Ok(());
    let mut note = |result: Result<(), Error>| {
        if first.is_ok() {
            first = result;
        }
    };
    note(fill(said));
    for content in [MANIFEST, MOVED] {
        let put = store
            .put(&digest(content), content)
            .map(|()| said.stored.push(content))
            .and_then(|()| {
                store.put_manifest_type(&host, &repository, &digest(content), "application/json")
            })
            .map(|()| said.manifest_type = content == MOVED || said.manifest_type)
            .and_then(|()| store.put_tag(&host, &repository, &tag, &record(content)))
            .map(|()| said.tag = Some(content));
        note(put);
        // A hot pull: what it reads is right, or an error.
        match store.read(&digest(content), 1 << 20) {
            Ok(Some(read)) => assert_eq!(read, content),
            Ok(None) => assert!(!said.stored.contains(&content)),
            Err(error) => note(Err(error)),
        }
    }
    match store.evict(&Key::from(&digest(MANIFEST)), u32::MAX) {
        Ok(Some(_)) => said.evicted.push(MANIFEST),
        Ok(None) => {}
        Err(error) => note(Err(error)),
    }
    drop(store);
    note(Store::open(root, Clock::default()).and_then(|store| store.scan()));
    first
}

/// On a disk that works again: nothing is half there, and what was said is true.
fn examine(root: &Path, said: &Said, what: &str) {
    let (host, repository, tag) = names();
    let store = Store::open(root, Clock::default()).unwrap();
    let left = std::fs::read_dir(store.layout().temporary()).unwrap();
    assert_eq!(left.count(), 0, "{what}");
    store
        .each_content(&mut |found, _| {
            let verdict = store.verify(&found, &mut |_| true)?;
            assert_eq!(verdict, Verdict::Right, "{what}: {found}");
            Ok(true)
        })
        .unwrap();
    for content in &said.stored {
        let there = store.read(&digest(content), 1 << 20).unwrap();
        if said.evicted.contains(content) {
            assert_eq!(there, None, "{what}");
        } else {
            assert_eq!(there.as_deref(), Some(*content), "{what}");
        }
    }
    let found = store.tag(&host, &repository, &tag).unwrap();
    if let Some(content) = said.tag {
        // The new one may be in its place although its last sync failed.
        let allowed = [Some(record(content)), Some(record(MOVED))];
        assert!(allowed.contains(&found), "{what}: {found:?}");
    }
    if said.member {
        assert!(
            store.is_member(&host, &repository, &digest(LAYER)),
            "{what}"
        );
    }
    if said.manifest_type {
        let found = store.manifest_type(&host, &repository, &digest(MOVED));
        assert_eq!(
            found.unwrap().as_deref(),
            Some("application/json"),
            "{what}"
        );
    }
}

/// A place where many stores are quickly made; failures are made here, not there.
fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A store without content and records.
fn start_anew(root: &Path) {
    let store = Store::open(root, Clock::default()).unwrap();
    std::fs::remove_dir_all(store.layout().repositories()).unwrap();
    for content in [LAYER, MANIFEST, MOVED] {
        let _ = std::fs::remove_file(store.layout().blob(&digest(content)));
    }
}

#[test]
fn whichever_step_on_the_disk_fails_nothing_is_half_stored_or_lost() {
    std::thread::scope(|scope| {
        for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::MFILE] {
            for lasts in [false, true] {
                // Failures are those of the thread.
                scope.spawn(move || fail_each_step(errno, lasts));
            }
        }
    });
}

fn fail_each_step(errno: Errno, lasts: bool) {
    let directory = in_memory();
    let root = directory.path().join("store");
    for steps in 0.. {
        start_anew(&root);
        FAULT.set(Some(Fault {
            left: steps,
            errno,
            lasts,
            struck: false,
        }));
        let mut said = Said::default();
        let result = scenario(&root, &mut said);
        let struck = FAULT.take().is_some_and(|fault| fault.struck);
        let what = format!("step {steps}, {errno:?}, lasts: {lasts}, {result:?}");
        examine(&root, &said, &what);
        if !struck {
            assert!(result.is_ok() && said.stored.len() == 3, "{what}");
            assert!(steps > 60, "{what}");
            return;
        }
    }
}
