//! The data port in TLS: the same bytes, and certificates that change under a running server.

use std::os::unix::fs::symlink;

use crate::support::{
    Authority, Builder, FakeUpstream, HOST, TestServer, content, digest, eventually,
};

type Kind = fn(Builder) -> Builder;

const SIZES: [usize; 5] = [
    0,
    1,
    64 * 1024 + 1,
    2 * 1024 * 1024 + 1,
    9 * 1024 * 1024 + 7,
];

/// Expiry that the server shows, in seconds since 1970.
async fn expiry(server: &TestServer) -> u64 {
    server
        .metric("larder_tls_certificate_expiry_timestamp_seconds")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whole_bodies_and_ranges_are_right_on_every_kind_of_connection() {
    let kinds: [(Kind, http::Version); 3] = [
        (|builder| builder, http::Version::HTTP_11),
        (
            |builder| builder.tls().first_version(),
            http::Version::HTTP_11,
        ),
        (Builder::tls, http::Version::HTTP_2),
    ];
    let upstream = FakeUpstream::start().await;
    let mut random = fastrand::Rng::with_seed(3);
    for (kind, version) in kinds {
        let server = kind(TestServer::builder().upstream(HOST, &upstream))
            .start()
            .await;
        for (seed, size) in (1..).zip(SIZES) {
            let bytes = content(size, seed);
            let path = format!("/v2/a/blobs/{}", upstream.blob("a", bytes.clone()));
            for outcome in ["larder; fwd=miss; stored", "larder; hit"] {
                let reply = server.get(&path).await;
                assert_eq!(reply.version, version);
                assert_eq!(reply.cache_status(), outcome);
                assert_eq!(digest(reply.content()), digest(&bytes), "{size}");
                server.settled().await;
            }
            for _ in 0..10.min(size) {
                let first = random.usize(..size);
                let last = random.usize(first..size);
                let reply = server
                    .get_range(&path, &format!("bytes={first}-{last}"))
                    .await;
                assert_eq!(reply.status, 206);
                assert!(reply.content() == &bytes[first..=last], "{first}-{last}");
            }
        }
        // Files over TLS are read; the kernel never got a marker that was not its own.
        let failures = server.metric("larder_sendfile_guard_failures_total").await;
        assert_eq!(failures, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_of_one_connection_are_kept_apart() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::secure(&upstream).await;
    let blobs: Vec<_> = (0..24)
        .map(|seed| {
            upstream.blob(
                "a",
                content(300_000 + 1000 * usize::try_from(seed).unwrap(), seed),
            )
        })
        .collect();
    let paths: Vec<_> = blobs
        .iter()
        .map(|blob| format!("/v2/a/blobs/{blob}"))
        .collect();
    for _ in 0..2 {
        let replies = futures::future::join_all(paths.iter().map(|path| server.get(path))).await;
        for (reply, blob) in replies.iter().zip(&blobs) {
            assert_eq!(reply.version, http::Version::HTTP_2);
            assert_eq!(digest(reply.content()), *blob);
        }
    }
    assert_eq!(server.metric("larder_connections").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn clear_text_has_a_port_of_its_own_where_tls_has_one() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tls()
        .tune(|options| {
            let tls = options.static_config.tls.as_mut().unwrap();
            tls.listen = Some("127.0.0.1:0".parse().unwrap());
        })
        .start()
        .await;
    let secure = server.tls_address().unwrap();
    assert_ne!(secure, server.data_address());
    let client = server.other_client(None);
    for url in [
        format!("https://{secure}/v2/a/manifests/v1"),
        format!("http://{}/v2/a/manifests/v1", server.data_address()),
    ] {
        let reply = client.get(url).send().await.unwrap();
        assert_eq!(reply.bytes().await.unwrap(), image.manifest);
    }
    // Each port speaks one of them.
    assert!(
        client
            .get(format!("https://{}/v2/", server.data_address()))
            .send()
            .await
            .is_err()
    );
    assert!(
        client
            .get(format!("http://{secure}/v2/"))
            .send()
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_within_seconds_and_a_broken_one_is_not() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::secure(&upstream).await;
    let authority = server.authority.clone().unwrap();
    let files = authority.write(&server.directory.path().join("tls"), false);
    let good = "larder_tls_last_reload_successful";
    assert_eq!(server.metric(good).await, 1);
    // 2100-01-01 and 2060-01-01.
    assert_eq!(expiry(&server).await, 4_102_444_800);
    authority.issue_until("127.0.0.1", 2060).write(&files);
    eventually("the new one is shown", || async {
        expiry(&server).await == 2_840_140_800
    })
    .await;

    let key = std::fs::read(&files.key_file).unwrap();
    let stranger = Authority::new().issue("127.0.0.1").key;
    for broken in [
        stranger.as_str(),
        "",
        "-----BEGIN PRIVATE KEY-----\nS3cr3t\n",
    ] {
        std::fs::write(&files.key_file, broken).unwrap();
        eventually("it is refused", || async { server.metric(good).await == 0 }).await;
        let reply = server
            .other_client(None)
            .get(format!("{}/v2/", server.data_url()))
            .send()
            .await;
        assert_eq!(reply.unwrap().status(), 200);
        std::fs::write(&files.key_file, &key).unwrap();
        eventually("it is taken again", || async {
            server.metric(good).await == 1
        })
        .await;
    }
    assert_eq!(expiry(&server).await, 2_840_140_800);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_a_new_authority_waits_until_clients_know_it() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = [Authority::new(), Authority::new()];
    let mut files = old.write(directory.path(), false);
    old.issue_until("127.0.0.1", 2060).write(&files);
    let known = directory.path().join("known.crt");
    std::fs::write(&known, &old.pem).unwrap();
    files.known_authority_file = Some(known.clone());
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tune({
            let files = files.clone();
            move |options| options.static_config.tls = Some(files)
        })
        .start()
        .await;
    let good = "larder_tls_last_reload_successful";
    eventually("the certificate is in use", || async {
        server.metric(good).await == 1
    })
    .await;
    new.issue_until("127.0.0.1", 2100).write(&files);
    eventually("the new one is seen", || async {
        server.metric(good).await == 0
    })
    .await;
    // 2060-01-01.
    assert_eq!(expiry(&server).await, 2_840_140_800);
    // A renewal by the authority that is known goes ahead.
    old.issue_until("127.0.0.1", 2061).write(&files);
    eventually("the renewed one is used", || async {
        expiry(&server).await == 2_871_763_200
    })
    .await;
    new.issue_until("127.0.0.1", 2100).write(&files);
    eventually("the new one is seen again", || async {
        server.metric(good).await == 0
    })
    .await;
    std::fs::write(&known, format!("{}{}", old.pem, new.pem)).unwrap();
    eventually("the new one is used", || async {
        expiry(&server).await == 4_102_444_800
    })
    .await;
    assert_eq!(server.metric(good).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_ended_is_replaced_by_one_of_any_authority() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let [old, new] = [Authority::new(), Authority::new()];
    let mut files = old.write(directory.path(), false);
    old.issue_until("127.0.0.1", 2001).write(&files);
    let known = directory.path().join("known.crt");
    std::fs::write(&known, &old.pem).unwrap();
    files.known_authority_file = Some(known);
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tune({
            let files = files.clone();
            move |options| options.static_config.tls = Some(files)
        })
        .start()
        .await;
    new.issue_until("127.0.0.1", 2100).write(&files);
    eventually("the new one is used", || async {
        expiry(&server).await == 4_102_444_800
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mounted_secret_that_changes_by_a_swap_of_symlinks_is_seen() {
    let upstream = FakeUpstream::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mount = directory.path().to_owned();
    let authority = Authority::new();
    let version = |name: &str, year: i32| {
        let mut files = authority.write(&mount.join(name), false);
        authority.issue_until("127.0.0.1", year).write(&files);
        let next = mount.join("..data_tmp");
        symlink(name, &next).unwrap();
        std::fs::rename(next, mount.join("..data")).unwrap();
        files.certificate_file = mount.join("tls.crt");
        files.key_file = mount.join("tls.key");
        files
    };
    let files = version("..one", 2060);
    symlink("..data/tls.crt", &files.certificate_file).unwrap();
    symlink("..data/tls.key", &files.key_file).unwrap();
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tune(move |options| options.static_config.tls = Some(files))
        .start()
        .await;
    assert_eq!(expiry(&server).await, 2_840_140_800);
    version("..two", 2100);
    eventually("the new one is shown", || async {
        expiry(&server).await == 4_102_444_800
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_does_not_come_is_given_up() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tls()
        .tune(|options| {
            options.static_config.connections.header_timeout = crds::values::Duration::from_secs(1);
        })
        .start()
        .await;
    let mut silent = crate::support::Raw::connect(server.data_address()).await;
    let mut clear = crate::support::Raw::connect(server.data_address()).await;
    clear.write("GET /v2/ HTTP/1.1\r\nHost: c\r\n\r\n").await;
    assert!(silent.is_at_end().await);
    // An alert of TLS, and no answer in clear text.
    let alert = clear.rest(1000).await;
    assert!(alert.len() < 20, "{alert:?}");
    // Counted a moment after the connection ended.
    eventually("both are counted", || async {
        server.metric("larder_tls_handshake_failures_total").await == 2
    })
    .await;
    assert_eq!(server.get("/v2/").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_authority_opens_nothing() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .mutual_tls()
        .start()
        .await;
    let authority = server.authority.clone().unwrap();
    let url = format!("{}/v2/", server.data_url());
    let [ours, theirs] = [
        authority.issue("node.test"),
        Authority::new().issue("node.test"),
    ];
    for (pair, welcome) in [(None, true), (Some(&ours), true), (Some(&theirs), false)] {
        let reply = server.other_client(pair).get(&url).send().await;
        assert_eq!(reply.is_ok_and(|reply| reply.status() == 200), welcome);
    }
}
