//! Bodies that are cut: in the middle, in their last bytes, by a reset, or without anybody having said how long they are.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use crate::support::raw_upstream::{End, RawUpstream, range, rest};
use crate::support::{HOST, TestServer, content, digest};

const SIZE: usize = 50_000;
const ENDS: [End; 2] = [End::Close, End::Reset];

/// A cache of that upstream, for whose requests it takes `action`.
async fn server(upstream: &RawUpstream, action: &str) -> TestServer {
    TestServer::builder()
        .endpoints(HOST, &[upstream.endpoint()])
        .tail(&format!("defaultAction: {action}"))
        .start()
        .await
}

/// An answer that ends before its last bytes, as many as are missing.
fn cut(mut answer: Vec<u8>, missing: usize) -> Vec<u8> {
    answer.truncate(answer.len() - missing);
    answer
}

/// All of it, without a word of how much that is.
fn unsized_answer(content: &[u8], chunked: bool) -> Vec<u8> {
    if !chunked {
        return [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", content].concat();
    }
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in content.chunks(10_000) {
        answer.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        answer.extend(chunk);
        answer.extend(b"\r\n");
    }
    answer.extend(b"0\r\n\r\n");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_or_reset_anywhere_comes_whole_and_right() {
    let bytes = Arc::new(content(SIZE, 1));
    let layer = digest(&bytes);
    for end in ENDS {
        // All but the head, about a half, and the last byte.
        for missing in [SIZE, 20_000, 1] {
            let content = bytes.clone();
            let upstream = RawUpstream::start(move |head, number| {
                let answer = rest(&content, range(head).unwrap());
                match number {
                    0 => (cut(answer, missing), end),
                    _ => (answer, End::Close),
                }
            })
            .await;
            let server = server(&upstream, "Cache").await;
            let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
            assert!(reply.content() == *bytes, "{end:?} {missing}");
            server.settled().await;
            let stored = server.get(&format!("/v2/a/blobs/{layer}")).await;
            assert_eq!(stored.cache_status(), "larder; hit");
            assert!(stored.content() == *bytes, "{end:?} {missing}");
            assert_eq!(
                upstream.asked(),
                [Some(0), Some(SIZE - missing)],
                "{end:?} {missing}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_cut_or_reset_again_and_again_breaks_and_is_right_as_far_as_it_came() {
    let bytes = Arc::new(content(SIZE, 1));
    let layer = digest(&bytes);
    for end in ENDS {
        let content = bytes.clone();
        let upstream = RawUpstream::start(move |head, _| {
            let first = range(head).unwrap();
            let answer = rest(&content, first);
            (cut(answer, SIZE - first - 10_000), end)
        })
        .await;
        let server = server(&upstream, "Cache").await;
        let path = format!("/v2/a/blobs/{layer}");
        let mut download = server.send(Method::GET, &path, &[]).await;
        // What breaks before its head is out is an error answer instead.
        let is_error = download.status() == 503;
        let mut received = Vec::new();
        let ended = loop {
            match download.next().await {
                Ok(Some(piece)) => received.extend(piece),
                ended => break ended.is_ok(),
            }
        };
        assert_eq!(ended, is_error, "{end:?}");
        assert!(is_error || bytes.starts_with(&received), "{end:?}");
        server.settled().await;
        assert!(!server.has_blob(&layer));
        assert_eq!(server.temporary_files(), 0);
        let expected = [0, 10_000, 20_000, 30_000].map(Some);
        assert_eq!(upstream.asked(), expected, "{end:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_body_of_unknown_length_is_a_failure_and_is_not_stored() {
    let bytes = Arc::new(content(SIZE, 1));
    let layer = digest(&bytes);
    let path = format!("/v2/a/blobs/{layer}");
    for (chunked, end, told) in [
        (true, End::Close, 503),
        (true, End::Reset, 503),
        // To the eye it ended well: only the digest tells.
        (false, End::Close, 502),
        (false, End::Reset, 503),
    ] {
        for action in ["Cache", "Forward"] {
            let content = bytes.clone();
            // The rest can't be had: it knows of no ranges.
            let upstream = RawUpstream::start(move |_, number| {
                let answer = unsized_answer(&content, chunked);
                match number {
                    0 | 1 => (cut(answer, 15_000), end),
                    _ => (answer, End::Close),
                }
            })
            .await;
            let server = server(&upstream, action).await;
            let case = format!("{chunked} {end:?} {action}");
            let reply = server.get(&path).await;
            if action == "Cache" {
                // The head waits for the size, and so does the client.
                assert_eq!(reply.status, told, "{case}");
            }
            assert!(!reply.is_complete(), "{case}");
            server.settled().await;
            assert!(!server.has_blob(&layer), "{case}");
            assert_eq!(server.temporary_files(), 0, "{case}");

            // Asked again, it is cut once more at most, and then it comes.
            server.advance(Duration::from_secs(3));
            if upstream.asked().len() < 2 {
                assert!(!server.get(&path).await.is_complete(), "{case}");
                server.advance(Duration::from_secs(3));
            }
            assert!(server.get(&path).await.content() == *bytes, "{case}");
            server.settled().await;
            assert_eq!(server.has_blob(&layer), action == "Cache", "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_body_of_unknown_length_is_gone_on_with_where_ranges_are_known() {
    let bytes = Arc::new(content(SIZE, 1));
    let layer = digest(&bytes);
    let path = format!("/v2/a/blobs/{layer}");
    for end in ENDS {
        for action in ["Cache", "Forward"] {
            let content = bytes.clone();
            let upstream = RawUpstream::start(move |head, number| match number {
                0 => (cut(unsized_answer(&content, true), 15_000), end),
                _ => (rest(&content, range(head).unwrap()), End::Close),
            })
            .await;
            let server = server(&upstream, action).await;
            let reply = server.get(&path).await;
            assert!(reply.content() == *bytes, "{end:?} {action}");
            server.settled().await;
            assert_eq!(server.has_blob(&layer), action == "Cache");
            let resumed = upstream.asked()[1].unwrap();
            assert!((30_000..40_000).contains(&resumed), "{resumed}");
        }
    }
}
