//! Upstreams that keep the cache waiting, or send it away: clients are told in time, or get it from another endpoint.

use std::net::SocketAddr;
use std::time::Duration;

use cache_server::oci::Digest;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::support::{
    Builder, FakeUpstream, Fault, Gate, HOST, Image, Reply, TestServer, content, eventually,
};

/// How long the caches of these tests wait for an upstream.
const PATIENCE: Duration = Duration::from_millis(200);
/// No test waits so long unless the cache has no bound, or one that is not the one that was set.
const BOUND: Duration = Duration::from_secs(20);

fn blob(digest: &Digest) -> String {
    format!("/v2/a/blobs/{digest}")
}

/// The answer, which has to come in time.
async fn get(server: &TestServer, path: &str) -> Reply {
    tokio::time::timeout(BOUND, server.get(path)).await.unwrap()
}

/// Code and message of an error in the form that registries have for them.
fn said(reply: &Reply) -> (String, String) {
    let body: serde_json::Value = serde_json::from_slice(reply.content()).unwrap();
    let error = &body["errors"][0];
    let text = |name: &str| error[name].as_str().unwrap().to_owned();
    (text("code"), text("message"))
}

fn patient(builder: Builder) -> Builder {
    builder.tune(|options| options.timeouts.header = PATIENCE)
}

/// An address where connections are neither taken nor refused: its queue is full, and the kernel drops what more comes.
struct Deaf {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: TcpStream,
}

