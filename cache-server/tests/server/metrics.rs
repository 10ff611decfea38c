//! What operators count: each metric after the event that it speaks of.

use std::time::Duration;

use http::{Method, StatusCode};

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, content, edit, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_times_are_counted_by_what_was_done() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(60_000, 1)]);
    let limits = &[
        ("ratelimit-limit", "100;w=1"),
        ("ratelimit-remaining", "7;w=1"),
    ];
    upstream.fault("/manifests/", Fault::Headers(limits), 1);
    let gate = Gate::closed();
    upstream.fault("/blobs/", Fault::Gated(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let blob = format!("/v2/a/blobs/{}", image.layers[0]);
    let tag = "/v2/a/manifests/v1";
    assert_eq!(server.get(tag).await.status, 200);
    assert_eq!(server.get(tag).await.status, 200);
    let first = server.get(&blob);
    let second = async {
        eventually("the fill runs", || async {
            server.metric("larder_fills_running").await == 1
        })
        .await;
        let joined = server.get(&blob);
        let opener = async {
            eventually("the second one has its head", || async {
                let line = "larder_requests_total{kind=\"blob\",outcome=\"joined\"}";
                server.metric(line).await == 1
            })
            .await;
            gate.open_for_good();
        };
        tokio::join!(joined, opener).0
    };
    let (first, second) = tokio::join!(first, second);
    assert!(first.content() == content(60_000, 1) && second.content() == first.content());
    server.settled().await;
    assert_eq!(server.get(&blob).await.status, 200);
    server.advance(Duration::from_mins(6));
    assert_eq!(server.get(tag).await.status, 200);
    upstream.stop().await;
    server.advance(Duration::from_mins(6));
    assert_eq!(server.get(tag).await.status, 200);

    for (kind, outcome, count) in [
        ("manifest", "miss", 1),
        ("manifest", "hit", 1),
        ("manifest", "revalidated", 1),
        ("manifest", "stale", 1),
        ("blob", "miss", 1),
        ("blob", "joined", 1),
        ("blob", "hit", 1),
    ] {
        let line = format!("larder_requests_total{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
        assert_eq!(server.metric(&line).await, count, "{line}");
    }
    for (outcome, count) in [("miss", 2), ("hit", 2), ("joined", 1), ("stale", 1)] {
        let line = format!("larder_time_to_first_byte_seconds_count{{outcome=\"{outcome}\"}}");
        assert_eq!(server.metric(&line).await, count, "{line}");
    }
    for (line, count) in [
        (
            "larder_upstream_requests_total{code=\"200\",upstream=\"r.test\"}",
            2,
        ),
        (
            "larder_upstream_requests_total{code=\"206\",upstream=\"r.test\"}",
            1,
        ),
        (
            "larder_upstream_rate_limit_remaining{upstream=\"r.test\"}",
            7,
        ),
        ("larder_stale_served_total{upstream=\"r.test\"}", 1),
        ("larder_fills_total{result=\"stored\"}", 1),
        ("larder_store_blobs", 2),
    ] {
        assert_eq!(server.metric(line).await, count, "{line}");
    }
    // What was saved: sent by three, fetched by one.
    let blob = 60_000;
    let manifest = image.manifest.len() as u64;
    let sent = |source: &str| {
        format!("larder_response_bytes_total{{source=\"{source}\",upstream=\"{HOST}\"}}")
    };
    let (cache, fetched) = (sent("cache"), sent("upstream"));
    eventually("the bytes are counted", || async {
        server.metric(&cache).await == 2 * blob + 3 * manifest
            && server.metric(&fetched).await == blob + manifest
    })
    .await;
    let line = format!("larder_upstream_bytes_total{{upstream=\"{HOST}\"}}");
    assert_eq!(server.metric(&line).await, blob + manifest);
    assert!(server.metric("larder_store_free_bytes").await > 0);
}

/// A line of the metrics page for what was done.
fn first_bytes(outcome: &str) -> String {
    format!("larder_time_to_first_byte_seconds_count{{outcome=\"{outcome}\"}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_the_first_byte_ends_when_a_byte_of_the_body_comes() {
    for (action, outcomes) in [
        ("Cache", ["miss", "joined"]),
        ("Forward", ["forwarded", "forwarded"]),
    ] {
        let upstream = FakeUpstream::start().await;
        let bytes = content(300_000, 1);
        let path = format!("/v2/a/blobs/{}", upstream.blob("a", bytes.clone()));
        let gate = Gate::closed();
        upstream.fault("/blobs/", Fault::Gated(gate.clone()), 2);
        let server = TestServer::builder()
            .upstream(HOST, &upstream)
            .tail(&format!("defaultAction: {action}"))
            .start()
            .await;
        let mut first = server.send(Method::GET, &path, &[]).await;
        let mut second = server.send(Method::GET, &path, &[]).await;
        // Both have their heads, which are counted.
        assert_eq!(
            (first.status(), second.status()),
            (StatusCode::OK, StatusCode::OK)
        );
        for outcome in outcomes {
            let heads = format!("larder_requests_total{{kind=\"blob\",outcome=\"{outcome}\"}}");
            let count = outcomes.iter().filter(|found| **found == outcome).count();
            assert_eq!(server.metric(&heads).await, count as u64, "{outcome}");
            assert_eq!(server.metric(&first_bytes(outcome)).await, 0, "{outcome}");
        }
        // One more than one of them can take.
        gate.open(20);
        for download in [&mut first, &mut second] {
            assert!(download.next().await.unwrap().is_some());
        }
        for outcome in outcomes {
            let count = outcomes.iter().filter(|found| **found == outcome).count();
            let timed = server.metric(&first_bytes(outcome)).await;
            assert_eq!(timed, count as u64, "{outcome}");
        }
        gate.open_for_good();
        for download in [first, second] {
            assert!(bytes.ends_with(download.rest().await.content()));
        }
        // Once for each of them.
        let total = outcomes.len() as u64;
        let mut timed = 0;
        for outcome in ["miss", "joined", "forwarded"] {
            timed += server.metric(&first_bytes(outcome)).await;
        }
        assert_eq!(timed, total);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_a_body_is_timed_by_its_head_and_one_that_breaks_before_its_body_is_not()
{
    let upstream = FakeUpstream::start().await;
    let image = upstream.image(
        "a",
        "v1",
        &[content(5000, 1), content(300_000, 2), Vec::new()],
    );
    let server = TestServer::of(&upstream).await;
    let [layer, broken, empty] =
        [0, 1, 2].map(|index| format!("/v2/a/blobs/{}", image.layers[index]));
    assert_eq!(server.head(&layer).await.status, 200);
    assert_eq!(server.metric(&first_bytes("miss")).await, 1);
    assert_eq!(server.get(&layer).await.status, 200);
    server.settled().await;
    assert_eq!(server.metric(&first_bytes("miss")).await, 2);
    let tag = format!("\"{}\"", image.layers[0]);
    let known = server
        .send(Method::GET, &layer, &[("if-none-match", &tag)])
        .await;
    assert_eq!(known.status(), 304);
    assert_eq!(server.metric(&first_bytes("hit")).await, 1);
    assert_eq!(server.get(&empty).await.content(), b"");
    assert_eq!(server.metric(&first_bytes("miss")).await, 3);
    assert_eq!(server.get("/v2/nothing/manifests/v1").await.status, 404);
    assert_eq!(server.metric(&first_bytes("not_found")).await, 1);

    upstream.fault("/blobs/", Fault::Truncate(0), 9);
    let reply = server.get(&broken).await;
    assert!(!reply.is_complete());
    let heads = "larder_requests_total{kind=\"blob\",outcome=\"miss\"}";
    let failed = "larder_requests_total{kind=\"blob\",outcome=\"unavailable\"}";
    // What breaks before its head is out is an error answer instead.
    assert_eq!(server.metric(heads).await + server.metric(failed).await, 4);
    assert_eq!(server.metric(&first_bytes("miss")).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_are_counted_with_their_age_and_a_policy_with_its_hash() {
    let upstream = FakeUpstream::start().await;
    let old = upstream.blob("a", content(3 << 20, 1));
    let new = upstream.blob("a", content(3 << 20, 2));
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("capacity: {maxSize: 64Mi}")
        .start()
        .await;
    let before = server.configz().await["policyHash"].clone();
    for blob in [&old, &new] {
        server
            .get(&format!("/v2/a/blobs/{blob}"))
            .await
            .body
            .unwrap();
        server.settled().await;
        server.advance(Duration::from_hours(2));
    }
    edit(&server, |text| text.replace("64Mi", "4Mi")).await;
    eventually("the older one is gone", || async {
        server
            .metric("larder_evictions_total{reason=\"capacity\"}")
            .await
            == 1
    })
    .await;
    let bytes = "larder_evicted_bytes_total{reason=\"capacity\"}";
    assert_eq!(server.metric(bytes).await, 3 << 20);
    let ages = "larder_eviction_age_seconds_count{reason=\"capacity\"}";
    assert_eq!(server.metric(ages).await, 1);
    // Not used for four hours: in the bucket up to six, and in none below.
    for (bucket, count) in [("3600", 0), ("21600", 1)] {
        let line =
            format!("larder_eviction_age_seconds_bucket{{reason=\"capacity\",le=\"{bucket}\"}}");
        assert_eq!(server.metric(&line).await, count, "{line}");
    }
    let after = server.configz().await["policyHash"].clone();
    let (_, page) = server.admin("/metrics").await;
    let info =
        |hash: &serde_json::Value| page.contains(&format!("larder_policy_info{{hash={hash}}} 1\n"));
    assert!(info(&after) && !info(&before));
    assert!(page.contains("larder_policy_last_reload_timestamp_seconds 18000144"));
}
