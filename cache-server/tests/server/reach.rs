//! Where connections go: redirects, proxies, and who is shown in TLS.

use std::path::Path;

use crate::support::{FakeProxy, FakeUpstream, Fault, HOST, TestServer, content};

/// A cache of one upstream that has more lines in the policy.
async fn server(endpoint: &str, more: &str) -> TestServer {
    let text = format!(
        "defaultUpstream: {HOST}\nupstreams:\n- host: {HOST}\n  endpoints: [\"{endpoint}\"]\n{more}"
    );
    TestServer::builder().policy(&text).start().await
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_an_address_inside_is_refused() {
    let upstream = FakeUpstream::start().await;
    let layer = upstream.blob("a", content(10, 1));
    for target in [
        "http://127.0.0.2:9",
        "http://169.254.169.254",
        "http://10.0.0.1",
        "http://[::1]:9",
        "http://[fd00:ec2::254]",
        "http://[::ffff:169.254.169.254]",
        "http://[::ffff:7f00:1]:9",
        "http://[64:ff9b::a9fe:a9fe]",
        "http://[fe80::1]",
        "http://100.100.100.200",
        "http://192.0.0.192",
        // Other ways to write 127.0.0.2 and 169.254.169.254.
        "http://2130706434:9",
        "http://0x7f.2:9",
        "http://0251.0376.0251.0376",
        "http://0:9",
    ] {
        upstream.fault("/blobs/", Fault::Redirect(target.to_owned()), 1);
        let server = server(&upstream.endpoint(), "").await;
        let reply = server.get(&format!("/v2/a/blobs/{layer}")).await;
        let text = String::from_utf8_lossy(reply.content()).into_owned();
        assert_eq!(reply.status, 502, "{target}");
        assert!(text.contains("inside the network"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_inside_is_refused_unless_the_policy_names_it() {
    let (upstream, storage) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let bytes = content(1000, 1);
    let layer = upstream.blob("a", bytes.clone());
    storage.blob("a", bytes.clone());
    // Not the endpoint's name, and no address: what it is shows only when it is resolved.
    let port = storage.address.port();
    let target = format!("http://localhost:{port}");
    upstream.fault("/blobs/", Fault::Redirect(target), 99);
    let path = format!("/v2/a/blobs/{layer}");

    let closed = server(&upstream.endpoint(), "").await;
    let reply = closed.get(&path).await;
    let text = String::from_utf8_lossy(reply.content()).into_owned();
    assert_eq!(reply.status, 502, "{text}");
    assert!(
        text.contains("redirectHosts") && !text.contains("secret"),
        "{text}"
    );
    assert_eq!(storage.requests(), [""; 0]);

    let other = server(&upstream.endpoint(), "  redirectHosts: [\"localhost:1\"]\n").await;
    assert_eq!(other.get(&path).await.status, 502);
    let named = format!("  redirectHosts: [\"localhost:{port}\"]\n");
    let open = server(&upstream.endpoint(), &named).await;
    assert_eq!(open.get(&path).await.content(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_makes_a_tunnel_for_tls() {
    let (upstream, authority) = FakeUpstream::start_tls().await;
    let proxy = FakeProxy::start().await;
    let image = upstream.image("a", "v1", &[]);
    let files = tempfile::tempdir().unwrap();
    let more = format!(
        "  proxy: http://{}\n  caFile: {}\n",
        proxy.address,
        write(files.path(), "ca.pem", &authority)
    );
    let server = server(&upstream.endpoint(), &more).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(proxy.tunnels(), [upstream.address.to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_asked_for_names_that_only_it_knows() {
    let proxy = FakeUpstream::start().await;
    let image = proxy.image("a", "v1", &[]);
    let more = format!("  proxy: {}\n", proxy.endpoint());
    let server = server("http://unknown.invalid:5000", &more).await;
    let reply = server.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
    assert_eq!(
        proxy.requests(),
        ["GET http://unknown.invalid:5000/v2/a/manifests/v1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_an_upstream_that_wants_one() {
    let (upstream, issued) = FakeUpstream::start_mutual_tls().await;
    let image = upstream.image("a", "v1", &[]);
    let files = tempfile::tempdir().unwrap();
    let authority = write(files.path(), "ca.pem", &issued.authority);
    let without = format!("  caFile: {authority}\n");
    let closed = server(&upstream.endpoint(), &without).await;
    assert_eq!(closed.get("/v2/a/manifests/v1").await.status, 503);
    let with = format!(
        "{without}  clientCertificate: {{certificateFile: {}, keyFile: {}}}\n",
        write(files.path(), "tls.crt", &issued.client_certificate),
        write(files.path(), "tls.key", &issued.client_key)
    );
    let open = server(&upstream.endpoint(), &with).await;
    let reply = open.get("/v2/a/manifests/v1").await;
    assert_eq!(reply.content(), &image.manifest[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_client_key_is_a_broken_policy_that_shows_nothing_of_it() {
    let files = tempfile::tempdir().unwrap();
    let key = write(
        files.path(),
        "tls.key",
        "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n",
    );
    let more = format!("  clientCertificate: {{certificateFile: {key}, keyFile: {key}}}\n");
    let server = server("https://127.0.0.1:9", &more).await;
    let (status, reason) = server.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("client certificate"), "{reason}");
    assert!(!reason.contains("c2VjcmV0"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_name_in_a_request_leads_to_an_address() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "metadata.google.internal",
        "localhost",
        "127.0.0.1",
        "2130706433",
    ] {
        for path in [
            format!("/v2/a/manifests/v1?ns={host}"),
            format!("/v2/a/manifests/v1?ns={host}:80"),
            format!("/v2/a/manifests/v1?ns=r.test&ns={host}"),
            format!("/v2/a/manifests/v1?ns={host}&ns=r.test"),
            format!("/v2/{host}/a/manifests/v1"),
            format!("/v2/{host}:80/a/manifests/v1"),
        ] {
            let reply = server.get(&path).await;
            assert!([400, 404].contains(&reply.status.as_u16()), "{path}");
            assert!(!reply.headers.contains_key("www-authenticate"), "{path}");
        }
    }
    // What came to the only upstream was for its own names.
    for request in upstream.requests() {
        assert!(
            request.contains("/v2/a/") || request.contains("/a/manifests/v1"),
            "{request}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_realm_inside_the_network_is_not_asked_for_tokens() {
    for realm in [
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/token",
        "http://[::ffff:10.0.0.1]/token",
        "http://10.0.0.1/token",
        "http://localhost:9/token",
    ] {
        let upstream = FakeUpstream::start().await;
        upstream.image("a", "v1", &[]);
        upstream.require_token(Some(realm));
        let server = TestServer::of(&upstream).await;
        let reply = server.get("/v2/a/manifests/v1").await;
        assert_eq!(reply.status, 502, "{realm}");
        let text = String::from_utf8_lossy(reply.content()).into_owned();
        assert!(text.contains("realm"), "{text}");
    }
}
