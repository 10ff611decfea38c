//! Starts, ends and what lies between two of them.

use http::Method;

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, content, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_served_after_a_restart_without_the_upstream() {
    let upstream = FakeUpstream::start().await;
    let layer = content(100_000, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&layer));
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await.body.unwrap();
    let path = format!("/v2/a/blobs/{}", image.layers[0]);
    server.get(&path).await.body.unwrap();
    let directory = server.stop().await;
    std::fs::write(directory.path().join("store/tmp/leftover"), "half").unwrap();
    upstream.stop().await;

    let server = TestServer::builder().directory(&directory).start().await;
    assert_eq!(server.temporary_files(), 0);
    assert_eq!(server.configz().await["source"], "file");
    let manifest = server.get("/v2/a/manifests/v1").await;
    assert_eq!(manifest.content(), &image.manifest[..]);
    let blob = server.get(&path).await;
    assert!(blob.content() == layer);
    assert_eq!(blob.cache_status(), "larder; hit");
    eventually("the store is added up", || async {
        server.metric("larder_store_used_bytes").await == 100_000 + image.manifest.len() as u64
    })
    .await;
    assert!(server.metric("larder_store_capacity_bytes").await > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_downloads_end_and_takes_no_new_ones() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(200_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
    let mut server = TestServer::of(&upstream).await;
    gate.open(1);
    let mut download = server
        .send(Method::GET, &format!("/v2/a/blobs/{layer}"), &[])
        .await;
    let mut received = download.next().await.unwrap().unwrap();

    server.begin_drain();
    eventually("the drain is said", || async {
        server.admin("/readyz").await == (503, "draining\n".into())
    })
    .await;
    let address = server.data_address();
    eventually("no one is let in", || async {
        tokio::net::TcpStream::connect(address).await.is_err()
    })
    .await;
    gate.open_for_good();
    received.extend(download.rest().await.content());
    assert!(received == bytes);
    server.finished().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_when_its_time_is_over() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(200_000, 1));
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
    let mut server = TestServer::builder()
        .upstream(HOST, &upstream)
        .drain_seconds(0)
        .start()
        .await;
    gate.open(1);
    let mut download = server
        .send(Method::GET, &format!("/v2/a/blobs/{layer}"), &[])
        .await;
    download.next().await.unwrap();
    let (store, _directory) = (server.store(), server.directory.clone());
    server.begin_drain();
    server.finished().await;
    assert!(download.rest().await.body.is_err());
    assert_eq!(std::fs::read_dir(store.join("tmp")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_page_says_what_each_is() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(5000, 1));
    let server = TestServer::of(&upstream).await;
    for _ in 0..2 {
        server
            .get(&format!("/v2/a/blobs/{layer}"))
            .await
            .body
            .unwrap();
    }
    eventually("the bytes are counted", || async {
        server
            .metric("larder_response_bytes_total{source=\"cache\",upstream=\"r.test\"}")
            .await
            == 5000
            && server
                .metric("larder_response_bytes_total{source=\"upstream\",upstream=\"r.test\"}")
                .await
                == 5000
    })
    .await;
    assert_eq!(
        server
            .metric("larder_upstream_bytes_total{upstream=\"r.test\"}")
            .await,
        5000
    );
    assert_eq!(
        server
            .metric("larder_upstream_requests_total{code=\"206\",upstream=\"r.test\"}")
            .await,
        1
    );
    // A count of ended fills is shown once one has ended.
    server.settled().await;
    let (_, page) = server.admin("/metrics").await;
    let help: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("# HELP"))
        .collect();
    insta::assert_snapshot!(help.join("\n"));
}
