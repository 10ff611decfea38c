//! Tags over time: fresh, checked, stale, gone.

use std::time::Duration;

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, content, eventually};

const MINUTES: fn(u64) -> Duration = Duration::from_mins;

#[tokio::test(flavor = "multi_thread")]
async fn an_old_tag_is_checked_with_one_head() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await;
    upstream.forget();

    server.advance(MINUTES(4));
    assert_eq!(
        server.get("/v2/a/manifests/v1").await.cache_status(),
        "larder; hit"
    );
    assert_eq!(upstream.requests(), [""; 0]);

    server.advance(MINUTES(2));
    let checked = server.get("/v2/a/manifests/v1").await;
    assert_eq!(checked.cache_status(), "larder; hit; detail=revalidated");
    assert_eq!(checked.content(), &image.manifest[..]);
    assert_eq!(upstream.requests(), ["HEAD /v2/a/manifests/v1"]);
    assert_eq!(
        server.get("/v2/a/manifests/v1").await.cache_status(),
        "larder; hit"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_followed() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await;
    let next = upstream.image("a", "v1", &[vec![1; 10]]);
    server.advance(MINUTES(6));
    upstream.forget();
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &next.manifest[..]);
    let expected = [
        "HEAD /v2/a/manifests/v1".to_owned(),
        format!("GET /v2/a/manifests/{}", next.digest),
    ];
    assert_eq!(upstream.requests(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_copy_is_served_while_the_upstream_is_down() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await;
    upstream.stop().await;
    server.advance(MINUTES(6));
    for _ in 0..2 {
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.content(), &image.manifest[..]);
        assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
        assert!(reply.header("warning").starts_with("299 - \""));
        let head = server.head("/v2/a/manifests/v1").await;
        assert_eq!(
            head.header("docker-content-digest"),
            image.digest.to_string()
        );
    }
    assert_eq!(
        server
            .metric("larder_stale_served_total{upstream=\"r.test\"}")
            .await,
        4
    );

    // Older than that it is worth nothing.
    server.advance(Duration::from_hours(8 * 24));
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("retry-after")),
        (503, "5")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_copy_is_served_while_the_upstream_hangs() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    // The upstream's own timeout is longer than the test: what answers is the copy.
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tune(|options| {
            options.timeouts.header = Duration::from_hours(1);
            options.patience.revalidation = Duration::from_millis(50);
        })
        .start()
        .await;
    server.get("/v2/a/manifests/v1").await;
    server.advance(MINUTES(6));
    upstream.forget();
    upstream.fault("HEAD ", Fault::Hang, 1);
    for _ in 0..3 {
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.content(), &image.manifest[..]);
        assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
    }
    // One question is under way, for all three.
    assert_eq!(upstream.count("HEAD "), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_check_still_renews_the_copy() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tune(|options| {
            options.patience.revalidation = Duration::ZERO;
        })
        .start()
        .await;
    server.get("/v2/a/manifests/v1").await;
    server.advance(MINUTES(6));
    let gate = Gate::closed();
    upstream.fault("HEAD ", Fault::Late(gate.clone()), 1);
    assert_eq!(
        server.get("/v2/a/manifests/v1").await.cache_status(),
        "larder; hit; detail=stale"
    );
    gate.open(1);
    eventually("the copy is fresh again", || async {
        server.get("/v2/a/manifests/v1").await.cache_status() == "larder; hit"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_gone_is_gone_at_once() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await;
    server.advance(MINUTES(6));
    upstream.fault("HEAD ", Fault::Status(404), 1);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 404);
    // And does not come back when the upstream fails later.
    upstream.stop().await;
    server.advance(MINUTES(1));
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_refused_for_a_moment_is_not_forgotten() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await;
    server.advance(MINUTES(6));
    upstream.fault("HEAD ", Fault::Status(403), 1);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 404);
    upstream.stop().await;
    server.advance(MINUTES(1));
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
}

#[tokio::test(flavor = "multi_thread")]
async fn immutable_tags_are_asked_once() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1.0.0", &[]);
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("freshness: {immutableTags: [\"v*\"]}")
        .start()
        .await;
    server.get("/v2/a/manifests/v1.0.0").await;
    server.advance(Duration::from_hours(24 * 365));
    let reply = server.get("/v2/a/manifests/v1.0.0").await;
    assert_eq!(reply.cache_status(), "larder; hit");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_says_no_digest_on_head_is_asked_with_get() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    upstream.fault("HEAD ", Fault::NoDigest, 9);
    let server = TestServer::of(&upstream).await;
    let head = server.head("/v2/a/manifests/v1").await;
    assert_eq!(
        head.header("docker-content-digest"),
        image.digest.to_string()
    );
    assert_eq!(
        upstream.requests(),
        ["HEAD /v2/a/manifests/v1", "GET /v2/a/manifests/v1"]
    );
    let by_digest = server
        .get(&format!("/v2/a/manifests/{}", image.digest))
        .await;
    assert_eq!(by_digest.cache_status(), "larder; hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_checks_of_one_tag_are_one_request() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    let replies =
        futures::future::join_all((0..20).map(|_| server.head("/v2/a/manifests/v1"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_often_is_answered_from_memory_and_still_judged_by_the_policy() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    let by_tag = "/v2/a/manifests/v1";
    for path in [by_tag, &by_digest] {
        server.get(path).await.body.unwrap();
        server.get(path).await.body.unwrap();
    }
    std::fs::remove_dir_all(server.store().join("repositories/r.test")).unwrap();
    std::fs::remove_dir_all(server.store().join("blobs/sha256")).unwrap();
    upstream.forget();
    for path in [by_tag, &by_digest] {
        let reply = server.get(path).await;
        assert_eq!(reply.content(), &image.manifest[..]);
        assert_eq!(reply.cache_status(), "larder; hit");
    }
    // Another repository is not known to have it, whatever is in memory.
    let other = server
        .get(&format!("/v2/b/manifests/{}", image.digest))
        .await;
    assert_eq!(other.status, 404);

    let path = server.config().join("policy.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{text}\ndefaultAction: Deny\n")).unwrap();
    eventually("the policy is in force", || async {
        server.get(by_tag).await.status == 403
    })
    .await;
    assert_eq!(server.get(&by_digest).await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_from_the_store_is_in_memory_for_ten_seconds_at_most() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    for _ in 0..2 {
        server.get(&by_digest).await.body.unwrap();
        server.get("/v2/a/manifests/v1").await.body.unwrap();
    }
    std::fs::remove_dir_all(server.store().join("repositories/r.test")).unwrap();
    server.advance(Duration::from_secs(10));
    upstream.forget();
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.cache_status(), "larder; fwd=miss; stored");
    assert_eq!(upstream.count("/manifests/v1"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moved_is_never_answered_with_what_it_was() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for round in 0..5 {
        let image = upstream.image("a", "v1", &[content(100, round)]);
        server.advance(Duration::from_hours(1));
        for _ in 0..3 {
            let reply = server.get("/v2/a/manifests/v1").await;
            assert_eq!(reply.content(), &image.manifest[..]);
            let head = server.head("/v2/a/manifests/v1").await;
            assert_eq!(
                head.header("docker-content-digest"),
                image.digest.to_string()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_is_never_fresh_is_not_missing_for_longer_either() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("freshness: {refreshAfter: 0s}")
        .start()
        .await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 404);
    let image = upstream.image("a", "v1", &[]);
    for _ in 0..2 {
        upstream.forget();
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.content(), &image.manifest[..]);
        assert_eq!(upstream.requests().len(), 1);
    }
}
