use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::node_agent::converge::{converge, restore_all};
use crate::node_agent::plan::Wish;

const WITH_AUTHORITY: &str = "[host.\"https://cache\"]\nca = \"ca.crt\"\n";
const WITHOUT: &str = "[host.\"http://cache\"]\n";
const THEIRS: &str = "# theirs\n";

type Wishes = BTreeMap<String, Wish>;

fn install(files: &[(&str, &str)]) -> Wish {
    Wish::Install {
        confidential: false,
        source: "a.images.json".to_owned(),
        files: files
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect(),
    }
}

fn tls() -> Wishes {
    let wish = install(&[("ca.crt", "ours"), (HOSTS, WITH_AUTHORITY)]);
    ["docker.io", "quay.io"]
        .map(|name| (name.to_owned(), wish.clone()))
        .into()
}

fn plain() -> Wishes {
    [
        ("docker.io".to_owned(), install(&[(HOSTS, WITHOUT)])),
        ("quay.io".to_owned(), Wish::Restore),
    ]
    .into()
}

const HOSTS: &str = "hosts.toml";

/// A directory that somebody keeps a mirror, a certificate and a link in, and one more that nobody asks for.
fn make_theirs(root: &Path) {
    fs::create_dir_all(root.join("docker.io")).unwrap();
    fs::create_dir_all(root.join("ghcr.io")).unwrap();
    fs::write(root.join("docker.io/hosts.toml"), THEIRS).unwrap();
    fs::set_permissions(
        root.join("docker.io/hosts.toml"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    symlink("../shared.crt", root.join("docker.io/ca.crt")).unwrap();
    fs::write(root.join("docker.io/client.key"), "key").unwrap();
    fs::write(root.join("ghcr.io/hosts.toml"), THEIRS).unwrap();
}

/// Everything below a directory but for the backup: what it is, its permissions and its content.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = if metadata.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if metadata.is_dir() {
                if path.file_name().is_some_and(|name| name != BACKUP) {
                    open.push(path.clone());
                }
                String::new()
            } else {
                fs::read_to_string(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            if !name.starts_with(BACKUP) {
                found.insert(name, (metadata.permissions().mode(), content));
            }
        }
    }
    found
}

/// A disk whose operations fail from the `first` on, `count` times; and how many were asked for.
fn failing(root: &Path, first: usize, count: usize) -> (Disk, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let gate = move || {
        let number = counter.fetch_add(1, Ordering::Relaxed);
        if (first..first.saturating_add(count)).contains(&number) {
            Err(io::Error::other("no"))
        } else {
            Ok(())
        }
    };
    (Disk::with_gate(root, Box::new(gate)), asked)
}

/// What containerd may meet at any moment: a file that is whole, and whose certificates are there.
fn check(root: &Path, at: &str) {
    for directory in ["docker.io", "quay.io"] {
        let directory = root.join(directory);
        let Ok(hosts) = fs::read_to_string(directory.join(HOSTS)) else {
            continue;
        };
        assert!(
            [WITH_AUTHORITY, WITHOUT, THEIRS].contains(&hosts.as_str()),
            "{at}: {hosts}"
        );
        if hosts == WITH_AUTHORITY {
            assert_eq!(
                fs::read_to_string(directory.join("ca.crt")).unwrap(),
                "ours",
                "{at}"
            );
        }
    }
}

/// Fails each file operation of a change in its turn, once and for good, and goes on without faults afterwards.
fn survives_every_fault(theirs: bool, before: &[Wishes], change: &Wishes) {
    let expected = {
        let root = tempfile::tempdir().unwrap();
        prepare(root.path(), theirs, before);
        assert!(converge(&mut Disk::new(root.path()), change).is_empty());
        tree(root.path())
    };
    for count in [1, usize::MAX] {
        let mut first = 0;
        loop {
            let root = tempfile::tempdir().unwrap();
            let root = root.path();
            let untouched = {
                let other = tempfile::tempdir().unwrap();
                prepare(other.path(), theirs, &[]);
                tree(other.path())
            };
            prepare(root, theirs, before);
            let (mut disk, asked) = failing(root, first, count);
            converge(&mut disk, change);
            let at = format!("operation {first}, {count} times");
            check(root, &at);
            let done = asked.load(Ordering::Relaxed) <= first;
            assert!(converge(&mut Disk::new(root), change).is_empty(), "{at}");
            check(root, &at);
            assert_eq!(tree(root), expected, "{at}");
            // A second look finds nothing to do.
            let (mut disk, asked) = failing(root, 0, usize::MAX);
            assert!(converge(&mut disk, change).is_empty(), "{at}");
            assert_eq!(asked.load(Ordering::Relaxed), 0, "{at}");
            assert!(
                restore_all(&mut Disk::new(root)).unwrap().is_empty(),
                "{at}"
            );
            assert_eq!(tree(root), untouched, "{at}");
            assert!(!root.join(BACKUP).exists(), "{at}");
            if done {
                assert!(first > 3, "the change asks for {first} operations only");
                break;
            }
            first += 1;
        }
    }
}

fn prepare(root: &Path, theirs: bool, before: &[Wishes]) {
    if theirs {
        make_theirs(root);
    }
    for wishes in before {
        assert!(converge(&mut Disk::new(root), wishes).is_empty());
    }
}

#[test]
fn installing_survives_every_fault() {
    survives_every_fault(false, &[], &tls());
    survives_every_fault(true, &[], &tls());
}

#[test]
fn changing_survives_every_fault() {
    survives_every_fault(false, &[tls()], &plain());
    survives_every_fault(true, &[tls()], &plain());
    survives_every_fault(true, &[plain()], &tls());
}

#[test]
fn restoring_survives_every_fault() {
    let restored: Wishes = tls()
        .into_keys()
        .map(|name| (name, Wish::Restore))
        .collect();
    survives_every_fault(false, &[tls()], &restored);
    survives_every_fault(true, &[tls()], &restored);
    survives_every_fault(true, &[tls(), plain(), tls()], &restored);
}

#[test]
fn what_others_put_beside_stays() {
    let root = tempfile::tempdir().unwrap();
    converge(&mut Disk::new(root.path()), &tls());
    fs::write(root.path().join("quay.io/client.cert"), "new").unwrap();
    restore_all(&mut Disk::new(root.path())).unwrap();
    let left: Vec<_> = tree(root.path()).into_keys().collect();
    assert_eq!(
        left,
        [
            PathBuf::from("quay.io"),
            PathBuf::from("quay.io/client.cert")
        ]
    );
}

#[test]
fn an_edit_by_hand_is_repaired() {
    let root = tempfile::tempdir().unwrap();
    converge(&mut Disk::new(root.path()), &tls());
    let expected = tree(root.path());
    fs::remove_file(root.path().join("docker.io/ca.crt")).unwrap();
    fs::write(root.path().join("quay.io/hosts.toml"), THEIRS).unwrap();
    converge(&mut Disk::new(root.path()), &tls());
    assert_eq!(tree(root.path()), expected);
}
