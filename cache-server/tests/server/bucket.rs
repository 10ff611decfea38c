//! Replicas that share a bucket: what one of them fetched, the others have, upstream or not.

use std::time::Duration;

use cache_server::bucket::Times;
use cache_server::oci::Digest;
use http::Method;

use crate::support::{
    Builder, FakeBucket, FakeUpstream, HOST, Image, TestServer, blob_path, content, eventually,
};

/// One of several servers on one bucket, each with a disk of its own.
pub(crate) fn replica(upstream: &FakeUpstream, bucket: &FakeBucket) -> Builder {
    let storage = bucket.config();
    TestServer::builder()
        .upstream(HOST, upstream)
        .tail("freshness: {refreshAfter: 5m, serveStaleFor: 1d}\n")
        .tune(move |options| {
            options.static_config.object_storage = Some(storage);
            options.bucket = Times {
                answer: Duration::from_secs(5),
                retry: Duration::from_millis(20),
                ..Times::default()
            };
        })
}

/// Waits until nothing more is on its way to the bucket.
pub(crate) async fn shared(server: &TestServer) {
    server.settled().await;
    eventually("everything is in the bucket", || async {
        server.metric("larder_bucket_queue").await == 0
            && server.metric("larder_bucket_behind").await == 0
    })
    .await;
}

/// All of an image, by its tag.
pub(crate) async fn pull(server: &TestServer, tag: &str, image: &Image) -> Vec<String> {
    let mut said = Vec::new();
    let manifest = server.get(&format!("/v2/a/manifests/{tag}")).await;
    assert_eq!(manifest.content(), image.manifest);
    said.push(manifest.cache_status().to_owned());
    for digest in std::iter::once(&image.config).chain(&image.layers) {
        let blob = server.get(&format!("/v2/a/blobs/{digest}")).await;
        assert!(digest.names(blob.content()));
        said.push(blob.cache_status().to_owned());
    }
    said
}

