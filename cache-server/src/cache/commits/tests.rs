use std::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::oci::{Algorithm, Digest};
use crate::storage::Kind;

struct Place {
    _directory: tempfile::TempDir,
    store: Arc<Store>,
    tasks: TaskTracker,
    stop: CancellationToken,
    commits: Commits,
}

/// So long that a busy machine does not come near it.
const NEVER: Duration = Duration::from_mins(1);

fn place() -> Place {
    place_with(NEVER)
}

fn place_with(longest_wait: Duration) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&directory.path().join("store"), Clock::default()).unwrap());
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    Place {
        _directory: directory,
        commits: Commits::new(store.clone(), tasks.clone(), stop.clone(), longest_wait),
        store,
        tasks,
        stop,
    }
}

impl Place {
    fn finished(&self, content: &[u8]) -> Finished {
        let blob = self.store.begin().unwrap();
        blob.write_at(content, 0).unwrap();
        Finished {
            blob,
            digest: digest(content),
            size: content.len() as u64,
            kind: Kind::Blob,
            member_of: Some((
                "r.test".parse().unwrap(),
                crate::oci::Repository::parse("a/b").unwrap(),
            )),
        }
    }

    fn has(&self, content: &[u8]) -> bool {
        let found = self.store.read(&digest(content), 100).unwrap();
        found.is_some_and(|found| found == content)
    }
}

fn digest(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

/// Lets all go on that can without the clock.
async fn turn() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn nothing_waits_while_no_fill_is_busy() {
    let place = place();
    let begun = Instant::now();
    place
        .commits
        .add(place.finished(b"a"))
        .await
        .unwrap()
        .unwrap();
    assert!(begun.elapsed() < NEVER);
    assert!(place.has(b"a"));
    let (host, repository) = place.finished(b"a").member_of.unwrap();
    assert!(place.store.is_member(&host, &repository, &digest(b"a")));
}

#[tokio::test]
async fn content_waits_for_fills_that_are_busy_but_not_for_long() {
    let place = place_with(LONGEST_WAIT);
    let (first, second) = (place.commits.begin(), place.commits.begin());
    let mut told = place.commits.add(place.finished(b"a"));
    drop(first);
    turn().await;
    assert!(told.try_recv().is_err() && !place.has(b"a"));
    drop(second);
    told.await.unwrap().unwrap();
    assert!(place.has(b"a"));

    let _busy = place.commits.begin();
    let begun = Instant::now();
    let told = [b"b", b"c"].map(|content| place.commits.add(place.finished(content)));
    for told in told {
        told.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() >= LONGEST_WAIT);
    assert!(place.has(b"b") && place.has(b"c"));
}

#[tokio::test]
async fn much_content_does_not_wait() {
    let place = place();
    let _busy = place.commits.begin();
    let begun = Instant::now();
    let small = place.commits.add(place.finished(b"a"));
    let of = |size| Finished {
        size,
        ..place.finished(format!("of {size}").as_bytes())
    };
    place.commits.add(of(LARGE + 1)).await.unwrap().unwrap();
    turn().await;
    assert!(!place.has(b"a"));
    let large: Vec<_> = (1..=MOST_BYTES / LARGE)
        .map(|few| place.commits.add(of(LARGE - few)))
        .collect();
    assert!(large.len() < MOST);
    let last = place.commits.add(of(LARGE));
    for told in large.into_iter().chain([last, small]) {
        told.await.unwrap().unwrap();
    }
    let many: Vec<_> = (0..MOST)
        .map(|number| {
            place
                .commits
                .add(place.finished(number.to_string().as_bytes()))
        })
        .collect();
    for told in many {
        told.await.unwrap().unwrap();
    }
    assert!(begun.elapsed() < NEVER);
}

#[tokio::test]
async fn who_needs_it_in_the_store_and_who_stops_wait_for_nothing() {
    let place = place();
    let _busy = place.commits.begin();
    let begun = Instant::now();
    place.commits.settle().await;
    drop(place.commits.add(place.finished(b"a")));
    place.commits.settle().await;
    assert!(place.has(b"a"));
    // Nobody is told, and it is committed nevertheless.
    drop(place.commits.add(place.finished(b"b")));
    place.stop.cancel();
    place.tasks.close();
    place.tasks.wait().await;
    assert!(place.has(b"b"));
    assert!(begun.elapsed() < NEVER);
}

#[tokio::test]
async fn one_that_fails_takes_no_other_with_it() {
    let place = place();
    let in_the_way = place.store.layout().blob(&digest(b"b"));
    std::fs::create_dir_all(in_the_way.join("directory")).unwrap();
    let busy = place.commits.begin();
    let [first, second, third] =
        [b"a", b"b", b"c"].map(|content| place.commits.add(place.finished(content)));
    drop(busy);
    first.await.unwrap().unwrap();
    let error = second.await.unwrap().unwrap_err().to_string();
    assert!(error.starts_with("failed to rename to "), "{error}");
    third.await.unwrap().unwrap();
    assert!(place.has(b"a") && place.has(b"c"));
    let left = std::fs::read_dir(place.store.layout().temporary()).unwrap();
    assert_eq!(left.count(), 0);
}
