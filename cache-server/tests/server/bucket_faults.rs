//! A bucket that is down, slow, wrong, or forbidden: no pull fails of it, and nothing wrong gets out.

use std::time::Duration;

use cache_server::oci::Digest;

use crate::bucket::{pull, replica, shared};
use crate::support::{
    BucketFault, FakeBucket, FakeUpstream, HOST, Image, Program, TestServer, content, digest,
    eventually,
};

/// An upstream and a bucket that both have an image of one layer of that size.
async fn both(size: usize) -> (FakeUpstream, FakeBucket, Image) {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[content(size, 1)]);
    let first = replica(&upstream, &bucket).start().await;
    pull(&first, "v1", &image).await;
    shared(&first).await;
    upstream.forget();
    bucket.forget();
    (upstream, bucket, image)
}

fn layer(image: &Image) -> String {
    format!("/v2/a/blobs/{}", image.layers[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_in_the_bucket_is_never_served_and_is_replaced() {
    let (upstream, bucket, image) = both(100_000).await;
    let (wrong, right) = (content(100_000, 9), content(100_000, 1));
    bucket.set_content(&image.layers[0], wrong);
    let other = upstream.image("b", "v1", &[]);
    bucket.set_content(&image.digest, other.manifest);
    let server = replica(&upstream, &bucket).start().await;
    // The client notices nothing.
    let manifest = server.get("/v2/a/manifests/v1").await;
    assert_eq!(manifest.content(), image.manifest);
    let reply = server.get(&layer(&image)).await;
    assert_eq!(reply.content(), right);
    assert_eq!(reply.cache_status(), "larder; fwd=miss; stored");
    assert_eq!(server.metric("larder_bucket_corrupt_total").await, 2);
    shared(&server).await;
    assert_eq!(bucket.content(&image.layers[0]).unwrap(), right);
    assert_eq!(bucket.content(&image.digest).unwrap(), image.manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_wrong_body_breaks_off_and_the_next_one_is_the_upstreams() {
    let (upstream, bucket, image) = both(6 << 20).await;
    let mut wrong = content(6 << 20, 1);
    wrong[3] ^= 1;
    bucket.set_content(&image.layers[0], wrong);
    let server = replica(&upstream, &bucket).start().await;
    let reply = server.get(&layer(&image)).await;
    assert!(!reply.is_complete());
    server.settled().await;
    assert!(!server.has_blob(&image.layers[0]));
    let reply = server.get(&layer(&image)).await;
    assert_eq!(digest(reply.content()), image.layers[0]);
    shared(&server).await;
    assert_eq!(
        digest(&bucket.content(&image.layers[0]).unwrap()),
        image.layers[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_another_length_is_not_taken() {
    for size in [100_000, 6 << 20] {
        let (upstream, bucket, image) = both(size).await;
        let right = content(size, 1);
        bucket.set_content(&image.layers[0], right[..size - 1].to_vec());
        let server = replica(&upstream, &bucket).start().await;
        let first = server.get(&layer(&image)).await;
        assert!(!first.is_complete() || first.content() == right);
        assert_eq!(server.get(&layer(&image)).await.content(), right);
        shared(&server).await;
        assert_eq!(bucket.content(&image.layers[0]).unwrap(), right);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_down_fails_no_pull_and_gets_everything_later() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[content(5000, 1)]);
    bucket.fault("", BucketFault::Status(500), usize::MAX);
    let server = replica(&upstream, &bucket).start().await;
    pull(&server, "v1", &image).await;
    server.settled().await;
    assert_eq!(server.metric("larder_bucket_behind").await, 1);
    assert_eq!(bucket.keys(), [""; 0]);
    bucket.heal();
    // It is left alone for a while.
    server.advance(Duration::from_secs(61));
    shared(&server).await;
    assert_eq!(server.metric("larder_bucket_left_alone").await, 0);
    upstream.stop().await;
    let second = replica(&upstream, &bucket).start().await;
    pull(&second, "v1", &image).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_refuses_connections_fails_no_pull() {
    let (upstream, bucket, image) = both(5000).await;
    bucket.stop().await;
    let server = replica(&upstream, &bucket).start().await;
    let said = pull(&server, "v1", &image).await;
    assert!(said.iter().all(|said| said == "larder; fwd=miss; stored"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_forbids_everything_fails_no_pull_and_shows_no_key() {
    let (upstream, bucket, image) = both(5000).await;
    bucket.fault("", BucketFault::Status(403), usize::MAX);
    let server = replica(&upstream, &bucket).start().await;
    let said = pull(&server, "v1", &image).await;
    assert!(said.iter().all(|said| said == "larder; fwd=miss; stored"));
    let refused =
        server.metric("larder_bucket_requests_total{operation=\"read\",result=\"failed\"}");
    assert!(refused.await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_hangs_is_waited_for_a_moment_and_then_left_alone() {
    let (upstream, bucket, image) = both(5000).await;
    bucket.fault("", BucketFault::Hang, usize::MAX);
    let storage = bucket.config();
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tune(move |options| {
            options.static_config.object_storage = Some(storage);
            options.bucket.answer = Duration::from_millis(50);
        })
        .start()
        .await;
    pull(&server, "v1", &image).await;
    assert_eq!(server.metric("larder_bucket_left_alone").await, 1);
    // Nobody waits any more.
    bucket.forget();
    let other = upstream.image("a", "v2", &[content(10, 2)]);
    pull(&server, "v2", &other).await;
    assert_eq!(bucket.count("GET"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_says_slow_down_is_asked_again() {
    let (upstream, bucket, image) = both(5000).await;
    bucket.fault("GET", BucketFault::Status(503), 2);
    upstream.stop().await;
    let server = replica(&upstream, &bucket).start().await;
    let said = pull(&server, "v1", &image).await;
    assert!(said.iter().all(|said| said == "larder; hit; detail=bucket"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_goes_on_where_it_was() {
    for size in [100_000, 6 << 20] {
        let (upstream, bucket, image) = both(size).await;
        let hex = image.layers[0].hex();
        bucket.fault(
            format!("GET /images/p/blobs/sha256/{}/{hex}", &hex[..2]),
            BucketFault::Truncate(50_000),
            1,
        );
        upstream.stop().await;
        let server = replica(&upstream, &bucket).start().await;
        let reply = server.get(&layer(&image)).await;
        assert_eq!(digest(reply.content()), image.layers[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_for_good_comes_to_its_end_from_the_upstream() {
    for size in [100_000, 6 << 20] {
        let (upstream, bucket, image) = both(size).await;
        let hex = image.layers[0].hex();
        bucket.fault(
            format!("GET /images/p/blobs/sha256/{}/{hex}", &hex[..2]),
            BucketFault::Truncate(50_000),
            1,
        );
        bucket.fault(
            format!("GET /images/p/blobs/sha256/{}/{hex}", &hex[..2]),
            BucketFault::Status(400),
            1000,
        );
        let server = replica(&upstream, &bucket).start().await;
        let before = upstream.body_bytes();
        let reply = server.get(&layer(&image)).await;
        assert_eq!(digest(reply.content()), image.layers[0]);
        // Not all of it came again.
        assert!(upstream.body_bytes() - before < size as u64);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_deleted_while_it_is_read_comes_to_its_end_from_the_upstream() {
    for size in [100_000, 6 << 20] {
        let (upstream, bucket, image) = both(size).await;
        let hex = image.layers[0].hex();
        let object = format!("GET /images/p/blobs/sha256/{}/{hex}", &hex[..2]);
        bucket.fault(&object, BucketFault::Vanish(50_000), 1);
        let server = replica(&upstream, &bucket).start().await;
        let before = upstream.body_bytes();
        let reply = server.get(&layer(&image)).await;
        assert_eq!(digest(reply.content()), image.layers[0]);
        // The rest was asked for where it was, and is not there any more.
        assert_eq!(bucket.count(&object), 2);
        // Not all of it came again.
        assert!(upstream.body_bytes() - before < size as u64);
        server.settled().await;
        assert!(server.has_blob(&image.layers[0]));
        // The bucket gets it back from who holds it.
        let directory = server.stop().await;
        let again = replica(&upstream, &bucket).directory(&directory);
        let again = again.start().await;
        shared(&again).await;
        let there = bucket.content(&image.layers[0]).unwrap();
        assert_eq!(digest(&there), image.layers[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_deleted_while_it_is_read_breaks_without_an_upstream_and_is_not_stored() {
    for size in [100_000, 6 << 20] {
        let (upstream, bucket, image) = both(size).await;
        let hex = image.layers[0].hex();
        let object = format!("GET /images/p/blobs/sha256/{}/{hex}", &hex[..2]);
        bucket.fault(&object, BucketFault::Vanish(50_000), 1);
        upstream.stop().await;
        let server = replica(&upstream, &bucket).start().await;
        let reply = server.get(&layer(&image)).await;
        assert!(!reply.is_complete(), "{size}");
        server.settled().await;
        assert!(!server.has_blob(&image.layers[0]));
        assert_eq!(server.temporary_files(), 0);
        // And it is not there for anybody: nobody is told that it is.
        assert_eq!(server.get(&layer(&image)).await.status, 503);
        assert_eq!(server.head(&layer(&image)).await.status, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_in_parts_that_fails_is_taken_back_and_made_good() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[content(20 << 20, 1)]);
    bucket.fault("partNumber=2", BucketFault::Status(403), 1);
    let server = replica(&upstream, &bucket).start().await;
    pull(&server, "v1", &image).await;
    shared(&server).await;
    assert_eq!(bucket.count("DELETE"), 1);
    assert_eq!(bucket.unfinished(), 0);
    let there = bucket.content(&image.layers[0]).unwrap();
    assert_eq!(digest(&there), image.layers[0]);
}

/// Settings of a program with a bucket, which lie in `directory`.
fn settings(
    directory: &std::path::Path,
    upstream: &FakeUpstream,
    bucket: &FakeBucket,
) -> std::path::PathBuf {
    let storage = serde_json::to_string(&bucket.config()).unwrap();
    let text = format!(
        "server: {{dataListen: '127.0.0.1:0', adminListen: '127.0.0.1:0', store: {}, logFormat: Json, objectStorage: {storage}}}\npolicy:\n  defaultUpstream: {HOST}\n  upstreams:\n  - {{host: {HOST}, endpoints: [\"{}\"]}}\n",
        directory.join("store").display(),
        upstream.endpoint(),
    );
    let path = directory.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_kill_kept_from_the_bucket_gets_there_after_the_next_start() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[content(5000, 1)]);
    let directory = tempfile::tempdir().unwrap();
    let config = settings(directory.path(), &upstream, &bucket);
    bucket.fault("PUT", BucketFault::Hang, usize::MAX);
    let program = Program::start(&config, "info").await;
    let paths = [
        "/v2/a/manifests/v1".to_owned(),
        layer(&image),
        format!("/v2/a/blobs/{}", image.config),
    ];
    for path in &paths {
        let reply = program.get(path).await;
        assert_eq!(reply.status(), 200);
        reply.bytes().await.unwrap();
    }
    let stored = |digest: &Digest| {
        let (directory, digest) = (directory.path().join("store"), digest.clone());
        crate::support::blob_path(&directory, &digest).exists()
    };
    eventually("it is on the disk, and on its way", || async {
        stored(&image.layers[0]) && stored(&image.config) && bucket.count("PUT") > 0
    })
    .await;
    // Dropping it is a kill.
    drop(program);
    assert_eq!(bucket.keys(), [""; 0]);
    bucket.heal();
    let program = Program::start(&config, "info").await;
    eventually("it is in the bucket", || async {
        let page = program.admin("/metrics").await;
        page.contains("\nlarder_bucket_behind 0\n")
    })
    .await;
    let log = program.end().await;
    assert!(!log.contains("hidden"), "{log}");
    upstream.stop().await;
    // Its record of the tag is too old for the clock of tests.
    let second = replica(&upstream, &bucket).start().await;
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(second.get(&by_digest).await.content(), image.manifest);
    assert!(second.get(&layer(&image)).await.is_complete());
}
