//! HTTP/2 as attackers speak it: the connection ends with a reason, and others are served as before.

use std::sync::Arc;

use cache_server::http::access_log::{Observed, Record};
use cache_server::http::body::Body;
use cache_server::http::buffers::Buffers;
use cache_server::http::client::Client;
use cache_server::http::sendfile::Slot;
use cache_server::http::tally::Tally;
use cache_server::http::traffic::Traffic;
use cache_server::metrics::Metrics;
use http_body_util::BodyExt;

use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PRIORITY, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, get, header,
};
use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, content, eventually};

/// RFC 9113, 7.
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;
const CANCEL: [u8; 4] = 8u32.to_be_bytes();

/// Why the server ended the connection, if it said so before it did.
async fn reason(frames: &mut Frames) -> Option<u32> {
    let frame = frames.next_of(GOAWAY).await?;
    Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()))
}

/// Bytes that this process holds, the server's among them.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_back_all_it_asks_is_sent_away() {
    let upstream = FakeUpstream::start().await;
    let blob = upstream.blob("a", content(100_000, 1));
    let server = TestServer::secure(&upstream).await;
    let block = get(&format!("/v2/a/blobs/{blob}"));
    let mut frames = Frames::connect(&server).await;
    let mut open = true;
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        open = frames
            .send(HEADERS, END_HEADERS | END_STREAM, stream, &block)
            .await
            && frames.send(RST_STREAM, 0, stream, &CANCEL).await;
        if !open {
            break;
        }
    }
    let said = reason(&mut frames).await;
    assert!(!open || said == Some(ENHANCE_YOUR_CALM), "{said:?}");
    assert_eq!(server.get("/v2/").await.status, 200);
    assert_eq!(
        upstream.count("GET "),
        upstream.count(&format!("{blob}")).min(1)
    );
}

