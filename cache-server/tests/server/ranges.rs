//! Parts of blobs, stored and cold.

use std::ops::Range;

use cache_server::oci::{Algorithm, Digest};
use http::Method;

use crate::support::{FakeUpstream, Fault, Gate, Reply, TestServer, content};

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_stored_blob_are_exact() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(1_000_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    server.get(&path).await;
    upstream.forget();
    for (range, expected) in [
        ("bytes=0-", 0..1_000_000),
        ("bytes=0-0", 0..1),
        ("bytes=300000-699999", 300_000..700_000),
        ("bytes=999999-", 999_999..1_000_000),
        ("bytes=5-99999999", 5..1_000_000),
        ("bytes=-7", 999_993..1_000_000),
        ("bytes=-99999999", 0..1_000_000),
    ] {
        let reply = server.get_range(&path, range).await;
        assert_eq!(reply.status, 206, "{range}");
        assert!(reply.content() == &bytes[expected.clone()], "{range}");
        let said = format!("bytes {}-{}/1000000", expected.start, expected.end - 1);
        assert_eq!(reply.header("content-range"), said);
        assert_eq!(reply.header("content-length"), expected.len().to_string());
    }
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_outside_and_ranges_of_no_sense_are_told_apart() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(1000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    server.get(&path).await;
    for range in ["bytes=1000-", "bytes=2000-3000", "bytes=-0", "bytes=5-1"] {
        let reply = server.get_range(&path, range).await;
        assert_eq!(reply.status, 416, "{range}");
        assert_eq!(reply.header("content-range"), "bytes */1000");
        assert!(String::from_utf8_lossy(reply.content()).contains("RANGE_INVALID"));
    }
    for range in ["bytes=0-1,5-6", "items=0-1"] {
        let reply = server.get_range(&path, range).await;
        assert_eq!(reply.status, 200, "{range}");
        assert!(reply.content() == bytes);
    }
    let changed = [("range", "bytes=5-"), ("if-range", "\"sha256:other\"")];
    let reply = server.send(Method::GET, &path, &changed).await.rest().await;
    assert_eq!(reply.status, 200);
    let same = format!("\"{layer}\"");
    let same = [("range", "bytes=5-"), ("if-range", same.as_str())];
    let reply = server.send(Method::GET, &path, &same).await.rest().await;
    assert_eq!(reply.status, 206);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_blob_asked_for_from_its_start_is_one_stream() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let reply = server
        .get_range(&format!("/v2/a/blobs/{layer}"), "bytes=0-")
        .await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-range")),
        (200, "")
    );
    assert!(reply.content() == bytes);
    server.settled().await;
    assert!(server.has_blob(&layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_cold_blob_starts_no_fill() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    let reply = server.get_range(&path, "bytes=100-199").await;
    assert_eq!(reply.status, 206);
    assert_eq!(reply.header("content-range"), "bytes 100-199/50000");
    assert_eq!(reply.content(), &bytes[100..200]);
    assert_eq!(upstream.headers("GET ")[0]["range"], "bytes=100-199");
    assert_eq!(upstream.body_bytes(), 100);
    assert!(!server.has_blob(&layer));
    assert_eq!(server.metric("larder_fills_running").await, 0);
}

fn must_be_the_part(reply: &Reply, whole: &[u8], expected: Range<usize>, asked: &str) {
    assert_eq!(reply.status, 206, "{asked}");
    assert!(reply.content() == &whole[expected.clone()], "{asked}");
    let (first, last) = (expected.start, expected.end - 1);
    let said = format!("bytes {first}-{last}/{}", whole.len());
    assert_eq!(reply.header("content-range"), said);
    assert_eq!(reply.header("content-length"), expected.len().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_cold_blob_is_cut_out_where_the_upstream_gives_the_whole() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    // Another replica may have given a part: a client that puts parts together takes no whole for one of them.
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=100-199", 100..200),
        ("bytes=40000-", 40_000..50_000),
        ("bytes=49999-60000", 49_999..50_000),
        ("bytes=-7", 49_993..50_000),
    ] {
        upstream.fault("GET ", Fault::NoRange, 1);
        let reply = server.get_range(&path, range).await;
        must_be_the_part(&reply, &bytes, expected, range);
    }
    upstream.fault("GET ", Fault::NoRange, 1);
    assert_eq!(server.get_range(&path, "bytes=50000-").await.status, 416);
    assert!(!server.has_blob(&layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_cold_blob_of_any_form_are_exact_and_start_no_fill() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=40000-", 40_000..50_000),
        ("bytes=49999-60000", 49_999..50_000),
        ("bytes=-7", 49_993..50_000),
    ] {
        upstream.forget();
        let reply = server.get_range(&path, range).await;
        must_be_the_part(&reply, &bytes, expected, range);
        assert_eq!(reply.header("docker-content-digest"), layer.to_string());
        assert_eq!(upstream.headers("GET ")[0]["range"], range);
        assert_eq!(upstream.requests().len(), 1);
    }
    for range in ["bytes=50000-", "bytes=5-1", "bytes=-0"] {
        let reply = server.get_range(&path, range).await;
        assert_eq!(reply.status, 416, "{range}");
        assert!(String::from_utf8_lossy(reply.content()).contains("RANGE_INVALID"));
    }
    server.settled().await;
    assert!(!server.has_blob(&layer));
    assert_eq!(server.temporary_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_with_a_range_is_a_head_and_starts_no_fill() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(5000, 1));
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    for status in ["larder; fwd=miss", "larder; hit"] {
        for range in ["bytes=0-", "bytes=5-9"] {
            let headers = [("range", range)];
            let reply = server
                .send(Method::HEAD, &path, &headers)
                .await
                .rest()
                .await;
            assert_eq!((reply.status.as_u16(), reply.cache_status()), (200, status));
            assert_eq!(reply.header("content-length"), "5000");
        }
        assert_eq!(upstream.count("GET "), usize::from(server.has_blob(&layer)));
        server.get(&path).await;
        server.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_parts_of_a_cold_blob_are_the_whole() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(5000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let reply = server
        .get_range(&format!("/v2/a/blobs/{layer}"), "bytes=0-1,5-6")
        .await;
    assert_eq!(reply.status, 200);
    assert!(reply.content() == bytes);
    assert_eq!(upstream.requests().len(), 1);
    server.settled().await;
    assert!(server.has_blob(&layer));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_under_a_long_digest_are_exact() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(50_000, 1);
    let layer = Digest::of(Algorithm::Sha512, &bytes);
    upstream.blob_named("a", &layer, bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    for outcome in ["larder; fwd=bypass", "larder; hit"] {
        let reply = server.get_range(&path, "bytes=100-199").await;
        assert_eq!(
            (reply.status.as_u16(), reply.cache_status()),
            (206, outcome)
        );
        assert_eq!(reply.content(), &bytes[100..200]);
        assert_eq!(server.get(&path).await.content(), bytes);
        server.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_has_no_parts() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", Vec::new());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    for _ in 0..2 {
        assert_eq!(server.get_range(&path, "bytes=5-9").await.status, 416);
        assert_eq!(server.get_range(&path, "bytes=-1").await.status, 416);
        let whole = server.get(&path).await;
        assert_eq!((whole.status.as_u16(), whole.content()), (200, &b""[..]));
        assert_eq!(whole.header("content-length"), "0");
        server.settled().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_blob_that_is_coming_is_read_from_its_fill() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(200_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET /v2/a/blobs/", Fault::Gated(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    gate.open(1);
    let mut whole = server.send(Method::GET, &path, &[]).await;
    whole.next().await.unwrap();

    let near = server.get_range(&path, "bytes=10-19").await;
    assert_eq!(
        (near.status.as_u16(), near.content()),
        (206, &bytes[10..20])
    );
    assert_eq!(near.cache_status(), "larder; fwd=miss; collapsed");
    let open = [("range", "bytes=199000-")];
    let open = server.send(Method::GET, &path, &open).await;
    let last = [("range", "bytes=-500")];
    let last = server.send(Method::GET, &path, &last).await;
    assert_eq!((open.status().as_u16(), last.status().as_u16()), (206, 206));
    let outside = server.get_range(&path, "bytes=200000-").await;
    assert_eq!(
        (outside.status.as_u16(), outside.header("content-range")),
        (416, "bytes */200000")
    );
    gate.open_for_good();
    assert_eq!(open.rest().await.content(), &bytes[199_000..]);
    assert_eq!(last.rest().await.content(), &bytes[199_500..]);
    whole.rest().await.body.unwrap();
    assert_eq!(upstream.count("GET "), 1);
}
