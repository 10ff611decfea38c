//! No upstream can be reached: the server starts, serves what it has, and says that it is old.

use crate::support::{FakeUpstream, HOST, Program, TestServer, content, digest, edit, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_start_without_any_upstream_serves_what_is_stored_and_says_that_it_is_stale() {
    let upstream = FakeUpstream::start().await;
    let layer = content(5000, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&layer));
    upstream.image("a", "old", &[]);
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    let text = format!(
        "server: {{dataListen: '127.0.0.1:0', adminListen: '127.0.0.1:0', store: {}, logFormat: Json}}\npolicy:\n  defaultUpstream: r.test\n  upstreams:\n  - {{host: r.test, endpoints: [\"{}\"]}}\n  - {{host: nowhere.invalid}}\n  freshness: {{refreshAfter: 0s, serveStaleFor: 1d}}\n  rules:\n  - {{name: old, tags: [old], action: Cache, freshness: {{refreshAfter: 0s, serveStaleFor: 0s}}}}\n",
        directory.path().join("store").display(),
        upstream.endpoint(),
    );
    std::fs::write(&config, text).unwrap();
    let blob = format!("/v2/a/blobs/{}", digest(&layer));
    let program = Program::start(&config, "info").await;
    for path in ["/v2/a/manifests/v1", "/v2/a/manifests/old", &blob] {
        let reply = program.get(path).await;
        assert_eq!(reply.status(), 200);
        reply.bytes().await.unwrap();
    }
    eventually("what was fetched is durable", || async {
        let page = program.admin("/metrics").await;
        page.contains("\nlarder_fills_running 0\n")
    })
    .await;
    drop(program);
    upstream.stop().await;

    let program = Program::start(&config, "info").await;
    assert_eq!(program.admin("/readyz").await, "ready\n");
    let by_digest = format!("/v2/a/manifests/{}", image.digest);
    for path in [&blob, &by_digest] {
        let reply = program.get(path).await;
        assert_eq!(reply.headers()["cache-status"], "larder; hit");
        assert!(!reply.headers().contains_key("warning"));
    }
    let reply = program.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.headers()["cache-status"], "larder; hit; detail=stale");
    let warning = reply.headers()["warning"].to_str().unwrap().to_owned();
    assert_eq!(
        warning,
        "299 - \"r.test did not answer; this is the copy of an earlier answer\""
    );
    assert_eq!(reply.bytes().await.unwrap(), image.manifest);
    // Beyond what serveStaleFor says there is no copy.
    let reply = program.get("/v2/a/manifests/old").await;
    assert_eq!(reply.status(), 503);

    let page = program.admin("/metrics").await;
    assert!(page.contains("larder_stale_served_total{upstream=\"r.test\"} 1\n"));
    let about = |message: &str| {
        let mut lines = program.lines().into_iter();
        lines.find(|line| line["message"] == message)
    };
    let line = about("answering with a stale copy").unwrap();
    assert_eq!(
        (&line["upstream"], &line["repository"]),
        (&"r.test".into(), &"a".into())
    );
    // The line comes when all was sent, which the client may know earlier.
    let message = "GET manifest r.test/a v1 200 stale";
    eventually("the request is logged", || async {
        about(message).is_some()
    })
    .await;
    let request = about(message).unwrap();
    assert_eq!(request["target"], "access");
    assert_eq!(request["outcome"], "stale");
    assert_eq!(request["bytes"], image.manifest.len());
}

/// The name is one that never resolves (RFC 6761), whether a name server says so or none answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_name_does_not_resolve_is_one_that_is_away() {
    let upstream = FakeUpstream::start().await;
    let layer = content(5000, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&layer));
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("freshness: {refreshAfter: 0s}")
        .start()
        .await;
    let blob = format!("/v2/a/blobs/{}", digest(&layer));
    for path in ["/v2/a/manifests/v1", &blob] {
        assert_eq!(server.get(path).await.status, 200);
    }
    let (known, endpoint) = (upstream.endpoint(), "http://registry.invalid:5000");
    edit(&server, |text| text.replace(&known, endpoint)).await;

    assert_eq!(server.get(&blob).await.cache_status(), "larder; hit");
    let stale = server.get("/v2/a/manifests/v1").await;
    assert_eq!(stale.cache_status(), "larder; hit; detail=stale");
    assert_eq!(stale.content(), &image.manifest[..]);
    let other = format!("/v2/a/blobs/{}", digest(b"never seen"));
    let lost = server.get(&other).await;
    assert_eq!(lost.status, 503);
    assert_eq!(lost.header("retry-after"), "5");
    assert_eq!(upstream.count(&other), 0);
}
