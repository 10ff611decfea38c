//! Upstreams that break, lie or are away.

use std::time::Duration;

use http::Method;

use cache_server::upstream::Slowest;

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
    assert_eq!(ranges[0].as_deref(), Some("bytes=0-8388607"));
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
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::LateNoRange(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let mut download = server.send(Method::GET, &path, &[]).await;
    // What breaks before its head is out is an error answer instead.
    download.next().await.unwrap().unwrap();
    gate.open(1);
    let reply = download.rest().await;
    assert_eq!(reply.status, 200);
    assert!(!reply.is_complete());
    assert!(!server.has_blob(&layer));
    assert!(server.get(&path).await.content() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_of_another_length_or_encoding_never_completes() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{layer}");
    let longer = [&bytes[..], &[0; 5000]].concat();
    for (other, headers) in [
        (longer, &[][..]),
        (bytes[..60_000].to_vec(), &[][..]),
        (content(40_000, 2), &[("content-encoding", "gzip")][..]),
    ] {
        upstream.fault("GET ", Fault::Instead(other.into(), headers), 1);
        let server = TestServer::of(&upstream).await;
        let replies = futures::future::join_all((0..4).map(|_| server.get(&path))).await;
        for reply in &replies {
            match reply.status.as_u16() {
                200 => assert!(reply.body.is_err()),
                status => assert_eq!(status, 502),
            }
        }
        server.settled().await;
        assert!(!server.has_blob(&layer));
        assert_eq!(server.temporary_files(), 0);
        server.advance(Duration::from_secs(3));
        assert!(server.get(&path).await.content() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn right_content_is_given_as_it_is_whatever_encoding_it_is_said_to_have() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    upstream.fault("GET ", Fault::Headers(&[("content-encoding", "gzip")]), 1);
    let server = TestServer::of(&upstream).await;
    for _ in 0..2 {
        let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
        assert!(reply.content() == bytes);
        assert_eq!(reply.header("content-encoding"), "");
        server.settled().await;
    }
    let accepted = &upstream.headers("GET ")[0]["accept-encoding"];
    assert_eq!(accepted, "identity");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_of_something_else_is_not_taken_for_the_rest() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{layer}");
    // Of the same length, or of another one; the upstream says that it changed.
    for other in [content(100_000, 2), content(100_001, 2)] {
        upstream.fault("GET ", Fault::Truncate(30_000), 1);
        let changed = Fault::Instead(other.into(), &[("etag", "\"changed\"")]);
        upstream.fault("GET ", changed, 1);
        let server = TestServer::of(&upstream).await;
        assert!(!server.get(&path).await.is_complete());
        server.settled().await;
        assert!(!server.has_blob(&layer));
        server.advance(Duration::from_secs(3));
        assert!(server.get(&path).await.content() == bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rest_that_is_said_to_be_of_something_else_is_not_taken() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{layer}");
    let again: &[(&str, &str)] = &[("etag", "\"a\"")];
    let (other, weak) = (&[("etag", "\"b\"")], &[("etag", "W/\"b\"")]);
    for (first, second, taken) in [
        ("\"a\"", again, true),
        ("\"a\"", other, false),
        // Weak ones may differ although the bytes are the same.
        ("W/\"a\"", weak, true),
    ] {
        let server = TestServer::of(&upstream).await;
        upstream.fault("GET ", Fault::TruncateTagged(30_000, first), 1);
        upstream.fault("GET ", Fault::Headers(second), 1);
        let reply = server.get(&path).await;
        assert_eq!(reply.is_complete(), taken, "{first} {second:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_falls_silent_is_asked_for_the_rest_and_given_up_in_the_end() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{layer}");
    for (silent, requests) in [(1, 2), (4, 4)] {
        let gate = Gate::closed();
        gate.open(1);
        upstream.forget();
        upstream.fault("GET ", Fault::Gated(gate), silent);
        let server = TestServer::builder()
            .upstream(crate::support::HOST, &upstream)
            .tune(|options| options.timeouts.idle = Duration::from_millis(200))
            .start()
            .await;
        let reply = server.get(&path).await;
        server.settled().await;
        if silent == 1 {
            assert!(reply.content() == bytes);
        } else {
            assert!(!reply.is_complete());
        }
        assert_eq!(server.has_blob(&layer), silent == 1);
        assert_eq!(server.temporary_files(), 0);
        assert_eq!(upstream.count("GET "), requests);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_is_never_silent_and_never_done_is_asked_for_the_rest() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(1_000_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
    let server = TestServer::builder()
        .upstream(crate::support::HOST, &upstream)
        .tune(|options| {
            options.timeouts.slowest = Slowest {
                rate: 1 << 40,
                over: Duration::from_millis(100),
            };
        })
        .start()
        .await;
    let trickle = tokio::spawn(async move {
        loop {
            gate.open(1);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    });
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    trickle.abort();
    assert!(reply.content() == bytes);
    // The first one and its rest: the first alone would have brought everything, in the end.
    assert_eq!(upstream.count("GET "), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_upstream_a_cache_gives_what_it_has_and_sends_clients_on_for_the_rest() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(5000, 1)]);
    let other = upstream.blob("a", content(5000, 2));
    let server = TestServer::of(&upstream).await;
    let layer = format!("/v2/a/blobs/{}", image.layers[0]);
    for path in ["/v2/a/manifests/v1", &layer] {
        server.get(path).await.body.unwrap();
    }
    server.settled().await;
    upstream.stop().await;
    server.advance(Duration::from_hours(24 * 365));
    let manifest = format!("/v2/a/manifests/{}", image.digest);
    for path in [&layer, &manifest] {
        assert_eq!(server.get(path).await.status, 200);
    }
    for path in [format!("/v2/a/blobs/{other}"), "/v2/a/manifests/v2".into()] {
        let reply = server.get(&path).await;
        let told = (reply.status.as_u16(), reply.header("retry-after"));
        assert_eq!(told, (503, "5"), "{path}");
    }
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
    let deep = format!("{{\"layers\":{}", "[".repeat(1 << 20));
    let deep = upstream.manifest("a", "deep", "application/json", deep);
    let server = TestServer::of(&upstream).await;
    for reference in [
        "page".to_owned(),
        page.to_string(),
        "huge".to_owned(),
        huge.to_string(),
        "deep".to_owned(),
        deep.to_string(),
    ] {
        let reply = server.get(&format!("/v2/a/manifests/{reference}")).await;
        assert_eq!(reply.status, 502, "{reference}");
    }
    assert!(!server.has_blob(&page) && !server.has_blob(&huge) && !server.has_blob(&deep));

    let largest = format!("{{\"layers\":[],\"a\":\"{}\"}}", "x".repeat((4 << 20) - 20));
    assert_eq!(largest.len(), 4 << 20);
    upstream.manifest("a", "largest", "application/json", largest.clone());
    let reply = server.get("/v2/a/manifests/largest").await;
    assert!(reply.content() == largest.as_bytes());
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