fn blob(digest: &Digest) -> String {
    format!("/v2/a/blobs/{digest}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_an_empty_disk_serves_from_the_bucket_without_the_upstream() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    // One of them goes up in parts, and is shown before it is all here.
    let layers = [content(5000, 1), content(20 << 20, 2)];
    let image = upstream.image("a", "v1", &layers);
    let first = replica(&upstream, &bucket).start().await;
    let said = pull(&first, "v1", &image).await;
    assert!(said.iter().all(|said| said == "larder; fwd=miss; stored"));
    shared(&first).await;
    assert_eq!(bucket.unfinished(), 0);
    let written = first.metric("larder_bucket_bytes_total{direction=\"written\"}");
    assert!(written.await > 20 << 20);
    upstream.stop().await;

    let second = replica(&upstream, &bucket).start().await;
    let said = pull(&second, "v1", &image).await;
    assert!(
        said.iter().all(|said| said == "larder; hit; detail=bucket"),
        "{said:?}"
    );
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(second.get(&by_digest).await.content(), image.manifest);
    // It is all on its own disk now.
    second.settled().await;
    bucket.stop().await;
    let said = pull(&second, "v1", &image).await;
    assert!(said.iter().all(|said| said == "larder; hit"), "{said:?}");
    eventually("all three are counted", || async {
        let hits = second.metric("larder_requests_total{kind=\"blob\",outcome=\"bucket\"}");
        hits.await == 3
    })
    .await;
    let read = second.metric("larder_bucket_bytes_total{direction=\"read\"}");
    assert!(read.await > 20 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_and_ranges_are_answered_from_the_bucket_too() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let layer = content(300_000, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&layer));
    let first = replica(&upstream, &bucket).start().await;
    pull(&first, "v1", &image).await;
    shared(&first).await;
    upstream.stop().await;

    let second = replica(&upstream, &bucket).start().await;
    let head = second.head(&blob(&image.layers[0])).await;
    assert_eq!(head.cache_status(), "larder; hit; detail=bucket");
    assert_eq!(head.header("content-length"), "300000");
    for reference in ["v1".to_owned(), image.digest.to_string()] {
        let head = second.head(&format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(head.status, 200);
        assert_eq!(
            head.header("docker-content-digest"),
            image.digest.to_string()
        );
    }
    // The middle of what is not here: the whole comes, and the part is given.
    let path = blob(&image.layers[0]);
    let part = second.get_range(&path, "bytes=100000-199999").await;
    assert_eq!(
        (part.status.as_u16(), part.content()),
        (206, &layer[100_000..200_000])
    );
    second.settled().await;
    assert!(second.has_blob(&image.layers[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_one_replica_checked_is_fresh_for_all() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[]);
    let first = replica(&upstream, &bucket).start().await;
    let second = replica(&upstream, &bucket).start().await;
    pull(&first, "v1", &image).await;
    shared(&first).await;
    upstream.forget();
    pull(&second, "v1", &image).await;
    assert_eq!(upstream.requests(), [""; 0]);
    // It moved, which the second one learns when its time is over. The first one believes it then.
    let moved = upstream.image("a", "v1", &[content(10, 3)]);
    for server in [&first, &second] {
        server.advance(Duration::from_secs(301));
    }
    pull(&second, "v1", &moved).await;
    shared(&second).await;
    upstream.forget();
    pull(&first, "v1", &moved).await;
    assert_eq!(upstream.requests(), [""; 0]);
    // While the upstream is down, an old record is an answer where it is the only one.
    upstream.stop().await;
    let third = replica(&upstream, &bucket).start().await;
    third.advance(Duration::from_hours(1));
    let reply = third.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), moved.manifest);
    assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_one_repository_opens_no_other() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let secret = content(5000, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&secret));
    let first = replica(&upstream, &bucket).start().await;
    pull(&first, "v1", &image).await;
    shared(&first).await;
    let second = replica(&upstream, &bucket).start().await;
    let elsewhere = format!("/v2/b/blobs/{}", image.layers[0]);
    assert_eq!(second.get(&elsewhere).await.status, 404);
    assert_eq!(second.head(&elsewhere).await.status, 404);
    let manifest = format!("/v2/b/manifests/{}", image.digest);
    assert_eq!(second.get(&manifest).await.status, 404);
    // Where the upstream says yes, its bytes need not come again.
    upstream.blob("b", secret.clone());
    second.advance(Duration::from_secs(10));
    let before = upstream.body_bytes();
    let reply = second.get(&elsewhere).await;
    assert_eq!(reply.content(), secret);
    assert_eq!(reply.cache_status(), "larder; hit; detail=bucket");
    assert!(upstream.body_bytes() - before < 1000);
    // And nobody needs to ask again.
    shared(&second).await;
    upstream.stop().await;
    let third = replica(&upstream, &bucket).start().await;
    assert_eq!(third.get(&elsewhere).await.content(), secret);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_gone_does_not_come_back_from_the_bucket() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[]);
    let first = replica(&upstream, &bucket).start().await;
    pull(&first, "v1", &image).await;
    shared(&first).await;
    let second = replica(&upstream, &bucket).start().await;
    second.advance(Duration::from_secs(301));
    // Its record can't be removed at once.
    bucket.fault("DELETE", crate::support::BucketFault::Status(403), 1000);
    upstream.fault("manifests/v1", crate::support::Fault::Status(404), 1000);
    for _ in 0..2 {
        assert_eq!(second.get("/v2/a/manifests/v1").await.status, 404);
        // What is remembered for a moment is forgotten.
        second.advance(Duration::from_secs(3));
    }
    upstream.heal();
    upstream.fault("manifests/v1", crate::support::Fault::Status(503), 1000);
    assert_eq!(second.get("/v2/a/manifests/v1").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_takes_it_out_of_the_bucket_too() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[content(5000, 1)]);
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "token").unwrap();
    let (storage, path) = (bucket.config(), token.path().to_owned());
    let server = replica(&upstream, &bucket)
        .tune(move |options| {
            options.static_config.object_storage = Some(storage);
            options.static_config.admin_token_file = Some(path);
            options.bucket.retry = Duration::from_millis(20);
        })
        .start()
        .await;
    pull(&server, "v1", &image).await;
    shared(&server).await;
    assert!(bucket.content(&image.digest).is_some());
    let purge = |body: String| {
        let url = format!("{}/v1/purge", server.admin_url());
        let client = server.other_client(None);
        let request = client.request(Method::POST, url).bearer_auth("token");
        async move { request.body(body).send().await.unwrap().status() }
    };
    let body = format!(r#"{{"upstream": "{HOST}", "repository": "a", "tag": "v1"}}"#);
    assert_eq!(purge(body.clone()).await, 200);
    let left: Vec<_> = bucket
        .keys()
        .into_iter()
        .filter(|key| !key.contains("_blobs"))
        .collect();
    assert_eq!(left, [""; 0]);
    // A person must know when it would come back.
    bucket.fault("DELETE", crate::support::BucketFault::Status(403), 1);
    assert_eq!(purge(body).await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_life_cycle_rule_takes_comes_back_from_who_holds_it() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let image = upstream.image("a", "v1", &[content(5000, 1), content(6000, 2)]);
    let first = replica(&upstream, &bucket).start().await;
    pull(&first, "v1", &image).await;
    shared(&first).await;
    let all = bucket.keys();
    assert_eq!(
        all.iter().filter(|key| key.starts_with("blobs/")).count(),
        4
    );
    let directory = first.stop().await;
    bucket.remove(image.layers[0].hex());
    bucket.remove("_tags");
    bucket.remove("_manifests");
    assert!(bucket.keys().len() < all.len());
    bucket.forget();
    let again = replica(&upstream, &bucket)
        .directory(&directory)
        .start()
        .await;
    shared(&again).await;
    assert_eq!(bucket.keys(), all);
    // Only what was missing was written: content, its membership, the records.
    assert_eq!(bucket.count("PUT"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rotted_on_the_disk_is_not_shared() {
    let (upstream, bucket) = (FakeUpstream::start().await, FakeBucket::start().await);
    let layers = [content(5000, 1), content(9 << 20, 2)];
    let image = upstream.image("a", "v1", &layers);
    let alone = TestServer::of(&upstream).await;
    pull(&alone, "v1", &image).await;
    alone.settled().await;
    for (name, layer) in image.layers.iter().zip(&layers) {
        let mut rotten = layer.clone();
        rotten[7] ^= 0x80;
        std::fs::write(blob_path(&alone.store(), name), rotten).unwrap();
    }
    let directory = alone.stop().await;
    let server = replica(&upstream, &bucket)
        .directory(&directory)
        .start()
        .await;
    shared(&server).await;
    assert!(bucket.content(&image.config).is_some());
    for name in &image.layers {
        assert_eq!(bucket.content(name), None);
    }
    assert_eq!(bucket.unfinished(), 0);
}