/// CVE-2025-8671: not the client takes its requests back, it has the server do so, who still works on them.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_makes_the_server_take_back_what_it_asks_is_sent_away() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let blob = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{blob}");
    let payload = |kind, stream: u32| match kind {
        // More room than a window may have.
        WINDOW_UPDATE => i32::MAX.to_be_bytes().to_vec(),
        // A stream that waits for itself.
        PRIORITY => [&stream.to_be_bytes()[..], &[0]].concat(),
        // Content behind the end of a request.
        _ => b"body".to_vec(),
    };
    for (kind, most, reason) in [
        (WINDOW_UPDATE, 128, ENHANCE_YOUR_CALM),
        (PRIORITY, 128, ENHANCE_YOUR_CALM),
        // Nothing is taken back: it ends at once.
        (DATA, 0, PROTOCOL_ERROR),
    ] {
        let gate = Gate::closed();
        upstream.forget();
        upstream.fault("GET ", Fault::Late(gate.clone()), 1);
        let server = TestServer::secure(&upstream).await;
        let mut frames = Frames::connect(&server).await;
        let mut resets = 0;
        let said = loop {
            let stream = 2 * resets + 1;
            // One after the other, so that nothing unread is in the way of the last word.
            frames
                .send(HEADERS, END_HEADERS | END_STREAM, stream, &get(&path))
                .await;
            frames.send(kind, 0, stream, &payload(kind, stream)).await;
            let ended = loop {
                match frames.next().await {
                    Some(frame) if frame.kind == RST_STREAM => break None,
                    Some(frame) if frame.kind == GOAWAY => break Some(frame.payload),
                    Some(_) => {}
                    None => break Some(Vec::new()),
                }
            };
            if let Some(last_words) = ended {
                break last_words;
            }
            resets += 1;
            assert!(resets < 1000, "{kind}");
        };
        assert_eq!(said[4..8], reason.to_be_bytes(), "{kind}");
        assert!(resets <= most, "{kind}: {resets}");
        eventually("the connection ends", || async {
            server.metric("larder_connections").await == 0
        })
        .await;
        gate.open(1);
        assert!(server.get(&path).await.content() == bytes);
        // One fill for all of them.
        assert_eq!(upstream.count("GET "), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_an_end_are_not_kept() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::secure(&upstream).await;
    let before = memory();
    let mut frames = Frames::connect(&server).await;
    assert!(frames.send(HEADERS, END_STREAM, 1, &get("/v2/")).await);
    let more = header("x-a", &[b'a'; 15_000]);
    let mut sent = 0;
    // A gigabyte, if somebody takes it.
    while sent < 70_000 && frames.send(CONTINUATION, 0, 1, &more).await {
        sent += 1;
    }
    assert!(sent < 70_000);
    let grown = memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes");
    assert_eq!(server.get("/v2/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_are_too_large_are_refused_and_the_connection_goes_on() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::secure(&upstream).await;
    let client = server.other_client(None);
    let url = format!("{}/v2/", server.data_url());
    let large = client
        .get(&url)
        .header("x-a", "a".repeat(40_000))
        .send()
        .await;
    assert_eq!(large.unwrap().status(), 431);
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
    let long = client
        .get(format!("{url}{}", "a".repeat(9000)))
        .send()
        .await;
    assert_eq!(long.unwrap().status(), 414);
    assert_eq!(server.metric("larder_connections").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_more_than_a_hundred_requests_run_at_once() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::secure(&upstream).await;
    let mut frames = Frames::connect(&server).await;
    let settings = frames.next_of(SETTINGS).await.unwrap();
    let said = settings
        .payload
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3]);
    assert_eq!(said.unwrap()[2..], 100u32.to_be_bytes());
    // Whoever does not obey is refused: requests without an end stay open.
    for number in 0..101 {
        frames
            .send(HEADERS, END_HEADERS, 2 * number + 1, &get("/v2/end"))
            .await;
    }
    assert!(frames.next_of(RST_STREAM).await.is_some());
    assert_eq!(server.get("/v2/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_is_refused() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::secure(&upstream).await;
    let mut frames = Frames::connect(&server).await;
    frames
        .send(HEADERS, END_HEADERS, 1, &get("/v2/a/manifests/v1"))
        .await;
    frames.send(DATA, END_STREAM, 1, b"body").await;
    let body = frames.next_of(DATA).await.unwrap();
    let text = String::from_utf8(body.payload).unwrap();
    assert!(text.contains("a GET or HEAD has no body here"), "{text}");
    assert_eq!(upstream.count(""), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_opens_no_window_is_cut() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(1 << 20, 1);
    let blob = upstream.blob("a", bytes.clone());
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tls()
        .tune(|options| {
            options.static_config.connections.rate_window = crds::values::Duration::from_secs(1);
        })
        .start()
        .await;
    let mut frames = Frames::connect(&server).await;
    frames
        .send(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &get(&format!("/v2/a/blobs/{blob}")),
        )
        .await;
    let mut received = Vec::new();
    while let Some(frame) = frames.next().await {
        if frame.kind == DATA {
            received.extend(frame.payload);
        }
    }
    // All that a client gets that never says that it has room: the window that it began with.
    assert!(received == bytes[..65_535]);
    assert_eq!(server.metric("larder_connections_cut_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends_although_it_answers_pings() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tls()
        .tune(|options| {
            options.static_config.connections.header_timeout = crds::values::Duration::from_secs(1);
        })
        .start()
        .await;
    // The library behind it answers pings by itself.
    assert_eq!(server.get("/v2/").await.status, 200);
    eventually("the connection ends", || async {
        server.metric("larder_connections").await == 0
    })
    .await;
    assert_eq!(server.get("/v2/").await.status, 200);
}

#[tokio::test]
async fn a_marker_for_a_connection_that_knows_none_is_an_error_and_never_zeros() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    let content = cache_server::cache::Content::File {
        file: file.into(),
        range: 0..1 << 20,
    };
    let slot = Slot::default();
    let body = Body::new(content, Some(1 << 20), &Buffers::default(), Some(&slot));
    let metrics = Arc::new(Metrics::new().unwrap());
    let client = Arc::new(Client {
        address: "127.0.0.1".parse().unwrap(),
        slot: None,
        traffic: Traffic::default(),
        certified: false,
        tally: Tally::new(metrics.clone()),
    });
    let record = Record::of(&http::Request::new(()));
    let body = Observed::new(body, record, false, client.begin());
    let error = body.collect().await.map(drop).unwrap_err().to_string();
    assert!(error.contains("without reading it"), "{error}");
    assert_eq!(metrics.sendfile_guard_failures.get(), 1);
}