impl Deaf {
    async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Room for one that nobody accepts.
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            address,
            _waiting: TcpStream::connect(address).await.unwrap(),
            _listener: listener,
        }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_answers_is_waited_for_once_and_clients_are_told_in_time() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(5000, 1)]);
    let layer = blob(&image.layers[0]);
    for path in [
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{}", image.digest),
        layer.clone(),
    ] {
        let server = patient(TestServer::builder().upstream(HOST, &upstream));
        let server = server.start().await;
        upstream.forget();
        upstream.fault("GET ", Fault::Hang, 1);
        let reply = get(&server, &path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.header("retry-after"), "5", "{path}");
        let (code, message) = said(&reply);
        assert_eq!(code, "UNAVAILABLE", "{path}");
        assert!(message.contains("did not answer in time"), "{message}");
        // A second wait would only be another one.
        assert_eq!(upstream.count("GET "), 1, "{path}");
        assert_eq!(server.temporary_files(), 0);
        // And nobody waits for what has failed.
        assert_eq!(get(&server, &path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_takes_no_connection_is_waited_for_once_and_clients_are_told_in_time() {
    let deaf = Deaf::start().await;
    let good = FakeUpstream::start().await;
    let image = good.image("a", "v1", &[content(5000, 1)]);
    let paths = ["/v2/a/manifests/v1".to_owned(), blob(&image.layers[0])];
    let start = async |endpoints: &[String]| {
        let builder = TestServer::builder().endpoints(HOST, endpoints);
        let builder = builder.tune(|options| {
            options.timeouts.connect = PATIENCE;
            // Which is not what ends the wait.
            options.timeouts.header = Duration::from_hours(1);
        });
        builder.start().await
    };
    let waits = format!("larder_upstream_requests_total{{code=\"timeout\",upstream=\"{HOST}\"}}");
    for path in &paths {
        let server = start(&[deaf.endpoint()]).await;
        let reply = get(&server, path).await;
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.header("retry-after"), "5", "{path}");
        let (code, message) = said(&reply);
        assert_eq!(code, "UNAVAILABLE", "{path}");
        assert!(message.contains("did not answer in time"), "{message}");
        assert_eq!(server.metric(&waits).await, 1, "{path}");

        let server = start(&[deaf.endpoint(), good.endpoint()]).await;
        assert_eq!(get(&server, path).await.status, 200, "{path}");
        assert_eq!(server.metric(&waits).await, 1, "{path}");
    }
}

/// Paths of a cold manifest and a cold blob, which all of these have.
fn cold(upstreams: &[&FakeUpstream]) -> [String; 3] {
    let images: Vec<_> = upstreams
        .iter()
        .map(|upstream| upstream.image("a", "v1", &[content(5000, 1)]))
        .collect();
    paths(&images[0])
}

/// Of the manifest by tag and by digest, and of the first layer.
fn paths(image: &Image) -> [String; 3] {
    [
        "/v2/a/manifests/v1".to_owned(),
        format!("/v2/a/manifests/{}", image.digest),
        blob(&image.layers[0]),
    ]
}

/// Nothing but the bound of the whole ends the wait.
fn bounded(builder: Builder) -> Builder {
    builder.tune(|options| {
        options.timeouts.header = Duration::from_hours(1);
        options.timeouts.queue = Duration::from_hours(1);
        options.timeouts.answer = PATIENCE;
    })
}

/// The client is sent to the next host, and comes back.
fn is_sent_away(reply: &Reply) {
    assert_eq!(reply.status, 503);
    assert_eq!(reply.header("retry-after"), "5");
    let (code, message) = said(reply);
    assert_eq!(code, "UNAVAILABLE");
    assert!(message.contains(" in time"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_never_answer_share_the_time_that_a_client_waits() {
    let [first, second] = [FakeUpstream::start().await, FakeUpstream::start().await];
    let endpoints = [first.endpoint(), second.endpoint()];
    for path in cold(&[&first, &second]) {
        let server = bounded(TestServer::builder().endpoints(HOST, &endpoints));
        let server = server.start().await;
        first.forget();
        first.fault("", Fault::Hang, 1);
        is_sent_away(&get(&server, &path).await);
        assert_eq!((first.count(""), second.count("")), (1, 0), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_realm_of_tokens_is_waited_for_no_longer_than_a_hung_upstream() {
    let upstream = FakeUpstream::start().await;
    let realm = FakeUpstream::start().await;
    upstream.require_token(Some(&format!("{}/v2/hang", realm.endpoint())));
    let text = format!(
        "defaultUpstream: {HOST}\nupstreams: [{{host: {HOST}, endpoints: [\"{}\"], authRealms: [\"{}\"]}}]\n",
        upstream.endpoint(),
        realm.endpoint()
    );
    for path in cold(&[&upstream]) {
        let server = bounded(TestServer::builder().policy(&text)).start().await;
        realm.forget();
        realm.fault("", Fault::Hang, 1);
        is_sent_away(&get(&server, &path).await);
        assert_eq!(realm.count(""), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_place_behind_a_hung_request_waits_no_longer_than_others() {
    let upstream = FakeUpstream::start().await;
    let text = format!(
        "defaultUpstream: {HOST}\nupstreams: [{{host: {HOST}, endpoints: [\"{}\"], limits: {{concurrency: 1}}}}]\n",
        upstream.endpoint()
    );
    let gate = Gate::closed();
    let held = blob(&upstream.blob("a", content(60_000, 9)));
    upstream.fault("/blobs/", Fault::Gated(gate.clone()), 1);
    let paths = cold(&[&upstream]);
    let server = bounded(TestServer::builder().policy(&text)).start().await;
    let holding = server.send(http::Method::GET, &held, &[]).await;
    assert_eq!(upstream.count(""), 1);
    for path in paths {
        is_sent_away(&get(&server, &path).await);
    }
    assert_eq!(upstream.count(""), 1);
    gate.open_for_good();
    assert!(holding.rest().await.is_complete());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_for_one_endpoint_in_vain_does_not_wait_for_it_again_since_another_is_away() {
    let hung = FakeUpstream::start().await;
    let away = FakeUpstream::start().await;
    away.stop().await;
    let endpoints = [hung.endpoint(), away.endpoint()];
    for path in cold(&[&hung]) {
        let server = patient(TestServer::builder().endpoints(HOST, &endpoints));
        let server = server.start().await;
        hung.forget();
        hung.fault("", Fault::Hang, 2);
        is_sent_away(&get(&server, &path).await);
        assert_eq!(hung.count(""), 1, "{path}");
        hung.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_whose_body_hangs_keeps_no_client_and_is_stored_when_it_comes() {
    let upstream = FakeUpstream::start().await;
    let paths = cold(&[&upstream]);
    for path in &paths[..2] {
        let server = TestServer::builder().upstream(HOST, &upstream);
        let server = server.tune(|options| options.timeouts.manifest = PATIENCE);
        let server = server.start().await;
        upstream.forget();
        let gate = Gate::closed();
        upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
        is_sent_away(&get(&server, path).await);
        gate.open_for_good();
        eventually("it is stored", || async {
            get(&server, path).await.cache_status() == "larder; hit"
        })
        .await;
        assert_eq!(upstream.count("GET "), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_needs_long_is_waited_for_as_long_as_the_policy_says() {
    let [slow, hung] = [FakeUpstream::start().await, FakeUpstream::start().await];
    let text = format!(
        "defaultUpstream: {HOST}
upstreams:
- {{host: {HOST}, endpoints: [\"{}\"], headerTimeout: 5m}}
- {{host: hung.test, endpoints: [\"{}\"]}}
",
        slow.endpoint(),
        hung.endpoint()
    );
    // Other content: the fill of a blob is one for all upstreams.
    let other = hung.image("a", "v1", &[content(5000, 2)]);
    for (path, other) in cold(&[&slow]).into_iter().zip(paths(&other)) {
        let server = TestServer::builder().policy(&text).tune(|options| {
            options.timeouts.header = PATIENCE;
            options.timeouts.answer = PATIENCE;
            options.timeouts.manifest = PATIENCE;
        });
        let server = server.start().await;
        let gate = Gate::closed();
        slow.fault("GET ", Fault::Late(gate.clone()), 1);
        hung.fault("GET ", Fault::Hang, 1);
        let told_first = async {
            eventually("it is asked", || async { slow.count("GET ") == 1 }).await;
            is_sent_away(&get(&server, &format!("{other}?ns=hung.test")).await);
            gate.open_for_good();
        };
        let (reply, ()) = tokio::join!(get(&server, &path), told_first);
        assert_eq!(reply.status, 200, "{path}");
        slow.forget();
        hung.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_of_two_repositories_is_waited_for_once_at_an_upstream_that_hangs() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(5000, 1);
    let layer = upstream.blob("a", bytes.clone());
    upstream.blob("b", bytes);
    let server = TestServer::builder().upstream(HOST, &upstream);
    // Time enough for the second client to come while the first one waits.
    let patience = Duration::from_secs(3);
    let server = server.tune(move |options| options.timeouts.answer = patience);
    let server = server.start().await;
    upstream.fault("GET ", Fault::Hang, 9);
    let (path, other) = (blob(&layer), format!("/v2/b/blobs/{layer}"));
    let second = async {
        eventually("it is asked for", || async { upstream.count("GET ") == 1 }).await;
        get(&server, &other).await
    };
    let (first, second) = tokio::join!(get(&server, &path), second);
    is_sent_away(&first);
    is_sent_away(&second);
    assert_eq!(upstream.count("HEAD /v2/b/"), 1);
    assert_eq!(upstream.count("GET "), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_blob_of_a_busy_upstream_waits_for_the_pause_that_it_asked_for() {
    let upstream = FakeUpstream::start().await;
    let [first, second] = [1, 2].map(|seed| blob(&upstream.blob("a", content(5000, seed))));
    let server = TestServer::of(&upstream).await;
    upstream.fault("", Fault::StatusWith(429, "retry-after", "120"), 1);
    // The second one is not even asked for.
    for (path, left) in [(&first, "120"), (&second, "90")] {
        let reply = server.get(path).await;
        let told = (reply.status.as_u16(), reply.header("retry-after"));
        assert_eq!(told, (503, left));
        let (code, message) = said(&reply);
        assert_eq!(code, "UNAVAILABLE");
        assert!(message.contains("it asked for a pause"), "{message}");
        assert_eq!(upstream.count(""), 1);
        server.advance(Duration::from_secs(30));
    }
    server.advance(Duration::from_mins(1));
    for path in [first, second] {
        assert_eq!(server.get(&path).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_blob_comes_at_the_second_try_and_after_two_failures_for_the_next_client() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(5000, 1);
    let layer = upstream.blob("a", bytes.clone());
    for (failures, expected, requests) in [(1, &[200][..], 2), (2, &[503, 200][..], 3)] {
        let server = TestServer::of(&upstream).await;
        upstream.forget();
        upstream.fault("GET ", Fault::Status(503), failures);
        for status in expected {
            let reply = server.get(&blob(&layer)).await;
            assert_eq!(reply.status, *status, "{failures}");
            if *status == 200 {
                assert!(reply.content() == bytes);
            } else {
                assert_eq!(reply.header("retry-after"), "5");
                assert_eq!(said(&reply).0, "UNAVAILABLE");
            }
        }
        server.settled().await;
        assert!(server.has_blob(&layer));
        assert_eq!(upstream.count("GET "), requests, "{failures}");
    }
}

/// How an endpoint does not give what it has.
const REFUSALS: [Fault; 3] = [
    Fault::StatusWith(429, "retry-after", "120"),
    Fault::Status(503),
    Fault::Hang,
];

/// Two endpoints that have the same blob, and a cache that asks them in this order.
async fn two_endpoints(bytes: &[u8]) -> ([FakeUpstream; 2], Digest, TestServer) {
    let both = [FakeUpstream::start().await, FakeUpstream::start().await];
    let [layer, _] = both.each_ref().map(|one| one.blob("a", bytes.to_vec()));
    let endpoints = both.each_ref().map(FakeUpstream::endpoint);
    let server = patient(TestServer::builder().endpoints(HOST, &endpoints));
    (both, layer, server.start().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_blob_that_one_endpoint_does_not_give_comes_from_the_next() {
    let bytes = content(100_000, 1);
    for fault in REFUSALS {
        let ([bad, good], layer, server) = two_endpoints(&bytes).await;
        bad.fault("", fault, 99);
        let reply = get(&server, &blob(&layer)).await;
        assert!(reply.content() == bytes);
        assert_eq!(reply.cache_status(), "larder; fwd=miss; stored");
        server.settled().await;
        assert!(server.has_blob(&layer));
        assert_eq!((bad.count(""), good.count("")), (1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_body_that_one_endpoint_broke_off_comes_from_the_next() {
    let bytes = content(100_000, 1);
    for fault in REFUSALS {
        let ([bad, good], layer, server) = two_endpoints(&bytes).await;
        bad.fault("", Fault::Truncate(30_000), 1);
        bad.fault("", fault, 99);
        let reply = get(&server, &blob(&layer)).await;
        assert!(reply.content() == bytes);
        server.settled().await;
        assert!(server.has_blob(&layer));
        // No byte came twice.
        assert_eq!((bad.body_bytes(), good.body_bytes()), (30_000, 70_000));
    }
}
