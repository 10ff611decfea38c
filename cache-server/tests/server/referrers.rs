//! What refers to a manifest, from upstreams with the API and without it.

use std::time::Duration;

use cache_server::oci::{Algorithm, Digest, media_type, referrers};
use http::Method;
use serde_json::{Value, json};

use crate::support::{FakeUpstream, Fault, Gate, HOST, TestServer, digest, eventually};

const SIGNATURE: &str = "application/vnd.example.signature.v1+json";
const SBOM: &str = "application/vnd.example.sbom";

/// A list with a signature and a bill of materials, in a form that no library would write.
fn list() -> String {
    let of = |kind: &str| {
        let digest = digest(kind.as_bytes());
        format!(
            r#"{{ "mediaType":"{}","digest":"{digest}","size":7, "artifactType":"{kind}" }}"#,
            media_type::OCI_MANIFEST
        )
    };
    format!(
        r#"{{"schemaVersion":2, "mediaType":"{}","manifests":[{},{}]}}"#,
        media_type::OCI_INDEX,
        of(SIGNATURE),
        of(SBOM)
    )
}

fn types(list: &[u8]) -> Vec<String> {
    let list: Value = serde_json::from_slice(list).unwrap();
    let manifests = list["manifests"].as_array().unwrap();
    manifests
        .iter()
        .map(|descriptor| descriptor["artifactType"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_passed_on_bit_for_bit_and_is_fresh_for_as_long_as_a_tag() {
    let upstream = FakeUpstream::start().await;
    let subject = digest(b"subject");
    upstream.referrers("a", &subject, list());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/referrers/{subject}");
    let reply = server.get(&format!("{path}?ns={HOST}")).await;
    assert_eq!(
        (reply.status.as_u16(), reply.content()),
        (200, list().as_bytes())
    );
    assert_eq!(reply.header("content-type"), media_type::OCI_INDEX);
    assert_eq!(reply.header("content-length"), list().len().to_string());
    assert_eq!(reply.header("oci-namespace"), HOST);
    assert_eq!(reply.header("oci-filters-applied"), "");
    assert_eq!(reply.cache_status(), "larder; fwd=miss; stored");

    server.advance(Duration::from_mins(4));
    assert_eq!(server.get(&path).await.cache_status(), "larder; hit");
    let head = server.head(&path).await;
    assert_eq!(head.header("content-length"), list().len().to_string());
    assert_eq!(upstream.requests(), [format!("GET {path}")]);

    upstream.referrers("a", &subject, referrers::EMPTY);
    server.advance(Duration::from_mins(2));
    for outcome in ["larder; fwd=miss; stored", "larder; hit"] {
        let reply = server.get(&path).await;
        assert_eq!(
            (reply.content(), reply.cache_status()),
            (referrers::EMPTY, outcome)
        );
    }
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_is_applied_here_and_said_so() {
    let upstream = FakeUpstream::start().await;
    let subject = digest(b"subject");
    upstream.referrers("a", &subject, list());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/referrers/{subject}");
    for (query, expected) in [
        (
            "application/vnd.example.signature.v1%2Bjson",
            vec![SIGNATURE],
        ),
        // As people write it.
        (SIGNATURE, vec![SIGNATURE]),
        (SBOM, vec![SBOM]),
        ("application/other", vec![]),
    ] {
        let reply = server.get(&format!("{path}?artifactType={query}")).await;
        assert_eq!(reply.status, 200, "{query}");
        assert_eq!(types(reply.content()), expected, "{query}");
        assert_eq!(
            reply.header("oci-filters-applied"),
            "artifactType",
            "{query}"
        );
        assert_eq!(
            reply.header("content-length"),
            reply.content().len().to_string()
        );
    }
    assert_eq!(upstream.requests(), [format!("GET {path}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_the_tag_that_clients_keep_stands_in() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for subject in [
        digest(b"subject"),
        Digest::of(Algorithm::Sha512, b"subject"),
    ] {
        let tag = format!("{}-{}", subject.algorithm().as_str(), &subject.hex()[..64]);
        upstream.manifest("a", &tag, media_type::OCI_INDEX, list());
        upstream.forget();
        let path = format!("/v2/a/referrers/{subject}");
        let reply = server.get(&path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.content()),
            (200, list().as_bytes())
        );
        assert_eq!(reply.header("content-type"), media_type::OCI_INDEX);
        assert_eq!(
            upstream.requests(),
            [format!("GET {path}"), format!("GET /v2/a/manifests/{tag}")]
        );
        let filtered = server.get(&format!("{path}?artifactType={SBOM}")).await;
        assert_eq!(types(filtered.content()), [SBOM]);
        assert_eq!(filtered.header("oci-filters-applied"), "artifactType");
        assert_eq!(filtered.cache_status(), "larder; hit");
        assert_eq!(upstream.requests().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_api_and_the_tag_nothing_refers_to_it() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[]);
    let server = TestServer::of(&upstream).await;
    server.get("/v2/a/manifests/v1").await;
    let known = format!("/v2/a/referrers/{}", image.digest);
    for outcome in ["larder; fwd=miss; stored", "larder; hit"] {
        let reply = server.get(&known).await;
        assert_eq!(
            (reply.status.as_u16(), reply.content()),
            (200, referrers::EMPTY)
        );
        assert_eq!(reply.cache_status(), outcome);
    }

    // Registries that know only some paths say this instead.
    upstream.fault(&known, Fault::Status(405), 1);
    server.advance(Duration::from_mins(6));
    assert_eq!(server.get(&known).await.status, 200);

    // Of what the repository may not even have, nothing is written down.
    let unknown = format!("/v2/a/referrers/{}", digest(b"nothing"));
    let reply = server.get(&unknown).await;
    assert_eq!(
        (reply.status.as_u16(), reply.content()),
        (200, referrers::EMPTY)
    );
    assert_eq!(reply.cache_status(), "larder; fwd=bypass; detail=forwarded");
    let kept = server
        .store()
        .join("repositories/r.test/a/_referrers/sha256");
    assert_eq!(std::fs::read_dir(kept).unwrap().count(), 1);

    // What stands under the tag is something else.
    let subject = digest(b"subject");
    upstream.image("a", &format!("sha256-{}", subject.hex()), &[]);
    let reply = server.get(&format!("/v2/a/referrers/{subject}")).await;
    assert_eq!(reply.content(), referrers::EMPTY);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_digest_is_the_clients_fault() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    for name in [
        "sha256:abc",
        "latest",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
    ] {
        let reply = server.get(&format!("/v2/a/referrers/{name}")).await;
        assert_eq!(reply.status, 400, "{name}");
        let body = String::from_utf8_lossy(reply.content()).into_owned();
        assert!(body.contains("DIGEST_INVALID"), "{body}");
    }
    assert_eq!(upstream.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_served_while_the_upstream_is_down_and_after_a_restart() {
    let upstream = FakeUpstream::start().await;
    let subject = digest(b"subject");
    upstream.referrers("a", &subject, list());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/referrers/{subject}");
    server.get(&path).await;
    upstream.stop().await;
    let other = server
        .get(&format!("/v2/a/referrers/{}", digest(b"other")))
        .await;
    assert_eq!(
        (other.status.as_u16(), other.header("retry-after")),
        (503, "5")
    );

    let directory = server.stop().await;
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .directory(&directory)
        .start()
        .await;
    assert_eq!(server.get(&path).await.cache_status(), "larder; hit");
    server.advance(Duration::from_mins(6));
    let reply = server.get(&format!("{path}?artifactType={SBOM}")).await;
    assert_eq!(
        (reply.status.as_u16(), types(reply.content())),
        (200, vec![SBOM.to_owned()])
    );
    assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
    assert!(reply.header("warning").starts_with("299 - \""));
    server.advance(Duration::from_hours(8 * 24));
    assert_eq!(server.get(&path).await.status, 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_at_the_same_time_shares_one_question() {
    let upstream = FakeUpstream::start().await;
    let subject = digest(b"subject");
    upstream.referrers("a", &subject, list());
    let gate = Gate::closed();
    upstream.fault("GET ", Fault::Late(gate.clone()), 1);
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/referrers/{subject}");
    let ask = || server.send(Method::GET, &path, &[]);
    let release = async {
        eventually("the upstream is asked", || async {
            upstream.count("GET ") == 1
        })
        .await;
        gate.open_for_good();
    };
    let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), release);
    for reply in [first, second, third] {
        assert_eq!(reply.rest().await.content(), list().as_bytes());
    }
    assert_eq!(upstream.requests(), [format!("GET {path}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_does_not_show_is_not_found() {
    let upstream = FakeUpstream::start().await;
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/referrers/{}", digest(b"subject"));
    for status in [401, 403] {
        upstream.fault("GET ", Fault::Status(status), 1);
        let reply = server.get(&path).await;
        assert_eq!(reply.status, 404, "{status}");
        let body = String::from_utf8_lossy(reply.content()).into_owned();
        assert!(body.contains("NAME_UNKNOWN"), "{body}");
    }
    upstream.referrers("a", &digest(b"subject"), "<html>");
    assert_eq!(server.get(&path).await.status, 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_is_passed_through_page_by_page() {
    let upstream = FakeUpstream::start().await;
    let subject = digest(b"subject");
    upstream.referrers("a", &subject, list());
    let server = TestServer::of(&upstream).await;
    let path = format!("/v2/a/referrers/{subject}");
    let next = Fault::Headers(&[("link", "</v2/x/referrers/y?last=2>; rel=\"next\"")]);
    upstream.fault("GET ", next, 1);
    let reply = server
        .get(&format!("{path}?ns={HOST}&artifactType={SIGNATURE}"))
        .await;
    assert_eq!(types(reply.content()), [SIGNATURE]);
    let wanted = "application%2Fvnd.example.signature.v1%2Bjson";
    let link = format!("<{path}?last=2&artifactType={wanted}&ns={HOST}>; rel=\"next\"");
    assert_eq!(reply.header("link"), link);

    let reply = server
        .get(&format!("{path}?last=2&artifactType={wanted}&ns={HOST}"))
        .await;
    assert_eq!(
        (types(reply.content()), reply.header("link")),
        (vec![SIGNATURE.to_owned()], "")
    );
    assert_eq!(
        upstream.requests(),
        [format!("GET {path}"), format!("GET {path}?last=2")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_forwards_keeps_no_list() {
    let upstream = FakeUpstream::start().await;
    let subject = digest(b"subject");
    upstream.referrers("a", &subject, json!({"manifests": []}).to_string());
    let server = TestServer::builder()
        .upstream(HOST, &upstream)
        .tail("defaultAction: Forward")
        .start()
        .await;
    let path = format!("/v2/a/referrers/{subject}");
    for _ in 0..2 {
        let reply = server.get(&path).await;
        assert_eq!(reply.cache_status(), "larder; fwd=bypass; detail=forwarded");
    }
    assert_eq!(upstream.requests().len(), 2);
}
