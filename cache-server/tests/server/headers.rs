//! The headers that the distribution spec and its coming version ask for, on each kind of answer.

use cache_server::oci::{Algorithm, Digest, media_type};
use http::Method;

use crate::support::{FakeUpstream, Fault, HOST, Reply, TestServer, content};

/// A further page, as the upstream says.
const NEXT: &[(&str, &str)] = &[(
    "link",
    "<http://elsewhere.test/v2/x/tags/list?n=1&last=a>; rel=\"next\"",
)];

/// GET and HEAD, twice: cold and hot.
async fn ask_all_ways(server: &TestServer, path: &str) -> Vec<(Method, Reply)> {
    let mut replies = Vec::new();
    for method in [Method::HEAD, Method::GET, Method::HEAD, Method::GET] {
        let reply = server.send(method.clone(), path, &[]).await.rest().await;
        assert_eq!(reply.status, 200, "{method} {path}");
        server.settled().await;
        replies.push((method, reply));
    }
    replies
}

fn check(replies: &[(Method, Reply)], digest: &Digest, media_type: &str, content: &[u8]) {
    for (method, reply) in replies {
        let expected = if *method == Method::HEAD {
            &b""[..]
        } else {
            content
        };
        assert!(reply.content() == expected, "{method}");
        for (name, value) in [
            ("docker-content-digest", digest.to_string()),
            ("etag", format!("\"{digest}\"")),
            ("content-type", media_type.to_owned()),
            ("content-length", content.len().to_string()),
            ("docker-distribution-api-version", "registry/2.0".to_owned()),
        ] {
            assert_eq!(reply.header(name), value, "{name} of {method}");
        }
        assert!(!reply.headers.contains_key("content-encoding"));
        assert!(reply.cache_status().starts_with("larder; "));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_and_blobs_have_them_cold_and_hot() {
    let upstream = FakeUpstream::start().await;
    let layer = content(5000, 1);
    let image = upstream.image("a", "v1", std::slice::from_ref(&layer));
    let server = TestServer::of(&upstream).await;
    let immutable = "max-age=31536000, immutable";
    for namespace in ["", HOST] {
        let query = if namespace.is_empty() {
            ""
        } else {
            "?ns=r.test"
        };
        for (reference, control) in [("v1", ""), (&*image.digest.to_string(), immutable)] {
            let path = format!("/v2/a/manifests/{reference}{query}");
            let replies = ask_all_ways(&server, &path).await;
            let manifest = media_type::OCI_MANIFEST;
            check(&replies, &image.digest, manifest, &image.manifest);
            for (_, reply) in &replies {
                assert_eq!(reply.header("cache-control"), control);
                assert_eq!(reply.header("oci-namespace"), namespace);
            }
        }
        let name = &image.layers[0];
        let replies = ask_all_ways(&server, &format!("/v2/a/blobs/{name}{query}")).await;
        check(&replies, name, media_type::BLOB, &layer);
        for (_, reply) in &replies {
            assert_eq!(reply.header("cache-control"), immutable);
            assert_eq!(reply.header("accept-ranges"), "bytes");
            assert_eq!(reply.header("oci-namespace"), namespace);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_goes_by_the_digest_that_it_was_asked_for() {
    let upstream = FakeUpstream::start().await;
    let (layer, manifest) = (content(5000, 1), br#"{"layers":[], "x": [1 ]}"#);
    let [layer_name, manifest_name] =
        [&layer[..], manifest].map(|content| Digest::of(Algorithm::Sha512, content));
    upstream.blob_named("a", &layer_name, layer.clone());
    let kind = media_type::DOCKER_MANIFEST;
    upstream.manifest("a", &manifest_name.to_string(), kind, &manifest[..]);
    let server = TestServer::of(&upstream).await;
    let replies = ask_all_ways(&server, &format!("/v2/a/blobs/{layer_name}")).await;
    check(&replies, &layer_name, media_type::BLOB, &layer);
    let replies = ask_all_ways(&server, &format!("/v2/a/manifests/{manifest_name}")).await;
    check(&replies, &manifest_name, kind, manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_a_manifest_says_all_even_if_the_upstreams_does_not() {
    for action in ["Cache", "Forward"] {
        let upstream = FakeUpstream::start().await;
        let content = r#"{"manifests":[]}"#;
        let index = upstream.manifest("a", "v1", media_type::OCI_INDEX, content);
        let server = TestServer::builder()
            .upstream(HOST, &upstream)
            .tail(&format!("defaultAction: {action}"))
            .start()
            .await;
        for reference in ["v1", &*index.to_string()] {
            for fault in [Fault::NoLength, Fault::NoDigest, Fault::NoType] {
                upstream.fault("HEAD ", fault, 1);
                let reply = server.head(&format!("/v2/a/manifests/{reference}")).await;
                assert_eq!(reply.header("content-length"), content.len().to_string());
                assert_eq!(reply.header("content-type"), media_type::OCI_INDEX);
                assert_eq!(reply.header("docker-content-digest"), index.to_string());
                upstream.heal();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_page_of_tags_is_at_the_cache() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for (path, query, next) in [
        ("/v2/a/tags/list", "?n=1", "n=1&last=a"),
        ("/v2/a/tags/list", "?n=1&ns=r.test", "n=1&last=a&ns=r.test"),
        ("/v2/r.test/a/tags/list", "?n=1&last=0", "n=1&last=a"),
        ("/v2/a/tags/list", "?next_page=gA%3D%3D&n=1", "n=1&last=a"),
    ] {
        upstream.fault("GET ", Fault::Headers(NEXT), 1);
        upstream.forget();
        let reply = server.get(&format!("{path}{query}")).await;
        assert_eq!(
            reply.header("link"),
            format!("<{path}?{next}>; rel=\"next\"")
        );
        assert_eq!(reply.header("content-type"), "application/json");
        let asked = query.trim_end_matches("&ns=r.test");
        assert_eq!(upstream.requests(), [format!("GET /v2/a/tags/list{asked}")]);
    }
    let last = server.get("/v2/a/tags/list").await;
    assert_eq!(last.header("link"), "");
}
