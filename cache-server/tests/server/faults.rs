//! Upstreams that break, lie or are away.

use std::time::Duration;

use http::Method;

use crate::support::{FakeUpstream, Fault, Gate, TestServer, content, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn wrong_content_never_completes_and_heals() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::WrongBytes, 1);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    drop(gate);
    let replies = futures::future::join_all((0..4).map(|_| server.get(&path))).await;
    for reply in &replies {
        match reply.status.as_u16() {
            // The head was sent: the body must break.
            200 => assert!(reply.body.is_err()),
            // Came after the failure.
            status => assert_eq!(status, 502),
        }
    }
    assert!(!server.has_blob(&layer));
    assert_eq!(server.temporary_files(), 0);
    assert_eq!(
        server
            .metric("larder_digest_mismatches_total{upstream=\"r.test\"}")
            .await,
        1
    );

    // For a short moment nobody asks again.
    upstream.forget();
    assert_eq!(server.get(&path).await.status, 502);
    assert_eq!(upstream.requests(), [""; 0]);
    server.advance(Duration::from_secs(3));
    assert!(server.get(&path).await.content() == bytes);
    server.settled().await;
    assert!(server.has_blob(&layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_no_answer_to_what_is_not_empty() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(5000, 1));
    let path = format!("/v2/a/blobs/{layer}");
    for action in ["Cache", "Forward"] {
        upstream.fault("GET ", Fault::Empty, 1);
        let server = TestServer::builder()
            .upstream(crate::support::HOST, &upstream)
            .tail(&format!("defaultAction: {action}"))
            .start()
            .await;
        assert_eq!(server.get(&path).await.status, 502, "{action}");
        assert!(!server.has_blob(&layer));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_manifest_is_not_served() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    upstream.fault("GET /v2/a/manifests/", Fault::WrongBytes, 1);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(server.get(&path).await.status, 502);
    assert!(!server.has_blob(&image.digest));
    assert_eq!(server.get(&path).await.content(), &image.manifest[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_body_is_resumed_unnoticed() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    // Two breaks: the second in the rest of the first.
    upstream.fault("GET /v2/a/blobs/", Fault::Truncate(30_000), 2);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert!(reply.content() == bytes);
    server.settled().await;
    assert!(server.has_blob(&layer));
    let ranges: Vec<_> = upstream
        .headers("GET ")
        .iter()
        .map(|headers| {
            headers
                .get("range")
                .map(|range| range.to_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0].as_deref(), Some("bytes=0-16777215"));
    assert!(ranges[1..].iter().all(Option::is_some));
    assert_eq!(upstream.body_bytes(), bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_cannot_be_resumed_breaks_at_the_client_too() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{layer}");
    upstream.fault("GET /v2/a/blobs/", Fault::Truncate(30_000), 1);
    upstream.fault("GET /v2/a/blobs/", Fault::NoRange, 1);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&path).await;
    assert_eq!(reply.status, 200);
    assert!(reply.body.is_err());
    assert!(!server.has_blob(&layer));
    assert!(server.get(&path).await.content() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_goes_away_for_good_breaks_the_body() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(200_000, 1));
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::Gated(gate.clone()), 9);
    let server = TestServer::of(&upstream).await;
    gate.open(1);
    let mut download = server
        .send(Method::GET, &format!("/v2/a/blobs/{layer}"), &[])
        .await;
    download.next().await.unwrap().unwrap();
    upstream.stop().await;
    assert!(download.rest().await.body.is_err());
    eventually("the fill ends", || async {
        server.metric("larder_fills_running").await == 0
    })
    .await;
    assert_eq!(server.temporary_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_upstreams_say_is_translated() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for (said, told, retry, requests) in [
        (401, 404, "", 2),
        (403, 404, "", 2),
        // Only what is not there is remembered for a moment, and a pause is kept.
        (404, 404, "", 1),
        (429, 503, "15", 1),
        (500, 503, "5", 2),
        // Each of them is worth a second try.
        (502, 503, "5", 4),
    ] {
        upstream.fault(format!("/t{said}"), Fault::Status(said), 9);
        for reply in [
            server.get(&format!("/v2/a/manifests/t{said}")).await,
            server.head(&format!("/v2/a/manifests/t{said}")).await,
        ] {
            assert_eq!(reply.status.as_u16(), told, "{said}");
            assert_eq!(reply.header("retry-after"), retry, "{said}");
        }
        assert_eq!(upstream.count(&format!("/t{said}")), requests, "{said}");
        // Another day: no pause or breaker of one is in the way of the next.
        server.advance(Duration::from_hours(24));
        upstream.heal();
        server.get("/v2/a/manifests/v1").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_not_there_is_not_asked_for_again_at_once() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{}", crate::support::digest(b"nowhere"));
    for _ in 0..3 {
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 404);
        assert!(String::from_utf8_lossy(reply.content()).contains("BLOB_UNKNOWN"));
    }
    assert_eq!(upstream.requests().len(), 1);
    server.advance(Duration::from_secs(3));
    server.get(&path).await;
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_none_or_too_large_is_refused() {
    let upstream = FakeUpstream::start().await;
    let page = upstream.manifest("a", "page", "text/html", "<html>");
    let huge = upstream.manifest("a", "huge", "application/json", vec![b' '; 5 << 20]);
    let server = TestServer::of(&upstream).await;
    for reference in [
        "page".to_owned(),
        page.to_string(),
        "huge".to_owned(),
        huge.to_string(),
    ] {
        let reply = server.get(&format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(reply.status, 502, "{reference}");
    }
    assert!(!server.has_blob(&page) && !server.has_blob(&huge));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_cannot_be_written_does_not_stop_pulls() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    // Not by permissions: tests may run as root.
    let temporary = server.store().join("tmp");
    std::fs::remove_dir(&temporary).unwrap();
    std::fs::write(&temporary, "in the way").unwrap();
    for _ in 0..2 {
        let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
        assert!(reply.content() == bytes);
        assert_eq!(reply.cache_status(), "larder; fwd=bypass");
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.content(), &image.manifest[..]);
    }
    assert!(server.metric("larder_store_write_failures_total").await > 0);

    // Wrong content does not come whole on this way either.
    upstream.fault("GET /v2/a/blobs/", Fault::WrongBytes, 1);
    assert!(
        server
            .get(&format!("/v2/a/blobs/{layer}"))
            .await
            .body
            .is_err()
    );

    std::fs::remove_file(&temporary).unwrap();
    std::fs::create_dir(&temporary).unwrap();
    server.advance(Duration::from_secs(11));
    server
        .get(&format!("/v2/a/blobs/{layer}"))
        .await
        .body
        .unwrap();
    server.settled().await;
    assert!(server.has_blob(&layer));
}
