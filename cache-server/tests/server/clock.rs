//! A wall clock that leaps: nothing may count as fresh, or as in use, for ever because of it.

use std::time::Duration;

use crate::support::{FakeUpstream, TestServer, content, eventually};

const DAY: Duration = Duration::from_hours(24);
const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_goes_back_keeps_no_tag_fresh() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await.body.unwrap();
    let next = upstream.image("a", "v1", &[vec![1; 10]]);
    server.rewind(365 * DAY);
    // Asked once; from then on the answer ages as ever.
    for outcome in ["larder; fwd=miss; stored", "larder; hit"] {
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.content(), &next.manifest[..]);
        assert_eq!(reply.cache_status(), outcome);
    }
    server.advance(Duration::from_mins(6));
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.cache_status(), "larder; hit; detail=revalidated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_leaps_ahead_and_comes_back_costs_no_copy() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await.body.unwrap();
    upstream.stop().await;
    server.advance(365 * DAY);
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 503);
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(server.get(&by_digest).await.status, 200);
    server.rewind(365 * DAY);
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_about_age_go_on_after_the_clock_went_back() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let tail = "rules:\n- {name: all, action: Cache, retention: {unusedFor: 1h}}\n";
    let server = TestServer::attentive(&upstream, tail).await;
    let first = upstream.image("b", "v1", &[]);
    server.get("/v2/b/manifests/v1").await.body.unwrap();
    server.advance(Duration::from_hours(2));
    eventually("the store was looked through", || async {
        !server.has_blob(&first.digest)
    })
    .await;
    server.rewind(30 * DAY);
    server.get("/v2/a/manifests/v1").await.body.unwrap();
    assert!(server.has_blob(&image.digest));
    server.advance(Duration::from_hours(2));
    eventually("the image goes", || async {
        !server.has_blob(&image.digest)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_used_in_a_future_that_did_not_come_makes_room() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::attentive(&upstream, "capacity: {maxSize: 4Mi}").await;
    server.advance(365 * DAY);
    let old = upstream.blob("a", content(3 * MIB, 1));
    let path = format!("/v2/a/blobs/{old}");
    server.get(&path).await.body.unwrap();
    server.settled().await;
    server.rewind(365 * DAY);
    let new = upstream.blob("a", content(2 * MIB, 2));
    let path = format!("/v2/a/blobs/{new}");
    eventually("the new one is stored", || async {
        // What counts as in use, and what was refused, does so for some seconds.
        server.advance(Duration::from_secs(20));
        server.get(&path).await.body.unwrap();
        server.settled().await;
        server.has_blob(&new)
    })
    .await;
    assert!(!server.has_blob(&old));
}
