//! The store stays within its capacity, keeps what the rules keep, and never stops a pull for want of room.

use std::time::Duration;

use cache_server::oci::Digest;
use http::Method;

use crate::support::{
    FakeUpstream, Fault, Gate, HOST, Image, TestServer, content, edit, eventually,
};

const MIB: usize = 1 << 20;
const DAY: Duration = Duration::from_hours(24);

/// Pulls as a node does: the manifest by its tag, and then all that it names.
async fn pull(server: &TestServer, repository: &str, tag: &str, image: &Image) {
    let manifest = server
        .get(&format!("/v2/{repository}/manifests/{tag}"))
        .await;
    assert_eq!(manifest.content(), &image.manifest[..]);
    for layer in &image.layers {
        get(server, repository, layer).await;
    }
}

async fn get(server: &TestServer, repository: &str, digest: &Digest) -> String {
    let reply = server
        .get(&format!("/v2/{repository}/blobs/{digest}"))
        .await;
    assert!(digest.names(reply.content()));
    // What is passed through fills nothing, and may not wait for a fill that a test holds back.
    if !reply.cache_status().contains("bypass") {
        server.settled().await;
    }
    reply.cache_status().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_distinct_blobs_never_exceeds_the_capacity() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 8Mi}").await;
    let mut last = None;
    for seed in 0..24 {
        let layer = upstream.blob("a", content(MIB + 1, seed));
        get(&server, "a", &layer).await;
        server.advance(Duration::from_secs(11));
        let used = server.metric("larder_store_used_bytes").await;
        assert!(used <= 8 << 20, "{used}");
        last = Some(layer);
    }
    assert!(server.has_blob(&last.unwrap()));
    assert!(
        server
            .metric("larder_evictions_total{reason=\"capacity\"}")
            .await
            > 10
    );
    assert_eq!(server.metric("larder_store_max_bytes").await, 8 << 20);
    assert_eq!(server.metric("larder_admission_stopped").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_the_capacity_is_passed_through_and_displaces_nothing() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 4Mi}").await;
    let kept = upstream.blob("a", content(2 * MIB, 1));
    let huge = upstream.blob("a", content(5 * MIB, 2));
    get(&server, "a", &kept).await;
    server.advance(DAY);
    assert_eq!(get(&server, "a", &huge).await, "larder; fwd=bypass");
    assert!(server.has_blob(&kept) && !server.has_blob(&huge));
    assert_eq!(server.temporary_files(), 0);
    assert_eq!(server.metric("larder_admission_stopped").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_shrinks_what_is_stored() {
    let upstream = FakeUpstream::start().await;
    // Nothing but the edit makes it look: the timer is slow.
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("capacity: {maxSize: 64Mi}")
        .tune(|options| options.patience.upkeep = DAY)
        .start()
        .await;
    let mut layers = Vec::new();
    for seed in 0..8 {
        let layer = upstream.blob("a", content(2 * MIB, seed));
        get(&server, "a", &layer).await;
        server.advance(Duration::from_mins(1));
        layers.push(layer);
    }
    edit(&server, |text| text.replace("64Mi", "8Mi")).await;
    eventually("the store shrinks", || async {
        server.metric("larder_store_used_bytes").await <= 8 << 20
    })
    .await;
    // What was used last is still there.
    assert!(server.has_blob(&layers[7]) && !server.has_blob(&layers[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_ends_well_although_its_blob_is_evicted() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(16 * MIB, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 64Mi}").await;
    get(&server, "a", &layer).await;
    let path = format!("/v2/a/blobs/{layer}");
    let mut download = server.send(Method::GET, &path, &[]).await;
    let mut received = download.next().await.unwrap().unwrap();
    server.advance(DAY);
    edit(&server, |text| text.replace("64Mi", "1Mi")).await;
    eventually("the blob is evicted", || async { !server.has_blob(&layer) }).await;
    received.extend(download.rest().await.content());
    assert!(received == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_nobody_pulls_go_and_what_they_share_stays() {
    let upstream = FakeUpstream::start().await;
    let (base, own) = (content(5000, 1), content(6000, 2));
    let old = upstream.image("a", "old", &[base.clone(), own]);
    let used = upstream.image("b", "used", &[base]);
    let tail = "rules:\n- {name: all, action: Cache, retention: {unusedFor: 30d}}\n";
    let server = TestServer::attentive(&upstream, tail).await;
    pull(&server, "a", "old", &old).await;
    pull(&server, "b", "used", &used).await;
    server.advance(20 * DAY);
    // A node that has the image only asks for its tag.
    assert_eq!(server.head("/v2/b/manifests/used").await.status, 200);
    server.advance(20 * DAY);
    eventually("the image goes", || async { !server.has_blob(&old.digest) }).await;
    eventually("its own layer goes", || async {
        !server.has_blob(&old.layers[1])
    })
    .await;
    assert!(server.has_blob(&used.digest) && server.has_blob(&used.layers[0]));
    let tag = server.store().join("repositories/r.test/a/_tags/old");
    eventually("its tag goes", || async { !tag.exists() }).await;
    assert!(
        server
            .metric("larder_evictions_total{reason=\"unused\"}")
            .await
            > 0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_newest_tags_are_kept() {
    let upstream = FakeUpstream::start().await;
    let base = content(5000, 99);
    let server = TestServer::attentive(&upstream, "").await;
    let mut images = Vec::new();
    for number in 0..4 {
        let layers = [base.clone(), content(4000, number)];
        let image = upstream.image("a", &format!("v{number}"), &layers);
        pull(&server, "a", &format!("v{number}"), &image).await;
        images.push(image);
    }
    server.advance(Duration::from_mins(1));
    edit(&server, |text| {
        format!("{text}\nrules:\n- {{name: two, action: Cache, retention: {{keepNewest: 2}}}}\n")
    })
    .await;
    for old in &images[..2] {
        eventually("the old image goes", || async {
            !server.has_blob(&old.digest) && !server.has_blob(&old.layers[1])
        })
        .await;
    }
    for new in &images[2..] {
        assert!(server.has_blob(&new.digest) && server.has_blob(&new.layers[1]));
    }
    assert!(server.has_blob(&images[0].layers[0]), "the shared layer");
    let tags = std::fs::read_dir(server.store().join("repositories/r.test/a/_tags"));
    assert_eq!(tags.unwrap().count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pinned_images_stay_and_stop_the_admission_when_they_fill_the_store() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("pinned", "v1", &[content(3 * MIB, 1), content(4 * MIB, 2)]);
    let tail = "rules:\n- {name: pins, repositories: [pinned], tags: [v1], action: Cache, retention: {pin: true}}\ncapacity: {maxSize: 32Mi}\n";
    let server = TestServer::attentive(&upstream, tail).await;
    pull(&server, "pinned", "v1", &image).await;
    let other = upstream.blob("other", content(2 * MIB, 3));
    get(&server, "other", &other).await;
    server.advance(DAY);
    edit(&server, |text| text.replace("32Mi", "7Mi")).await;
    eventually("the admission stops", || async {
        server.metric("larder_admission_stopped").await == 1
    })
    .await;
    assert!(!server.has_blob(&other));
    assert!(image.layers.iter().all(|layer| server.has_blob(layer)));
    assert!(server.has_blob(&image.digest));
    // It is passed through, and the pinned image is a hit.
    assert_eq!(get(&server, "other", &other).await, "larder; fwd=bypass");
    assert!(!server.has_blob(&other));
    assert_eq!(
        get(&server, "pinned", &image.layers[0]).await,
        "larder; hit"
    );

    edit(&server, |text| text.replace("7Mi", "32Mi")).await;
    eventually("the admission goes on", || async {
        server.metric("larder_admission_stopped").await == 0
    })
    .await;
    assert_eq!(
        get(&server, "other", &other).await,
        "larder; fwd=miss; stored"
    );
    assert!(server.has_blob(&other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_remembers_what_was_used() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 64Mi}").await;
    let mut layers = Vec::new();
    for seed in 0..4 {
        let layer = upstream.blob("a", content(2 * MIB, seed));
        get(&server, "a", &layer).await;
        server.advance(Duration::from_mins(1));
        layers.push(layer);
    }
    // The oldest becomes the newest.
    assert_eq!(get(&server, "a", &layers[0]).await, "larder; hit");
    let directory = server.stop().await;

    let server = TestServer::builder()
        .directory(&directory)
        .tune(|options| options.patience.upkeep = Duration::from_millis(20))
        .start()
        .await;
    // Until then it seems to be empty, and small enough.
    eventually("the store is known", || async {
        server.metric("larder_store_blobs").await == 4
    })
    .await;
    server.advance(DAY);
    edit(&server, |text| text.replace("64Mi", "5Mi")).await;
    eventually("the store shrinks", || async {
        server.metric("larder_store_used_bytes").await <= 5 << 20
    })
    .await;
    let kept: Vec<bool> = layers.iter().map(|layer| server.has_blob(layer)).collect();
    assert_eq!(kept, [true, false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_in_flight_are_left_alone() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(2 * MIB, 1);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault(layer.hex(), Fault::Gated(gate.clone()), 1);
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 3Mi}").await;
    gate.open(1);
    let path = format!("/v2/a/blobs/{layer}");
    let mut download = server.send(Method::GET, &path, &[]).await;
    let mut received = download.next().await.unwrap().unwrap();
    // There is no room beside what is on its way.
    let other = upstream.blob("a", content(2 * MIB, 2));
    assert_eq!(get(&server, "a", &other).await, "larder; fwd=bypass");
    gate.open_for_good();
    received.extend(download.rest().await.content());
    server.settled().await;
    assert!(received == bytes && server.has_blob(&layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_counts_as_complete_while_all_of_it_is_there() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(2 * MIB, 1)]);
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 16Mi}").await;
    pull(&server, "a", "v1", &image).await;
    let config: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let config = Digest::parse(config["config"]["digest"].as_str().unwrap()).unwrap();
    get(&server, "a", &config).await;
    let state = |state: &str| format!("larder_manifests{{state=\"{state}\"}}");
    eventually("it is complete", || async {
        server.advance(DAY);
        server.metric(&state("complete")).await == 1
    })
    .await;
    edit(&server, |text| text.replace("16Mi", "1Mi")).await;
    eventually("it is incomplete", || async {
        // Each time: a round that began before an advance looked at what was there before it.
        server.advance(DAY);
        server.metric(&state("incomplete")).await == 1
    })
    .await;
    assert!(server.has_blob(&image.digest) && !server.has_blob(&image.layers[0]));
    // What is missing is fetched again.
    edit(&server, |text| text.replace("1Mi", "16Mi")).await;
    pull(&server, "a", "v1", &image).await;
    assert!(server.has_blob(&image.layers[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rots_on_the_disk_is_found_and_fetched_anew() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(200_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::attentive(&upstream, "").await;
    get(&server, "a", &layer).await;
    let file = crate::support::blob_path(&server.store(), &layer);
    let mut rotten = bytes.clone();
    rotten[100_000] ^= 1;
    std::fs::write(&file, rotten).unwrap();
    server.advance(8 * DAY);
    eventually("the rot is found", || async {
        server.metric("larder_scrub_corrupt_total").await == 1
    })
    .await;
    eventually("it is taken away", || async { !file.exists() }).await;
    let quarantined = server.store().join("quarantine").join(layer.hex());
    assert!(quarantined.exists());
    assert_eq!(get(&server, "a", &layer).await, "larder; fwd=miss; stored");
    assert_eq!(get(&server, "a", &layer).await, "larder; hit");
}
