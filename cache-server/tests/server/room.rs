//! Room on a small disk, and what edits of capacity and retention make of what is stored already.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cache_server::oci::Digest;

use crate::support::{Disk, FakeUpstream, HOST, Image, TestServer, content, edit, eventually};

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_hours(24);

/// Gets a blob, which must be right, and waits until it is in the store. What the cache says of it.
async fn get(server: &TestServer, repository: &str, digest: &Digest) -> String {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let reply = server.get(&path).await;
    assert!(digest.names(reply.content()));
    server.settled().await;
    reply.cache_status().to_owned()
}

/// An image of one layer of that size, pulled as nodes pull.
async fn pulled(
    server: &TestServer,
    upstream: &FakeUpstream,
    repository: &str,
    size: usize,
) -> Image {
    let seed = repository.bytes().map(u64::from).sum();
    let image = upstream.image(repository, "v1", &[content(size, seed)]);
    let path = format!("/v2/{repository}/manifests/v1");
    assert_eq!(server.get(&path).await.content(), &image.manifest[..]);
    get(server, repository, &image.layers[0]).await;
    image
}

fn is_whole(server: &TestServer, image: &Image) -> bool {
    server.has_blob(&image.digest) && server.has_blob(&image.layers[0])
}

/// Waits until nothing of the image is left.
async fn gone(server: &TestServer, image: &Image) {
    eventually("the image goes", || async {
        !server.has_blob(&image.digest) && !server.has_blob(&image.layers[0])
    })
    .await;
}

async fn evicted(server: &TestServer, reason: &str) -> u64 {
    let line = format!("larder_evictions_total{{reason=\"{reason}\"}}");
    server.metric(&line).await
}

/// Gets so many blobs of 4 MiB, a minute after each other.
async fn stream(server: &TestServer, upstream: &FakeUpstream, count: u64) -> Vec<Digest> {
    let mut layers = Vec::new();
    for seed in 0..count {
        let layer = upstream.blob("a", content(4 * MIB, seed));
        assert_eq!(get(server, "a", &layer).await, "larder; fwd=miss; stored");
        server.advance(Duration::from_mins(1));
        layers.push(layer);
    }
    layers
}

fn there(server: &TestServer, layers: &[Digest]) -> Vec<bool> {
    layers.iter().map(|layer| server.has_blob(layer)).collect()
}

/// Bytes that are free on the filesystem of a file.
fn free(path: &Path) -> u64 {
    let space = rustix::fs::statvfs(path).unwrap();
    space.f_bavail * space.f_frsize
}

