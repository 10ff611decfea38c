//! Clients that are too many, too slow or silent: they end, and the others don't notice.

use std::time::Duration;

use crds::values::{ByteSize, Duration as Time};

use crate::support::{
    Builder, FakeUpstream, Fault, Gate, HOST, Raw, TestServer, content, eventually,
};

fn limited(
    upstream: &FakeUpstream,
    limits: impl FnOnce(&mut crds::static_config::Connections) + Send + 'static,
) -> Builder {
    TestServer::builder()
        .upstream(HOST, upstream)
        .tune(|options| limits(&mut options.static_config.connections))
}

async fn room_again(server: &TestServer) {
    eventually("there is room", || async {
        let mut client = Raw::connect(server.data_address()).await;
        client.get("/v2/").await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_ends_its_request_is_cut_and_so_is_one_that_says_nothing() {
    let upstream = FakeUpstream::start().await;
    let server = limited(&upstream, |limits| {
        limits.header_timeout = Time::from_secs(1);
    })
    .start()
    .await;
    let mut silent = Raw::connect(server.data_address()).await;
    let mut idle = Raw::connect(server.data_address()).await;
    assert_eq!(idle.get("/v2/").await.status, 200);
    let mut slow = Raw::connect(server.data_address()).await;
    slow.write("GET /v2/ HTTP/1.1\r\n").await;
    let writing = async {
        // A byte now and then does not buy time.
        while slow.try_write("X").await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (silent, idle, ()) = tokio::join!(silent.is_at_end(), idle.is_at_end(), writing);
    assert!(silent && idle);
    eventually("no connection is left", || async {
        server.metric("larder_connections").await == 0
    })
    .await;
    assert_eq!(server.get("/v2/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_nothing_is_cut_while_the_blob_is_filled_at_full_speed() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(24 << 20, 1);
    let blob = upstream.blob("a", bytes.clone());
    let server = limited(&upstream, |limits| {
        limits.stall_timeout = Time::from_secs(1);
    })
    .start()
    .await;
    let path = format!("/v2/a/blobs/{blob}");
    let request = format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n");
    let mut first = Raw::connect_narrow(server.data_address()).await;
    first.write(&request).await;
    first.head().await;
    // The fill does not wait for the only one who asked for it.
    server.settled().await;
    assert!(server.has_blob(&blob));
    // A file as the kernel sends it, and the reader of a fill.
    let mut second = Raw::connect_narrow(server.data_address()).await;
    second.write(&request).await;
    second.head().await;
    eventually("both are cut", || async {
        server.metric("larder_connections").await == 0
    })
    .await;
    for client in [&mut first, &mut second] {
        let received = client.rest(bytes.len()).await;
        assert!(received.len() < bytes.len() && bytes.starts_with(&received));
    }
    assert_eq!(server.get(&path).await.content(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_below_the_minimum_rate_is_cut_on_every_kind_of_connection() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(24 << 20, 1);
    let blob = upstream.blob("a", bytes.clone());
    let path = format!("/v2/a/blobs/{blob}");
    let kinds: [fn(Builder) -> Builder; 3] = [
        |builder| builder,
        |builder| builder.tls().first_version(),
        |builder| builder.tls(),
    ];
    for kind in kinds {
        let builder = limited(&upstream, |limits| {
            limits.rate_window = Time::from_secs(1);
            limits.minimum_rate = ByteSize::from_bytes(64 << 20);
        });
        let server = kind(builder).start().await;
        let mut client = server.send(http::Method::GET, &path, &[]).await;
        // Not read on: the rest waits in sockets, and beyond them in the server.
        let mut received = client.next().await.unwrap().unwrap();
        eventually("the client is cut", || async {
            server.metric("larder_connections_cut_total").await == 1
        })
        .await;
        let end = loop {
            match client.next().await {
                Ok(Some(more)) => received.extend(more),
                Ok(None) => break false,
                Err(_) => break true,
            }
        };
        assert!(end && bytes.starts_with(&received));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_below_the_minimum_rate_is_no_fault_of_the_client() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(100_000, 1);
    let blob = upstream.blob("a", bytes.clone());
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Gated(gate.clone()), 1);
    let server = limited(&upstream, |limits| {
        limits.header_timeout = Time::from_secs(1);
        limits.stall_timeout = Time::from_secs(1);
        limits.rate_window = Time::from_secs(1);
        limits.minimum_rate = ByteSize::from_bytes(1 << 30);
    })
    .start()
    .await;
    // A connection that says nothing shows when the times are over.
    let mut clock = Raw::connect(server.data_address()).await;
    let mut client = server
        .send(http::Method::GET, &format!("/v2/a/blobs/{blob}"), &[])
        .await;
    gate.open(1);
    let first = client.next().await.unwrap().unwrap();
    assert!(clock.is_at_end().await);
    let mut clock = Raw::connect(server.data_address()).await;
    assert!(clock.is_at_end().await);
    gate.open_for_good();
    let rest = client.rest().await;
    assert_eq!([&first, rest.content()].concat(), bytes);
    assert_eq!(server.metric("larder_connections_cut_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn those_beyond_the_bound_are_told_to_go_elsewhere_at_once() {
    let upstream = FakeUpstream::start().await;
    let blob = upstream.blob("a", content(16 << 20, 1));
    let path = format!("/v2/a/blobs/{blob}");
    let server = limited(&upstream, |limits| limits.maximum = 3)
        .start()
        .await;
    let mut busy = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::connect_narrow(server.data_address()).await;
        client
            .write(&format!("GET {path} HTTP/1.1\r\nHost: c\r\n\r\n"))
            .await;
        client.head().await;
        busy.push(client);
    }
    for number in 1..=40 {
        let mut client = Raw::connect(server.data_address()).await;
        let reply = client.get(&path).await;
        assert_eq!(reply.status, 503);
        assert_eq!(reply.headers["retry-after"], "5");
        assert!(client.is_at_end().await);
        let counted = server.metric("larder_connections_turned_away_total").await;
        assert_eq!(counted, number);
    }
    busy.pop();
    room_again(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_only_wait_make_room_for_new_ones() {
    let upstream = FakeUpstream::start().await;
    let server = limited(&upstream, |limits| limits.maximum = 2)
        .start()
        .await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = Raw::connect(server.data_address()).await;
        assert_eq!(client.get("/v2/").await.status, 200);
        waiting.push(client);
    }
    let mut next = Raw::connect(server.data_address()).await;
    assert_eq!(next.get("/v2/").await.status, 503);
    for client in &mut waiting {
        assert!(client.is_at_end().await);
    }
    room_again(&server).await;
}
