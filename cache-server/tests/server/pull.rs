//! Pulls that go well: what is fetched, what is stored, and how often.

use std::sync::Arc;

use futures::future::join_all;
use http::Method;

use crate::support::{
    FakeUpstream, Fault, Gate, HOST, Image, TestServer, content, digest, eventually,
};

async fn pull(server: &TestServer, repository: &str, tag: &str) -> Image {
    let head = server
        .head(&format!("/v2/{repository}/manifests/{tag}"))
        .await;
    assert_eq!(head.status, 200);
    let name = head.header("docker-content-digest").to_owned();
    let manifest = server
        .get(&format!("/v2/{repository}/manifests/{name}"))
        .await;
    assert_eq!(manifest.status, 200);
    assert_eq!(
        head.header("content-length"),
        manifest.header("content-length")
    );
    assert_eq!(head.header("content-type"), manifest.header("content-type"));
    let document: serde_json::Value = serde_json::from_slice(manifest.content()).unwrap();
    let mut digests = vec![document["config"]["digest"].as_str().unwrap().to_owned()];
    for layer in document["layers"].as_array().unwrap() {
        digests.push(layer["digest"].as_str().unwrap().to_owned());
    }
    let mut names = Vec::new();
    for wanted in digests {
        let blob = server
            .get(&format!("/v2/{repository}/blobs/{wanted}"))
            .await;
        assert_eq!(digest(blob.content()).to_string(), wanted);
        assert_eq!(blob.header("etag"), format!("\"{wanted}\""));
        names.push(digest(blob.content()));
    }
    Image {
        digest: digest(manifest.content()),
        manifest: manifest.content().to_vec().into(),
        config: names[0].clone(),
        layers: names[1..].to_vec(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_stores_and_the_next_one_asks_nothing() {
    let upstream = FakeUpstream::start().await;
    let layers = [content(300_000, 1), content(10, 2)];
    let image = upstream.image("team/app", "v1", &layers);
    let server = TestServer::of(&upstream).await;

    pull(&server, "team/app", "v1").await;
    let expected = [
        "HEAD /v2/team/app/manifests/v1".to_owned(),
        format!("GET /v2/team/app/manifests/{}", image.digest),
        format!("GET /v2/team/app/blobs/{}", image.config),
        format!("GET /v2/team/app/blobs/{}", image.layers[0]),
        format!("GET /v2/team/app/blobs/{}", image.layers[1]),
    ];
    assert_eq!(upstream.requests(), expected);
    server.settled().await;
    for name in [
        &image.digest,
        &image.config,
        &image.layers[0],
        &image.layers[1],
    ] {
        assert!(server.has_blob(name));
    }

    upstream.forget();
    let again = pull(&server, "team/app", "v1").await;
    assert_eq!(again.digest, image.digest);
    assert_eq!(upstream.requests(), [""; 0]);
    assert_eq!(server.temporary_files(), 0);
    assert_eq!(
        server.metric("larder_fills_total{result=\"stored\"}").await,
        3
    );
    assert!(server.metric("larder_store_used_bytes").await > 300_010);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_headers_say_what_was_done() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(5000, 1));
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    let miss = server.get(&path).await;
    assert_eq!(miss.cache_status(), "larder; fwd=miss; stored");
    assert_eq!(miss.header("content-length"), "5000");
    let hit = server.get(&path).await;
    assert_eq!(hit.cache_status(), "larder; hit");
    assert_eq!(hit.header("accept-ranges"), "bytes");
    assert_eq!(hit.header("cache-control"), "max-age=31536000, immutable");
    assert_eq!(
        hit.header("docker-distribution-api-version"),
        "registry/2.0"
    );
    assert_eq!(hit.header("docker-content-digest"), layer.to_string());
    assert_eq!(
        server
            .metric("larder_requests_total{kind=\"blob\",outcome=\"hit\"}")
            .await,
        1
    );
    let known = [("if-none-match", hit.header("etag"))];
    let not_modified = server.send(Method::GET, &path, &known).await.rest().await;
    assert_eq!(
        (not_modified.status.as_u16(), not_modified.content().len()),
        (304, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_clients_of_one_cold_blob_are_one_request_and_read_while_it_comes() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(600_000, 3);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::Gated(gate.clone()), 1);
    let server = Arc::new(TestServer::of(&upstream).await);
    let path = format!("/v2/a/blobs/{layer}");

    gate.open(1);
    let downloads = join_all((0..20).map(|_| async {
        let mut download = server.send(Method::GET, &path, &[]).await;
        let first = download.next().await.unwrap().unwrap();
        (first, download)
    }))
    .await;
    // All twenty have bytes, and the upstream has sent only one piece.
    assert!(upstream.body_bytes() < bytes.len() as u64);
    gate.open_for_good();
    for (first, download) in downloads {
        let mut whole = first;
        whole.extend(download.rest().await.content());
        assert!(whole == bytes);
    }
    assert_eq!(upstream.count("GET "), 1);
    assert_eq!(upstream.body_bytes(), bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_stops_nothing() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(400_000, 4);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::Gated(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    gate.open(1);
    let mut download = server.send(Method::GET, &path, &[]).await;
    download.next().await.unwrap();
    drop(download);
    gate.open_for_good();
    eventually("the blob is stored", || async { server.has_blob(&layer) }).await;
    assert!(server.get(&path).await.content() == bytes);
    assert_eq!(upstream.count("GET "), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_held_back_until_the_content_is_known_to_be_right() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(16 * 1024 + 100, 5);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::Gated(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    gate.open(1);
    let mut download = server
        .send(Method::GET, &format!("/v2/a/blobs/{layer}"), &[])
        .await;
    let mut received = 0;
    // 924 bytes of the first piece lie within the last 1024 of the whole.
    while received < 16 * 1024 - 924 {
        received += download.next().await.unwrap().unwrap().len();
    }
    assert_eq!(received, 16 * 1024 - 924);
    gate.open(1);
    let rest = download.rest().await;
    assert_eq!(received + rest.content().len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_starts_no_fill() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(5000, 1));
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    let head = server.head(&path).await;
    assert_eq!(
        (head.status.as_u16(), head.header("content-length")),
        (200, "5000")
    );
    assert_eq!(head.cache_status(), "larder; fwd=miss");
    assert_eq!(upstream.requests(), [format!("HEAD {path}")]);
    assert!(!server.has_blob(&layer));

    server.get(&path).await;
    upstream.forget();
    let head = server.head(&path).await;
    assert_eq!(
        (head.header("content-length"), head.cache_status()),
        ("5000", "larder; hit")
    );
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_unknown_length_is_answered_with_its_length() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 6);
    let layer = upstream.blob("a", bytes.clone());
    upstream.fault("GET /v2/a/blobs/", Fault::NoLength, 1);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert_eq!(reply.header("content-length"), "100000");
    assert!(reply.content() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_is_a_blob() {
    let upstream = FakeUpstream::start().await;
    let empty = upstream.blob("a", Vec::new());
    let server = TestServer::of(&upstream).await;
    for status in ["larder; fwd=miss; stored", "larder; hit"] {
        let reply = server.get(&format!("/v2/a/blobs/{empty}")).await;
        assert_eq!((reply.content().len(), reply.cache_status()), (0, status));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_by_tag_is_one_request() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(
        reply.header("docker-content-digest"),
        image.digest.to_string()
    );
    assert_eq!(upstream.requests(), ["GET /v2/a/manifests/v1"]);
    let hit = server.get("/v2/a/manifests/v1").await;
    assert_eq!(hit.cache_status(), "larder; hit");
    let by_digest = server
        .get(&format!("/v2/a/manifests/{}", image.digest))
        .await;
    assert_eq!(by_digest.cache_status(), "larder; hit");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_one_cold_manifest_share_a_request() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/manifests/", Fault::Gated(gate.clone()), 1);
    let server = Arc::new(TestServer::of(&upstream).await);
    let replies = (0..10).map(|_| {
        let (server, path) = (server.clone(), format!("/v2/a/manifests/{}", image.digest));
        tokio::spawn(async move { server.get(&path).await })
    });
    let replies: Vec<_> = replies.collect();
    eventually("the upstream is asked", || async {
        upstream.count("GET ") == 1
    })
    .await;
    gate.open_for_good();
    for reply in replies {
        assert_eq!(reply.await.unwrap().content(), &image.manifest[..]);
    }
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_passed_through_with_their_own_parameters_only() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/tags/list?ns={HOST}&n=5&secret=x");
    let reply = server.get(&path).await;
    assert_eq!(reply.content(), br#"{"tags":["a"]}"#);
    assert_eq!(reply.header("oci-namespace"), HOST);
    assert_eq!(upstream.requests(), ["GET /v2/a/tags/list?n=5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_whole_is_a_hit_at_once_for_ranges_and_heads_too() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for seed in 0..10 {
        let bytes = content(200_000, seed);
        let layer = upstream.blob("a", bytes.clone());
        let path = format!("/v2/a/blobs/{layer}");
        server.get(&path).await.body.unwrap();
        upstream.forget();
        let head = server.head(&path).await;
        assert_eq!(
            (head.cache_status(), head.header("content-length")),
            ("larder; hit", "200000")
        );
        let part = server.get_range(&path, "bytes=0-").await;
        assert_eq!(
            (part.status.as_u16(), part.cache_status()),
            (206, "larder; hit")
        );
        assert!(part.content() == bytes);
        // Another repository still has to prove that it has it.
        let other = server.get(&format!("/v2/b/blobs/{layer}")).await;
        assert_eq!(other.status, 404);
        assert_eq!(upstream.count("/v2/a/"), 0);
    }
}
