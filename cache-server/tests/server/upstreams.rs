//! How upstreams are asked: tokens, redirects, endpoints.

use crate::support::{FakeUpstream, Fault, HOST, TestServer, content, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_once_for_many() {
    let upstream = FakeUpstream::start().await;
    let layers: Vec<_> = (0..5).map(|seed| content(100, seed)).collect();
    let image = upstream.image("a", "v1", &layers);
    upstream.require_token(None);
    let server = TestServer::of(&upstream).await;
    let paths = image.layer_paths("a");
    let replies = futures::future::join_all(paths.iter().map(|path| server.get(path))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    server.get("/v2/a/manifests/v1").await;
    let tokens: Vec<_> = upstream
        .requests()
        .into_iter()
        .filter(|line| line.contains("/token"))
        .collect();
    assert_eq!(
        tokens,
        ["GET /token?service=fake&scope=repository%3Aa%3Apull"]
    );
    assert!(upstream.headers("/token")[0].get("authorization").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_elsewhere_gets_no_visit() {
    let upstream = FakeUpstream::start().await;
    let elsewhere = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    // The same machine, but not the same name.
    let realm = format!("http://localhost:{}/token", elsewhere.address.port());
    upstream.require_token(Some(&realm));
    let server = TestServer::of(&upstream).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.status, 502);
    assert!(String::from_utf8_lossy(reply.content()).contains(&realm));
    assert_eq!(elsewhere.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_without_the_token() {
    let upstream = FakeUpstream::start().await;
    let storage = FakeUpstream::start().await;
    let bytes = content(60_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    storage.blob("a", bytes.clone());
    upstream.require_token(None);
    upstream.fault("/blobs/", Fault::Redirect(storage.endpoint()), 9);
    storage.fault("/blobs/", Fault::Truncate(20_000), 1);
    let server = TestServer::of(&upstream).await;
    // The body breaks behind the redirect, and is resumed through it.
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert!(reply.content() == bytes);
    for headers in storage.headers("GET ") {
        assert!(headers.get("authorization").is_none());
        assert_eq!(headers["accept-encoding"], "identity");
    }
    assert_eq!(storage.count("GET "), 2);
    assert!(
        upstream
            .headers("/blobs/")
            .last()
            .unwrap()
            .contains_key("authorization")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_without_an_end_are_given_up() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(10, 1));
    upstream.fault("/blobs/", Fault::Redirect(upstream.endpoint()), 99);
    let server = TestServer::of(&upstream).await;
    let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
    assert_eq!(reply.status, 502);
    assert!(!String::from_utf8_lossy(reply.content()).contains("secret"));
    assert_eq!(upstream.requests().len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_endpoint_is_tried() {
    let (gone, failing, good) = (
        FakeUpstream::start().await,
        FakeUpstream::start().await,
        FakeUpstream::start().await,
    );
    gone.stop().await;
    failing.fault("", Fault::Status(502), 99);
    let image = good.image("proxy/hub/a", "v1", &[]);
    let policy = format!(
        "upstreams: [{{host: {HOST}, repositoryPrefix: proxy/hub, endpoints: [\"{}\", \"{}\", \"{}\"]}}]\ndefaultUpstream: {HOST}\n",
        gone.endpoint(),
        failing.endpoint(),
        good.endpoint()
    );
    let server = TestServer::builder().policy(&policy).start().await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(failing.requests(), good.requests());
    assert_eq!(good.requests(), ["GET /v2/proxy/hub/a/manifests/v1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_says_no_is_the_last_one_asked() {
    let (first, second) = (FakeUpstream::start().await, FakeUpstream::start().await);
    second.image("a", "v1", &[]);
    let server = TestServer::builder()
        .endpoints(HOST, &[first.endpoint(), second.endpoint()])
        .start()
        .await;
    assert_eq!(server.get("/v2/a/manifests/v1").await.status, 404);
    assert_eq!(second.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_authority_is_trusted_and_it_may_change() {
    let (upstream, authority) = FakeUpstream::start_tls().await;
    let (_, other) = FakeUpstream::start_tls().await;
    let image = upstream.image("a", "v1", &[]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    std::fs::write(&file, other).unwrap();
    let policy = format!(
        "upstreams: [{{host: {HOST}, endpoints: [\"{}\"], caFile: {}}}]\ndefaultUpstream: {HOST}\n",
        upstream.endpoint(),
        file.display()
    );
    let server = TestServer::builder().policy(&policy).start().await;
    let before = server.get("/v2/a/manifests/v1").await;
    assert_eq!(before.status, 503);
    assert_eq!(upstream.requests(), [""; 0]);

    // The same policy, another file: noticed with the next look at the policy.
    std::fs::write(&file, authority).unwrap();
    std::fs::write(server.config().join("touched"), "").unwrap();
    server.advance(std::time::Duration::from_secs(3));
    eventually("the new authority is trusted", || async {
        server.advance(std::time::Duration::from_secs(3));
        server.get("/v2/a/manifests/v1").await.status == 200
    })
    .await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_ca_file_is_a_broken_policy() {
    let policy = format!("upstreams: [{{host: {HOST}, caFile: /nowhere/ca.pem}}]\n");
    let server = TestServer::builder().policy(&policy).start().await;
    let (status, reason) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("/nowhere/ca.pem"), "{reason}");
}
