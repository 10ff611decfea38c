//! What an edit of the policy means for what is stored already, and for requests that run.

use std::time::Duration;

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, content, edit, eventually};

const MINUTE: Duration = Duration::from_mins(1);
const TAG: &str = "/v2/a/manifests/v1";

/// What the cache said it did for a tag.
async fn status(server: &TestServer, path: &str) -> String {
    let reply = server.get(path).await;
    format!("{} {}", reply.status.as_u16(), reply.cache_status())
}

const HIT: &str = "200 larder; hit";
const CHECKED: &str = "200 larder; hit; detail=revalidated";
const STALE: &str = "200 larder; hit; detail=stale";

#[tokio::test(flavor = "multi_thread")]
async fn the_freshness_of_an_edit_is_that_of_tags_that_are_stored() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("freshness: {refreshAfter: 1h}")
        .start()
        .await;
    assert_eq!(server.get(TAG).await.status, 200);
    server.advance(2 * MINUTE);
    assert_eq!(status(&server, TAG).await, HIT);

    edit(&server, |text| text.replace("1h", "1m")).await;
    assert_eq!(status(&server, TAG).await, CHECKED);
    edit(&server, |text| {
        text.replace("1m", "1m, immutableTags: ['v*']")
    })
    .await;
    server.advance(60 * 24 * MINUTE);
    assert_eq!(status(&server, TAG).await, HIT);

    // Offline, it is as old as serveStaleFor says.
    upstream.stop().await;
    edit(&server, |text| {
        text.replace("immutableTags: ['v*']", "serveStaleFor: 1h")
    })
    .await;
    assert!(status(&server, TAG).await.starts_with("503"));
    edit(&server, |text| {
        text.replace("serveStaleFor: 1h", "serveStaleFor: 2d")
    })
    .await;
    assert_eq!(status(&server, TAG).await, STALE);
    edit(&server, |text| {
        text.replace("serveStaleFor: 2d", "immutableTags: ['v*']")
    })
    .await;
    assert_eq!(status(&server, TAG).await, HIT);
    // By its digest it is served in any case.
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    assert_eq!(status(&server, &by_digest).await, HIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_have_the_freshness_of_the_first_rule_that_matches() {
    let upstream = FakeUpstream::start().await;
    for tag in ["latest", "nightly", "v1"] {
        upstream.image("a", tag, &[]);
    }
    let rule = |name: &str, tag: &str, age: &str| {
        format!(
            "- {{name: {name}, tags: ['{tag}'], action: Cache, freshness: {{refreshAfter: {age}}}}}\n"
        )
    };
    let rules = [rule("one", "latest", "1m"), rule("two", "*t*", "10m")].concat();
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail(&format!("freshness: {{refreshAfter: 1h}}\nrules:\n{rules}"))
        .start()
        .await;
    let paths = ["latest", "nightly", "v1"].map(|tag| format!("/v2/a/manifests/{tag}"));
    for path in &paths {
        assert_eq!(server.get(path).await.status, 200);
    }
    for (minutes, expected) in [
        (2, [CHECKED, HIT, HIT]),
        (9, [CHECKED, CHECKED, HIT]),
        (60, [CHECKED, CHECKED, CHECKED]),
    ] {
        server.advance(minutes * MINUTE);
        for (path, expected) in paths.iter().zip(expected) {
            assert_eq!(status(&server, path).await, expected, "{path} {minutes}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edit_denies_is_denied_although_it_is_stored_and_stays_for_those_who_may() {
    let upstream = FakeUpstream::start().await;
    let layer = content(5000, 1);
    let [ours, theirs] = ["ours/a", "theirs/a"]
        .map(|repository| upstream.image(repository, "v1", std::slice::from_ref(&layer)));
    let server = TestServer::of(&upstream).await;
    let paths = [("ours/a", &ours), ("theirs/a", &theirs)].map(|(repository, image)| {
        [
            format!("/v2/{repository}/manifests/v1"),
            format!("/v2/{repository}/manifests/{}", image.digest),
            format!("/v2/{repository}/blobs/{}", image.layers[0]),
        ]
    });
    for path in paths.iter().flatten() {
        assert_eq!(server.get(path).await.status, 200);
    }
    server.settled().await;
    upstream.forget();
    edit(&server, |text| {
        format!("{text}\nrules:\n- {{name: no, repositories: ['theirs/**'], action: Deny}}\n")
    })
    .await;
    for (path, expected) in paths.iter().flatten().zip([200, 200, 200, 403, 403, 403]) {
        assert_eq!(server.get(path).await.status, expected, "{path}");
    }
    edit(&server, |text| {
        text.replace("action: Deny", "action: Refuse")
    })
    .await;
    for path in &paths[1] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    edit(&server, |text| {
        text.replace("action: Refuse", "action: Cache")
    })
    .await;
    for path in &paths[1] {
        assert_eq!(status(&server, path).await, HIT, "{path}");
    }
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_limits_counts_for_the_next_request() {
    let upstream = FakeUpstream::start().await;
    let [first, second, third] = [1, 2, 3].map(|seed| upstream.blob("a", content(40_000, seed)));
    let gate = Gate::closed();
    upstream.fault(first.to_string(), Fault::Gated(gate.clone()), 1);
    let endpoint = upstream.endpoint();
    let text = format!(
        "defaultUpstream: {HOST}\nupstreams: [{{host: {HOST}, endpoints: [\"{endpoint}\"], limits: {{concurrency: 1}}}}]\n"
    );
    let server = TestServer::builder()
        .policy(&text)
        .tune(|options| options.timeouts.queue = Duration::from_millis(50))
        .start()
        .await;
    let path = |digest: &cache_server::oci::Digest| format!("/v2/a/blobs/{digest}");
    let (first, second, third) = (path(&first), path(&second), path(&third));
    let slow = server.get(&first);
    let meanwhile = async {
        eventually("the first body is under way", || async {
            upstream.count("/blobs/") == 1
        })
        .await;
        assert_eq!(server.get(&second).await.status, 503);
        edit(&server, |text| {
            text.replace("concurrency: 1", "concurrency: 2")
        })
        .await;
        assert_eq!(server.get(&third).await.status, 200);
        gate.open_for_good();
    };
    let (reply, ()) = tokio::join!(slow, meanwhile);
    // What runs is not touched by an edit.
    assert_eq!(reply.content(), content(40_000, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_clients_of_a_tag_that_is_not_there_are_one_request() {
    let upstream = FakeUpstream::start().await;
    let gate = Gate::closed();
    upstream.fault("", Fault::Late(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let clients = futures::future::join_all((0..100).map(|_| server.get(TAG)));
    let opener = async {
        eventually("it is asked", || async { upstream.requests().len() == 1 }).await;
        gate.open(1);
    };
    let (replies, ()) = tokio::join!(clients, opener);
    assert!(replies.iter().all(|reply| reply.status == 404));
    assert_eq!(upstream.requests().len(), 1);

    // Two seconds later it may be there.
    let image = upstream.image("a", "v1", &[]);
    assert_eq!(server.get(TAG).await.status, 404);
    server.advance(Duration::from_secs(2));
    assert_eq!(server.get(TAG).await.content(), &image.manifest[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_or_failure_is_over_when_the_upstream_thinks_better_of_it() {
    let upstream = FakeUpstream::start().await;
    for status in [401, 403, 500, 504] {
        let tag = format!("t{status}");
        upstream.image("a", &tag, &[]);
        upstream.fault(format!("/{tag}"), Fault::Status(status), 2);
        let server = TestServer::of(&upstream).await;
        let path = format!("/v2/a/manifests/{tag}");
        let mut told = Vec::new();
        for _ in 0..3 {
            told.push(server.get(&path).await.status.as_u16());
        }
        // No time has passed. Of 504, a second try comes of itself.
        let expected = match status {
            401 | 403 => [404, 404, 200],
            500 => [503, 503, 200],
            _ => [503, 200, 200],
        };
        assert_eq!(told, expected, "{status}");
    }
}