/// A server on a disk of so many MiB, which looks after its store that often.
async fn small(upstream: &FakeUpstream, mebibytes: u64, upkeep: Duration) -> (TestServer, Disk) {
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let disk = Disk::at(&directory.path().join("store"), mebibytes);
    let server = TestServer::builder()
        .upstream(HOST, upstream)
        .directory(&directory)
        .tune(move |options| options.patience.upkeep = upkeep)
        .start()
        .await;
    (server, disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_be_free_on_the_disk_is_made_free_by_what_was_not_used_for_longest() {
    let upstream = FakeUpstream::start().await;
    let (server, _disk) = small(&upstream, 64, Duration::from_millis(20)).await;
    let layers = stream(&server, &upstream, 4).await;
    // The oldest becomes the newest.
    assert_eq!(get(&server, "a", &layers[0]).await, "larder; hit");
    server.advance(DAY);
    // More than one of them and less than two.
    let wanted = free(&server.store()) + 6 * MIB as u64;
    edit(&server, |text| {
        format!("{text}\ncapacity: {{minFree: '{wanted}'}}\n")
    })
    .await;
    eventually("so much is free", || async {
        evicted(&server, "disk").await >= 2 && free(&server.store()) >= wanted
    })
    .await;
    assert_eq!(there(&server, &layers), [true, false, false, true]);
    assert_eq!(evicted(&server, "disk").await, 2);
    assert_eq!(evicted(&server, "capacity").await, 0);

    // Somebody else takes the rest: all goes, and still no pull is stopped.
    let filler = server.store().join("filler");
    std::fs::write(&filler, content(16 * MIB, 9)).unwrap();
    eventually("nothing is left to give", || async {
        there(&server, &layers) == [false; 4]
            && server.metric("larder_admission_stopped").await == 1
    })
    .await;
    assert_eq!(get(&server, "a", &layers[1]).await, "larder; fwd=bypass");
    upstream.image("a", "v1", &[]);
    let manifest = server.get("/v2/a/manifests/v1").await;
    assert_eq!(manifest.cache_status(), "larder; fwd=bypass");
    assert!(manifest.header("warning").contains("could not store this"));
    std::fs::remove_file(filler).unwrap();
    eventually("new content is taken again", || async {
        server.metric("larder_admission_stopped").await == 0
    })
    .await;
    let again = get(&server, "a", &layers[1]).await;
    assert_eq!(again, "larder; fwd=miss; stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_makes_room_for_itself_where_so_much_must_be_free() {
    let upstream = FakeUpstream::start().await;
    // Nothing but what comes makes it look: the timer is slow.
    let (server, _disk) = small(&upstream, 64, DAY).await;
    // Room for two of them.
    let wanted = free(&server.store()) - 10 * MIB as u64;
    edit(&server, |text| {
        format!("{text}\ncapacity: {{minFree: '{wanted}'}}\n")
    })
    .await;
    let layers = stream(&server, &upstream, 5).await;
    eventually("so much is free", || async {
        free(&server.store()) >= wanted
    })
    .await;
    assert_eq!(there(&server, &layers), [false, false, false, true, true]);
    assert_eq!(evicted(&server, "disk").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_finds_the_disk_full_makes_room_and_goes_on() {
    let upstream = FakeUpstream::start().await;
    // Nothing but the write makes it look: the timer is slow.
    let (server, disk) = small(&upstream, 32, DAY).await;
    let layers = stream(&server, &upstream, 3).await;
    server.advance(DAY);
    disk.fill_up();
    // In use again, and so it stays.
    assert_eq!(get(&server, "a", &layers[0]).await, "larder; hit");
    let new = upstream.blob("a", content(3 * MIB, 9));
    assert_eq!(get(&server, "a", &new).await, "larder; fwd=miss; stored");
    assert_eq!(get(&server, "a", &new).await, "larder; hit");
    assert_eq!(there(&server, &layers), [true, false, true]);
    assert_eq!(evicted(&server, "disk").await, 1);
    assert_eq!(server.metric("larder_store_write_failures_total").await, 1);
    assert_eq!(server.temporary_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_high_watermark_the_store_shrinks_to_the_low_one_and_edits_move_both() {
    let upstream = FakeUpstream::start().await;
    let tail = "capacity: {maxSize: 20Mi, highWatermark: 80, lowWatermark: 40}";
    let server = TestServer::attentive(&upstream, tail).await;
    // 16 MiB of 20 are not more than the mark.
    let layers = stream(&server, &upstream, 4).await;
    assert_eq!(there(&server, &layers), [true; 4]);
    let one_more = upstream.blob("a", content(MIB, 9));
    get(&server, "a", &one_more).await;
    eventually("the store shrinks", || async {
        server.metric("larder_store_used_bytes").await <= 8 << 20
    })
    .await;
    assert_eq!(there(&server, &layers), [false, false, false, true]);
    assert!(server.has_blob(&one_more));
    assert_eq!(evicted(&server, "capacity").await, 3);

    server.advance(DAY);
    edit(&server, |text| {
        let text = text.replace("highWatermark: 80", "highWatermark: 20");
        text.replace("lowWatermark: 40", "lowWatermark: 10")
    })
    .await;
    eventually("the store shrinks", || async {
        server.metric("larder_store_used_bytes").await == 1 << 20
    })
    .await;
    assert!(server.has_blob(&one_more));
}

/// A rule about one repository.
fn rule(repository: &str, retention: &str) -> String {
    format!(
        "- {{name: {repository}, repositories: [{repository}], action: Cache, retention: {{{retention}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_time_that_is_kept_counts_for_what_is_stored() {
    let upstream = FakeUpstream::start().await;
    let rules = [rule("a", "unusedFor: 90d"), rule("b", "unusedFor: 30d")].concat();
    let server = TestServer::attentive(&upstream, &format!("rules:\n{rules}")).await;
    let long = pulled(&server, &upstream, "a", 5000).await;
    let short = pulled(&server, &upstream, "b", 5000).await;
    server.advance(40 * DAY);
    // Whatever makes this one go has looked at the other one too.
    gone(&server, &short).await;
    assert!(is_whole(&server, &long));
    edit(&server, |text| text.replace("90d", "10d")).await;
    gone(&server, &long).await;
    let tag = server.store().join("repositories/r.test/a/_tags/v1");
    eventually("its tag goes", || async { !tag.exists() }).await;
    assert_eq!(evicted(&server, "capacity").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_is_off_for_a_while_drops_nothing_and_counts_from_the_last_use_when_it_is_on()
 {
    let upstream = FakeUpstream::start().await;
    let kept = ["unused", "used", "witness"];
    let rules = kept.map(|name| rule(name, "unusedFor: 10d")).concat();
    let server = TestServer::attentive(&upstream, &format!("rules:\n{rules}")).await;
    let unused = pulled(&server, &upstream, "unused", 5000).await;
    let used = pulled(&server, &upstream, "used", 5000).await;
    let witness = pulled(&server, &upstream, "witness", 5000).await;
    let on = std::fs::read_to_string(server.config().join("policy.yaml")).unwrap();
    edit(&server, |text| {
        let off = ["unused", "used"].map(|name| rule(name, "unusedFor: 10d"));
        off.iter().fold(text, |text, rule| {
            text.replace(rule, &rule.replace(", retention: {unusedFor: 10d}", ""))
        })
    })
    .await;
    server.advance(40 * DAY);
    gone(&server, &witness).await;
    assert!(is_whole(&server, &unused) && is_whole(&server, &used));
    // A node that has the image only asks for its tag.
    assert_eq!(server.head("/v2/used/manifests/v1").await.status, 200);
    server.advance(DAY);
    edit(&server, |_| on).await;
    gone(&server, &unused).await;
    assert!(is_whole(&server, &used));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_of_an_edit_keeps_what_is_stored_until_another_edit_takes_it_away() {
    let upstream = FakeUpstream::start().await;
    let tail = "capacity: {maxSize: 32Mi}\n";
    let server = TestServer::attentive(&upstream, tail).await;
    let older = pulled(&server, &upstream, "older", 4 * MIB).await;
    server.advance(DAY);
    let newer = pulled(&server, &upstream, "newer", 4 * MIB).await;
    server.advance(DAY);
    let pin = rule("older", "pin: true");
    edit(&server, |text| {
        format!("{}rules:\n{pin}", text.replace("32Mi", "6Mi"))
    })
    .await;
    eventually("the other one goes", || async {
        !server.has_blob(&newer.layers[0])
    })
    .await;
    assert!(is_whole(&server, &older));
    edit(&server, |text| text.replace("pin: true", "unusedFor: 1d")).await;
    gone(&server, &older).await;
    assert!(evicted(&server, "unused").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_finds_the_disk_full_makes_room_and_is_stored() {
    let upstream = FakeUpstream::start().await;
    // Nothing but the write makes it look: the timer is slow.
    let (server, disk) = small(&upstream, 32, DAY).await;
    let layers = stream(&server, &upstream, 3).await;
    server.advance(DAY);
    disk.fill_up();
    let image = upstream.image("a", "v1", &[]);
    for status in ["larder; fwd=miss; stored", "larder; hit"] {
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.cache_status(), status);
        assert_eq!(reply.header("warning"), "");
    }
    assert!(server.has_blob(&image.digest));
    assert_eq!(there(&server, &layers), [false, true, true]);
    assert_eq!(evicted(&server, "disk").await, 1);
}

/// Within so long of an edit that is in force, its effect is there. The timers are slower: one that looks for room after 30 seconds (here after
/// a day), and one that looks at everything after ten minutes.
const AT_ONCE: Duration = Duration::from_secs(5);

/// An edit, and what becomes of images that were pulled three days ago, two days ago, and one day ago from another repository.
struct Edit {
    before: String,
    from: &'static str,
    to: &'static str,
    reason: &'static str,
    /// Whether the layer of each is there then.
    kept: [bool; 3],
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_counts_at_once_for_what_is_stored_and_waits_for_no_timer() {
    let rules = |retention| format!("rules:\n{}", rule("a", retention));
    for edited in [
        Edit {
            before: "capacity: {maxSize: 64Mi}".to_owned(),
            from: "64Mi",
            to: "9Mi",
            reason: "capacity",
            kept: [false, true, true],
        },
        Edit {
            before: rules("unusedFor: 30d"),
            from: "30d",
            to: "60h",
            reason: "unused",
            kept: [false, true, true],
        },
        Edit {
            before: rules("keepNewest: 2"),
            from: "keepNewest: 2",
            to: "keepNewest: 1",
            reason: "superseded",
            kept: [false, true, true],
        },
        Edit {
            before: rules("pin: true"),
            from: "pin: true",
            to: "unusedFor: 1d",
            reason: "unused",
            kept: [false, false, true],
        },
    ] {
        let upstream = FakeUpstream::start().await;
        let server = TestServer::builder()
            .upstream(HOST, &upstream)
            .tail(&edited.before)
            .tune(|options| options.patience.upkeep = DAY)
            .start()
            .await;
        let mut images = Vec::new();
        for (seed, (repository, tag)) in (1..).zip([("a", "v1"), ("a", "v2"), ("b", "v1")]) {
            let image = upstream.image(repository, tag, &[content(3 * MIB, seed)]);
            let path = format!("/v2/{repository}/manifests/{tag}");
            assert_eq!(server.get(&path).await.status, 200);
            get(&server, repository, &image.layers[0]).await;
            server.advance(DAY);
            images.push(image);
        }
        let case = format!("{} to {}", edited.from, edited.to);
        let before = images.iter().map(|image| server.has_blob(&image.layers[0]));
        let before: Vec<_> = before.collect();
        edit(&server, |text| text.replace(edited.from, edited.to)).await;
        let gone = eventually("it has its effect", || async {
            let kept = images.iter().map(|image| server.has_blob(&image.layers[0]));
            kept.eq(edited.kept) && evicted(&server, edited.reason).await > 0
        });
        let waited = tokio::time::timeout(AT_ONCE, gone).await;
        assert!(waited.is_ok(), "{case}");
        assert!(before.iter().all(|there| *there), "{case}: {before:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_what_must_be_free_counts_at_once_and_waits_for_no_timer() {
    let upstream = FakeUpstream::start().await;
    let (server, _disk) = small(&upstream, 64, DAY).await;
    let layers = stream(&server, &upstream, 4).await;
    server.advance(DAY);
    assert_eq!(there(&server, &layers), [true; 4]);
    let wanted = free(&server.store()) + 6 * MIB as u64;
    edit(&server, |text| {
        format!("{text}\ncapacity: {{minFree: '{wanted}'}}\n")
    })
    .await;
    let freed = eventually("so much is free", || async {
        evicted(&server, "disk").await == 2 && free(&server.store()) >= wanted
    });
    assert!(tokio::time::timeout(AT_ONCE, freed).await.is_ok());
    assert_eq!(there(&server, &layers), [false, false, true, true]);
}
