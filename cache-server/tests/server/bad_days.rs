//! Upstreams that fail for a while, or want to be left alone.

use std::time::Duration;

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, eventually};

const SECOND: Duration = Duration::from_secs(1);

fn failed(upstream: &str) -> String {
    format!("larder_upstream_requests_total{{code=\"error\",upstream=\"{upstream}\"}}")
}

fn breaker(upstream: &FakeUpstream) -> String {
    let endpoint = upstream.endpoint();
    format!("larder_upstream_breaker_open{{endpoint=\"{endpoint}\",upstream=\"{HOST}\"}}")
}

/// Fails as often as opens the breaker.
async fn open_breaker(server: &TestServer, upstream: &FakeUpstream) {
    upstream.fault("", Fault::Status(500), 5);
    for number in 0..5 {
        let path = format!("/v2/bad{number}/manifests/v1");
        assert_eq!(server.get(&path).await.status, 503);
    }
    assert_eq!(upstream.requests().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_endpoint_is_passed_over_until_its_time_has_come() {
    let (dead, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    dead.stop().await;
    for repository in ["a", "b", "c"] {
        good.image(repository, "v1", &[]);
    }
    let server = TestServer::builder()
        .endpoints(HOST, &[dead.endpoint(), good.endpoint()])
        .start()
        .await;
    for (repository, failures) in [("a", 1), ("b", 1)] {
        let path = format!("/v2/{repository}/manifests/v1");
        assert_eq!(server.get(&path).await.status, 200);
        assert_eq!(server.metric(&failed(HOST)).await, failures);
    }
    server.advance(2 * SECOND);
    assert_eq!(server.get("/v2/c/manifests/v1").await.status, 200);
    assert_eq!(server.metric(&failed(HOST)).await, 2);
    assert_eq!(good.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_again_and_again_is_not_asked_until_its_breaker_closes() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    upstream.image("b", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    assert!(
        server
            .admin("/metrics")
            .await
            .1
            .contains(&format!("{} 0", breaker(&upstream)))
    );
    open_breaker(&server, &upstream).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.status, 503);
    let text = String::from_utf8_lossy(reply.content()).into_owned();
    assert!(text.contains("it failed again and again"), "{text}");
    assert_eq!(upstream.requests().len(), 5);
    assert_eq!(server.metric(&breaker(&upstream)).await, 1);

    // One request finds out how it is; who comes meanwhile does not wait for it.
    server.advance(90 * SECOND);
    let gate = Gate::closed();
    upstream.fault("/v2/a/", Fault::Late(gate.clone()), 1);
    let probe = server.get("/v2/a/manifests/v1");
    let meanwhile = async {
        eventually("the probe is under way", || async {
            upstream.requests().len() == 6
        })
        .await;
        assert_eq!(server.get("/v2/b/manifests/v1").await.status, 503);
        assert_eq!(upstream.requests().len(), 6);
        gate.open(1);
    };
    let (reply, ()) = tokio::join!(probe, meanwhile);
    assert_eq!(reply.status, 200);
    assert_eq!(server.metric(&breaker(&upstream)).await, 0);
    server.advance(3 * SECOND);
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_fails_opens_the_breaker_again() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    open_breaker(&server, &upstream).await;
    server.advance(90 * SECOND);
    upstream.fault("", Fault::Status(500), 1);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
    server.advance(3 * SECOND);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
    assert_eq!(upstream.requests().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn not_found_is_an_answer_and_opens_no_breaker() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    for number in 0..9 {
        let path = format!("/v2/none{number}/manifests/v1");
        assert_eq!(server.get(&path).await.status, 404);
    }
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moments_weakness_costs_a_second_try_and_no_answer() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    upstream.fault("", Fault::Status(502), 1);
    let server = TestServer::of(&upstream).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    upstream.fault("", Fault::Status(503), 99);
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 503);
    // Twice each, and no more.
    assert_eq!(upstream.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_kept_with_stale_copies_and_no_client_sees_429() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    upstream.image("b", "v1", &[]);
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("freshness: {refreshAfter: 1s}")
        .start()
        .await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    upstream.fault("", Fault::StatusWith(429, "retry-after", "120"), 1);
    upstream.forget();
    for _ in 0..3 {
        server.advance(10 * SECOND);
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.content(), &image.manifest[..]);
        assert!(reply.cache_status().contains("stale"));
        assert!(reply.headers.contains_key("warning"));
    }
    let reply = server.get("/v2/b/manifests/v1").await;
    assert_eq!(reply.status, 503);
    // What is left of the pause.
    assert_eq!(reply.header("retry-after"), "100");
    let text = String::from_utf8_lossy(reply.content()).into_owned();
    assert!(text.contains("it asked for a pause"), "{text}");
    assert_eq!(upstream.requests().len(), 1);

    server.advance(100 * SECOND);
    assert_eq!(server.get("/v2/b/manifests/v1").await.status, 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_copy_gets_503_for_429_and_another_endpoint_is_tried() {
    let (busy, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    busy.fault("", Fault::Status(429), 99);
    good.image("a", "v1", &[]);
    let alone = TestServer::of(&busy).await;
    let reply = alone.get("/v2/a/manifests/v1").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("retry-after")),
        (503, "15")
    );
    let both = TestServer::builder()
        .endpoints(HOST, &[busy.endpoint(), good.endpoint()])
        .start()
        .await;
    assert_eq!(both.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(busy.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_that_an_upstream_tells_are_shown() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let limits = &[
        ("ratelimit-limit", "100;w=21600"),
        ("ratelimit-remaining", "76;w=21600"),
    ];
    upstream.fault("", Fault::Headers(limits), 1);
    let server = TestServer::of(&upstream).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    for (name, expected) in [("", 100), ("_remaining", 76)] {
        let line = format!("larder_upstream_rate_limit{name}{{upstream=\"{HOST}\"}}");
        assert_eq!(server.metric(&line).await, expected);
    }
}
