//! Bounds of what is asked of an upstream.

use std::time::{Duration, Instant};

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, content, eventually};

fn policy(upstream: &FakeUpstream, limits: &str) -> String {
    let endpoint = upstream.endpoint();
    format!(
        "defaultUpstream: {HOST}\nupstreams: [{{host: {HOST}, endpoints: [\"{endpoint}\"], limits: {{{limits}}}}}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_allowed_wait_and_then_give_up_without_asking() {
    let upstream = FakeUpstream::start().await;
    let [first, second] = [1, 2].map(|seed| upstream.blob("a", content(40_000, seed)));
    let gate = Gate::closed();
    upstream.fault(first.to_string(), Fault::Gated(gate.clone()), 1);
    let server = TestServer::builder()
        .policy(&policy(&upstream, "concurrency: 1"))
        .tune(|options| options.timeouts.queue = Duration::from_millis(50))
        .start()
        .await;
    let path = format!("/v2/a/blobs/{first}");
    let slow = server.get(&path);
    let meanwhile = async {
        eventually("the first body is under way", || async {
            upstream.count("/blobs/") == 1
        })
        .await;
        let reply = server.get(&format!("/v2/a/blobs/{second}")).await;
        assert_eq!(reply.status, 503);
        let text = String::from_utf8_lossy(reply.content()).into_owned();
        assert!(text.contains("its limits"), "{text}");
        assert_eq!(upstream.count("/blobs/"), 1);
        gate.open_for_good();
    };
    let (reply, ()) = tokio::join!(slow, meanwhile);
    assert_eq!(reply.content(), content(40_000, 1));
    server.advance(Duration::from_secs(5));
    let reply = server.get(&format!("/v2/a/blobs/{second}")).await;
    assert_eq!(reply.content(), content(40_000, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_blob_that_must_wait_for_its_own_parts_is_not_given_up() {
    let upstream = FakeUpstream::start().await;
    let large = upstream.blob("a", content(32 << 20, 1));
    let other = upstream.blob("a", content(40_000, 2));
    let gate = Gate::closed();
    // The front comes at once. The next part takes longer than anybody waits for a place, and there is only one.
    upstream.fault(large.to_string(), Fault::Headers(&[]), 1);
    upstream.fault(large.to_string(), Fault::Gated(gate.clone()), 1);
    let server = TestServer::builder()
        .policy(&policy(&upstream, "concurrency: 1"))
        .tune(|options| options.timeouts.queue = Duration::from_secs(1))
        .start()
        .await;
    let meanwhile = async {
        eventually("the second part is under way", || async {
            upstream.count(&large.to_string()) == 2
        })
        .await;
        // Waits as long as the others that do.
        let reply = server.get(&format!("/v2/a/blobs/{other}")).await;
        assert_eq!(reply.status, 503);
        gate.open_for_good();
    };
    let path = format!("/v2/a/blobs/{large}");
    let (reply, ()) = tokio::join!(server.get(&path), meanwhile);
    assert!(reply.content() == content(32 << 20, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_place_is_enough_for_tokens_resumes_and_manifests() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(60_000, 1)]);
    upstream.require_token(None);
    upstream.fault("/blobs/", Fault::Truncate(20_000), 1);
    upstream.fault("HEAD ", Fault::NoDigest, 9);
    let server = TestServer::builder()
        .policy(&policy(&upstream, "concurrency: 1"))
        .start()
        .await;
    assert_eq!(server.head("/v2/a/manifests/v1").await.status, 200);
    let reply = server
        .get(&format!("/v2/a/blobs/{}", image.layers[0]))
        .await;
    assert_eq!(reply.content(), content(60_000, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn fills_come_no_faster_than_allowed() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(120_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::builder()
        .policy(&policy(&upstream, "bytesPerSecond: 65536"))
        .start()
        .await;
    let begin = Instant::now();
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert_eq!(reply.content(), bytes);
    // A second's worth is at hand, and the rest takes its time.
    assert!(
        begin.elapsed() >= Duration::from_millis(800),
        "{:?}",
        begin.elapsed()
    );
}
