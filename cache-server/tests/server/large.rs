//! Large cold blobs, whose rest comes over further connections.

use http::Method;

use crate::support::{FakeUpstream, Fault, Gate, TestServer, content, eventually};

const SIZE: usize = 32 * 1024 * 1024;
const FRONT: usize = SIZE / 4;
/// Of the rest, behind the front.
const PART: usize = SIZE / 8;
const REQUESTS: usize = 1 + (SIZE - FRONT) / PART;

/// Where the parts begin that the upstream was asked for, in the order of the blob.
fn asked(upstream: &FakeUpstream) -> Vec<usize> {
    let headers = upstream.headers("/blobs/");
    let ranges = headers.iter().map(|headers| {
        let range = headers["range"].to_str().unwrap();
        let (first, _) = range
            .strip_prefix("bytes=")
            .unwrap()
            .split_once('-')
            .unwrap();
        first.parse().unwrap()
    });
    let mut starts: Vec<usize> = ranges.collect();
    starts.sort_unstable();
    starts
}

#[tokio::test(flavor = "multi_thread")]
async fn four_connections_carry_a_large_blob_and_no_byte_comes_twice() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(SIZE, 1);
    let layer = upstream.blob("a", bytes.clone());
    // All are limited alike, so what the busiest carries is how long it takes.
    let gate = Gate::closed();
    upstream.fault("/blobs/", Fault::Gated(gate.clone()), 9);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    let reading = server.get(&path);
    let opening = async {
        eventually("four connections are open", || async {
            upstream.count("/blobs/") == 4
        })
        .await;
        assert_eq!(upstream.body_bytes(), 0);
        // A reader wants them in this order: of equal shares, it would wait for what lies between their fronts.
        let first = [0, FRONT, FRONT + PART, FRONT + 2 * PART];
        assert_eq!(asked(&upstream), first);
        gate.open_for_good();
    };
    let (reply, ()) = tokio::join!(reading, opening);
    assert!(reply.content() == bytes);
    assert_eq!(upstream.body_bytes(), SIZE as u64);
    assert_eq!(upstream.bytes_by_connection().len(), 4);
    server.settled().await;
    assert!(server.has_blob(&layer));
    assert!(server.get(&path).await.content() == bytes);
    assert_eq!(upstream.count("/blobs/"), REQUESTS);
}

/// A second request after the front would cost its way to the upstream once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_small_rest_is_asked_for_while_the_front_comes() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(FRONT + 5, 7);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("/blobs/", Fault::Gated(gate.clone()), 9);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    let opening = async {
        eventually("both parts are asked for", || async {
            upstream.count("/blobs/") == 2
        })
        .await;
        assert_eq!(upstream.body_bytes(), 0);
        gate.open_for_good();
    };
    let (reply, ()) = tokio::join!(server.get(&path), opening);
    assert!(reply.content() == bytes);
    assert_eq!(upstream.body_bytes(), bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_front_is_read_while_the_rest_waits() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(SIZE, 2);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("/blobs/", Fault::Headers(&[]), 1);
    upstream.fault("/blobs/", Fault::Gated(gate.clone()), 9);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    let mut download = server.send(Method::GET, &path, &[]).await;
    let mut read = Vec::new();
    while read.len() < FRONT {
        read.extend(download.next().await.unwrap().unwrap());
    }
    assert_eq!(upstream.body_bytes(), FRONT as u64);
    gate.open_for_good();
    read.extend(download.rest().await.content());
    assert!(read == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_further_connections_do_not_get_the_first_one_does() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(SIZE, 3);
    let layer = upstream.blob("a", bytes.clone());
    upstream.fault("/blobs/", Fault::Headers(&[]), 1);
    // One is refused, one gets all instead of a part, and one breaks in the middle.
    upstream.fault("/blobs/", Fault::Status(400), 1);
    upstream.fault("/blobs/", Fault::NoRange, 1);
    upstream.fault("/blobs/", Fault::Truncate(100_000), 1);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert!(reply.content() == bytes);
    // Again: what was refused, what was not the part, and the rest of what broke.
    assert_eq!(upstream.count("/blobs/"), REQUESTS + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_wrong_byte_of_a_further_connection_spoils_the_whole() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(SIZE, 4));
    upstream.fault("/blobs/", Fault::Headers(&[]), 1);
    upstream.fault("/blobs/", Fault::WrongBytes, 1);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert!(!reply.is_complete());
    assert!(!server.has_blob(&layer));
    assert_eq!(server.temporary_files(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_of_an_upstream_without_ranges_comes_over_one_connection() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(SIZE, 5);
    let layer = upstream.blob("a", bytes.clone());
    upstream.fault("/blobs/", Fault::NoRange, 9);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert!(reply.content() == bytes);
    assert_eq!(upstream.count("/blobs/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_blob_is_asked_for_as_a_whole() {
    let upstream = FakeUpstream::start().await;
    let empty = upstream.blob("a", Vec::new());
    upstream.fault(empty.to_string(), Fault::Status(416), 1);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{empty}")).await;
    assert_eq!((reply.status.as_u16(), reply.content()), (200, &[][..]));
}
