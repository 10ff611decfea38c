//! Requests that two parties could read as different ones, and those that are too large: one answer, and an end where the rest
//! of the connection can't be trusted.

use crate::support::{FakeUpstream, Raw, TestServer};

/// What the server says to these bytes: the statuses of its answers, and whether it then ends the connection.
async fn said(server: &TestServer, bytes: &str) -> (Vec<u16>, bool) {
    let mut client = Raw::connect(server.data_address()).await;
    client.write(bytes).await;
    // Marks the end of what is sent: where the connection goes on, this is answered. Where it has ended, it may not get there.
    client
        .try_write("GET /v2/end HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
        .await;
    let to_head = bytes.starts_with("HEAD");
    let mut statuses = Vec::new();
    let mut end = false;
    while let Some(reply) = client.next_reply(to_head && statuses.is_empty()).await {
        assert!(reply.whole);
        end = reply.body.windows(12).any(|text| text == b"nothing at t");
        statuses.push(reply.status);
    }
    if end {
        statuses.pop();
    }
    (statuses, !end)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_is_refused_and_ends_the_connection() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    let hidden = "GET /v2/hidden/manifests/x HTTP/1.1\r\nHost: c\r\n\r\n";
    let chunked = format!("{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let length = hidden.len();
    for (what, request) in [
        (
            "both",
            format!(
                "GET /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{hidden}"
            ),
        ),
        (
            "both, the other way",
            format!(
                "GET /v2/ HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n{chunked}"
            ),
        ),
        (
            "a chunked body",
            format!("GET /v2/ HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        ),
        (
            "another coding",
            format!("GET /v2/ HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: identity\r\n\r\n{hidden}"),
        ),
        (
            "a coding in disguise",
            format!("GET /v2/ HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: xchunked\r\n\r\n{hidden}"),
        ),
        (
            "two lengths",
            format!(
                "GET /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\nContent-Length: {length}\r\n\r\n{hidden}"
            ),
        ),
        (
            "a length",
            format!("HEAD /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length: {length}\r\n\r\n{hidden}"),
        ),
        (
            "a list of lengths",
            format!("GET /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length: 0, {length}\r\n\r\n{hidden}"),
        ),
        (
            "a length with a sign",
            format!("GET /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length: +{length}\r\n\r\n{hidden}"),
        ),
        (
            "an old client's coding",
            format!("GET /v2/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}"),
        ),
        (
            "a folded header",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nX-A: b\r\n Transfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
        ),
        (
            "a space before the colon",
            format!("GET /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length : {length}\r\n\r\n{hidden}"),
        ),
        (
            "a carriage return in a value",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nX-A: b\rX-C: d\r\n\r\n".to_owned(),
        ),
        (
            "a zero byte",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nX-A: \0\r\n\r\n".to_owned(),
        ),
        ("no version", "GET /v2/\r\n\r\n".to_owned()),
    ] {
        let (statuses, ended) = said(&server, &request).await;
        assert_eq!(statuses, [400], "{what}");
        assert!(ended, "{what}");
    }
    // Not even a status: in clear text it is no request at all.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(said(&server, preface).await, (vec![], true));
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_means_one_thing_is_one_request() {
    let upstream = FakeUpstream::start().await;
    upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    for (what, request, expected) in [
        (
            "a length of nothing",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nContent-Length: 0\r\n\r\n",
            200,
        ),
        ("bare line feeds", "GET /v2/ HTTP/1.1\nHost: c\n\n", 200),
        (
            "the form for proxies",
            "GET http://169.254.169.254/v2/a/manifests/v1 HTTP/1.1\r\nHost: c\r\n\r\n",
            200,
        ),
        (
            "that form with a user",
            "GET http://user:word@10.0.0.1/latest/meta-data HTTP/1.1\r\nHost: c\r\n\r\n",
            404,
        ),
        (
            "an upgrade that nobody takes",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            200,
        ),
        (
            "a websocket that nobody opens",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            200,
        ),
        (
            "an expectation without a body",
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nExpect: 100-continue\r\n\r\n",
            200,
        ),
    ] {
        let (statuses, ended) = said(&server, request).await;
        assert_eq!(statuses, [expected], "{what}");
        assert!(!ended, "{what}");
    }
    assert_eq!(upstream.count("/manifests/v1"), upstream.count(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_and_other_methods_are_refused_and_end_the_connection() {
    let server = TestServer::of(&FakeUpstream::start().await).await;
    for method in [
        "CONNECT 10.0.0.1:443",
        "POST /v2/",
        "PUT /v2/",
        "PATCH /v2/",
        "DELETE /v2/",
        "OPTIONS *",
        "TRACE /v2/",
        "PURGE /v2/",
    ] {
        let request = format!("{method} HTTP/1.1\r\nHost: c\r\n\r\n");
        assert_eq!(said(&server, &request).await, (vec![405], true), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_too_large_are_refused_by_what_is_too_large() {
    let server = TestServer::of(&FakeUpstream::start().await).await;
    let uri = |length: usize| format!("GET /v2/{} HTTP/1.1\r\nHost: c\r\n\r\n", "a".repeat(length));
    let header = |length: usize| {
        format!(
            "GET /v2/ HTTP/1.1\r\nHost: c\r\nX-A: {}\r\n\r\n",
            "a".repeat(length)
        )
    };
    let headers = |count: usize| {
        format!(
            "GET /v2/ HTTP/1.1\r\nHost: c\r\n{}\r\n",
            "X-A: b\r\n".repeat(count)
        )
    };
    for (what, request, expected, ended) in [
        ("a long path", uri(9000), 414, true),
        ("a path of a megabyte", uri(1 << 20), 431, true),
        ("a large header", header(40_000), 431, true),
        ("a header of a megabyte", header(1 << 20), 431, true),
        ("200 headers", headers(200), 431, true),
        ("a token as large as they come", header(16_000), 200, false),
        ("90 headers", headers(90), 200, false),
    ] {
        let found = said(&server, &request).await;
        assert_eq!(found, (vec![expected], ended), "{what}");
    }
    // With the body that registries' clients read, where the request could be read at all.
    for (request, reason) in [(uri(9000), "8 KiB"), (header(40_000), "32 KiB")] {
        let mut client = Raw::connect(server.data_address()).await;
        client.write(&request).await;
        let body = client.reply(false).await.body;
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let message = body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
    }
}
