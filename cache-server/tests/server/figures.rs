//! What the operator makes a status of.

use std::time::Duration;

use crds::figures::Figures;

use crate::support::{FakeUpstream, Fault, HOST, TestServer, content, eventually};

async fn figures(server: &TestServer) -> Figures {
    let (status, text) = server.admin("/v1/figures").await;
    assert_eq!(status, 200);
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_say_how_much_is_answered_and_stored() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(3 << 20, 1));
    let server = TestServer::of(&upstream).await;
    let before = figures(&server).await;
    assert_eq!((before.requests, before.hits, before.used), (0, 0, 0));
    for _ in 0..4 {
        let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
        assert_eq!(reply.status, 200);
        server.settled().await;
    }
    let after = figures(&server).await;
    assert_eq!((after.requests, after.hits), (4, 3));
    assert_eq!(after.used, 3 << 20);
    assert!(after.maximum > after.used);
    assert_eq!(after.upstreams.len(), 1);
    assert_eq!(after.upstreams[0].host, HOST);
    assert_eq!(after.upstreams[0].away, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_fails_again_and_again_is_away_until_it_answers() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    upstream.fault("", Fault::Status(502), 99);
    let server = TestServer::of(&upstream).await;
    let away = async || figures(&server).await.upstreams.remove(0).away;
    eventually("it is away", || async {
        // Others ask later for what is not there.
        server.advance(Duration::from_mins(2));
        assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
        away().await.is_some()
    })
    .await;
    let reason = away().await.unwrap();
    assert!(reason.starts_with(&upstream.endpoint()), "{reason}");
    assert!(reason.contains("502"), "{reason}");
    // It stays so while nobody asks.
    server.advance(Duration::from_hours(2));
    assert!(away().await.is_some());

    upstream.heal();
    server.advance(Duration::from_mins(2));
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(away().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_asked_for_a_pause_is_away_until_that_is_over() {
    let upstream = FakeUpstream::start().await;
    let limited = Fault::StatusWith(429, "retry-after", "120");
    upstream.fault("", limited, 1);
    let server = TestServer::of(&upstream).await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
    let away = async || figures(&server).await.upstreams.remove(0).away;
    let reason = away().await.unwrap();
    assert!(reason.contains("a pause of 120 seconds"), "{reason}");
    server.advance(Duration::from_secs(121));
    assert_eq!(away().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_is_not_away_while_one_of_its_endpoints_answers() {
    let (limited, good) = (FakeUpstream::start().await, FakeUpstream::start().await);
    limited.fault("", Fault::StatusWith(429, "retry-after", "120"), 1);
    good.image("a", "v1", &[]);
    let server = TestServer::builder()
        .endpoints(HOST, &[limited.endpoint(), good.endpoint()])
        .start()
        .await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 200);
    assert_eq!(limited.requests().len(), 1);
    assert_eq!(figures(&server).await.upstreams[0].away, None);
}
