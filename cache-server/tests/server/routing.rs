//! Which upstream and repository a request means, and who may have what the store holds.

use std::io::{Read, Write};
use std::net::TcpStream;

use http::Method;

use crate::support::{FakeUpstream, TestServer, content};

#[tokio::test(flavor = "multi_thread")]
async fn the_query_the_path_and_the_default_choose_the_upstream() {
    let (hub, quay) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let official = hub.image("library/alpine", "3", &[]);
    let other = quay.image("team/app", "3", &[]);
    let server = TestServer::builder()
        .upstream("docker.io", &hub)
        .upstream("quay.io", &quay)
        .start()
        .await;
    for (path, image, namespace) in [
        (
            "/v2/library/alpine/manifests/3?ns=docker.io",
            &official,
            "docker.io",
        ),
        (
            "/v2/library/alpine/manifests/3?ns=registry-1.docker.io",
            &official,
            "docker.io",
        ),
        ("/v2/docker.io/library/alpine/manifests/3", &official, ""),
        ("/v2/docker.io/alpine/manifests/3", &official, ""),
        ("/v2/alpine/manifests/3", &official, ""),
        ("/v2/team/app/manifests/3?ns=quay.io", &other, "quay.io"),
        ("/v2/quay.io/team/app/manifests/3", &other, ""),
    ] {
        let reply = server.get(path).await;
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(reply.content(), &image.manifest[..], "{path}");
        assert_eq!(reply.header("oci-namespace"), namespace, "{path}");
    }
    assert_eq!((hub.requests().len(), quay.requests().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_namespace_is_not_dialled() {
    let upstream = FakeUpstream::start().await;
    let stranger = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    let address = stranger.address;
    for path in [
        format!("/v2/a/manifests/x?ns={address}"),
        format!("/v2/a/manifests/x?ns=http%3A%2F%2F{address}"),
        format!("/v2/{address}/a/manifests/x"),
    ] {
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 404, "{path}");
        assert!(String::from_utf8_lossy(reply.content()).contains("NAME_UNKNOWN"));
    }
    assert_eq!(
        (upstream.requests().len(), stranger.requests().len()),
        (0, 0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_digests_are_the_clients_fault() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for (path, status, code) in [
        ("/v2/UPPER/manifests/x", 400, "NAME_INVALID"),
        ("/v2/a/blobs/sha256:abc", 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/sha256:abc", 400, "DIGEST_INVALID"),
        ("/v2/a/manifests/-", 400, "TAG_INVALID"),
        ("/v2/_catalog", 404, "UNSUPPORTED"),
        ("/", 404, "UNSUPPORTED"),
    ] {
        let reply = server.get(path).await;
        let body = String::from_utf8_lossy(reply.content()).into_owned();
        assert_eq!(reply.status.as_u16(), status, "{path}");
        assert!(body.contains(code), "{path}: {body}");
    }
    let ping = server.get("/v2/").await;
    assert_eq!((ping.status.as_u16(), ping.content()), (200, &b"{}"[..]));
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_get_and_head_are_served() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for method in [
        Method::PUT,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ] {
        let reply = server
            .send(method.clone(), "/v2/a/manifests/x", &[])
            .await
            .rest()
            .await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("allow"), "GET, HEAD");
        assert!(String::from_utf8_lossy(reply.content()).contains("UNSUPPORTED"));
    }
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_ends_its_connection() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    let address = server.data_address();
    for head in [
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "HEAD /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let reply = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            let mut reply = Vec::new();
            // The end of the connection ends this.
            let _ = stream.read_to_end(&mut reply);
            String::from_utf8_lossy(&reply).into_owned()
        })
        .await
        .unwrap();
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
        assert!(reply.contains("connection: close"), "{reply}");
        assert_eq!(reply.matches("HTTP/1.1").count(), 1, "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_content_is_served_to_those_whose_repository_has_it() {
    let upstream = FakeUpstream::start().await;
    let secret = content(5000, 1);
    let image = upstream.image("private/app", "v1", std::slice::from_ref(&secret));
    let server = TestServer::of(&upstream).await;
    let layer = &image.layers[0];
    server
        .get(&format!("/v2/private/app/blobs/{layer}"))
        .await
        .body
        .unwrap();
    server
        .get("/v2/private/app/manifests/v1")
        .await
        .body
        .unwrap();

    // Knowing a digest is not having the content.
    for path in [
        format!("/v2/other/app/blobs/{layer}"),
        format!("/v2/other/app/manifests/{}", image.digest),
    ] {
        for reply in [
            server.get(&path).await,
            server.head(&path).await,
            server.get_range(&path, "bytes=0-9").await,
        ] {
            assert_eq!(reply.status, 404, "{path}");
        }
    }

    // The upstream's word opens it, and is remembered.
    upstream.image("other/app", "v1", std::slice::from_ref(&secret));
    upstream.forget();
    let confirmed = server.get(&format!("/v2/other/app/blobs/{layer}")).await;
    assert_eq!(confirmed.content(), secret);
    assert_eq!(confirmed.cache_status(), "larder; hit; detail=revalidated");
    assert_eq!(
        upstream.requests(),
        [format!("HEAD /v2/other/app/blobs/{layer}")]
    );
    let hit = server.get(&format!("/v2/other/app/blobs/{layer}")).await;
    assert_eq!(hit.cache_status(), "larder; hit");
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_the_repository_opens_what_it_refers_to() {
    let upstream = FakeUpstream::start().await;
    let shared = content(5000, 1);
    let first = upstream.image("a", "v1", std::slice::from_ref(&shared));
    let second = upstream.image("b", "v1", std::slice::from_ref(&shared));
    let server = TestServer::of(&upstream).await;
    let layer = &first.layers[0];
    server
        .get(&format!("/v2/a/blobs/{layer}"))
        .await
        .body
        .unwrap();
    server.get("/v2/b/manifests/v1").await.body.unwrap();
    upstream.forget();
    let reply = server.get(&format!("/v2/b/blobs/{layer}")).await;
    assert_eq!(reply.cache_status(), "larder; hit");
    assert_eq!(upstream.requests(), [""; 0]);

    // Children of an index too, whatever repository brought them.
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#,
        second.digest
    );
    upstream.manifest(
        "c",
        "multi",
        cache_server::oci::media_type::OCI_INDEX,
        index,
    );
    server.get("/v2/c/manifests/multi").await.body.unwrap();
    upstream.forget();
    let child = server
        .get(&format!("/v2/c/manifests/{}", second.digest))
        .await;
    assert_eq!(child.content(), &second.manifest[..]);
    assert_eq!(
        child.header("content-type"),
        cache_server::oci::media_type::OCI_MANIFEST
    );
    let blob = server.get(&format!("/v2/c/blobs/{layer}")).await;
    assert_eq!(blob.cache_status(), "larder; hit");
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_fill_of_one_repository_is_closed_to_another() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(200_000, 1);
    let layer = upstream.blob("private/app", bytes.clone());
    let gate = crate::support::Gate::closed();
    upstream.fault(
        "GET /v2/private/",
        crate::support::Fault::Gated(gate.clone()),
        1,
    );
    let server = TestServer::of(&upstream).await;
    gate.open(1);
    let mut download = server
        .send(Method::GET, &format!("/v2/private/app/blobs/{layer}"), &[])
        .await;
    download.next().await.unwrap();
    let stranger = format!("/v2/other/app/blobs/{layer}");
    assert_eq!(server.get(&stranger).await.status, 404);
    assert_eq!(server.get_range(&stranger, "bytes=5-9").await.status, 404);
    upstream.blob("other/app", bytes.clone());
    let friend = server.send(Method::GET, &stranger, &[]).await;
    gate.open_for_good();
    assert!(friend.rest().await.content() == bytes);
    assert_eq!(upstream.count("GET "), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_row_on_one_connection_get_their_own_answers() {
    let upstream = FakeUpstream::start().await;
    let bytes = content(700_000, 1);
    let layer = upstream.blob("a", bytes.clone());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/blobs/{layer}");
    server.get(&path).await.body.unwrap();
    let address = server.data_address();
    let heads = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\n\r\nHEAD {path} HTTP/1.1\r\nHost: x\r\n\r\nGET {path} HTTP/1.1\r\nHost: x\r\nRange: bytes=-5\r\nConnection: close\r\n\r\n"
    );
    let replies = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(heads.as_bytes()).unwrap();
        let mut replies = Vec::new();
        stream.read_to_end(&mut replies).unwrap();
        replies
    })
    .await
    .unwrap();
    let end_of_head = |bytes: &[u8]| {
        bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap()
            + 4
    };
    let (whole, rest) = replies.split_at(end_of_head(&replies));
    assert!(whole.starts_with(b"HTTP/1.1 200"));
    let (body, rest) = rest.split_at(bytes.len());
    assert!(body == bytes);
    let (head, rest) = rest.split_at(end_of_head(rest));
    assert!(head.starts_with(b"HTTP/1.1 200"));
    let (part, body) = rest.split_at(end_of_head(rest));
    assert!(part.starts_with(b"HTTP/1.1 206"));
    assert_eq!(body, &bytes[bytes.len() - 5..]);
}
