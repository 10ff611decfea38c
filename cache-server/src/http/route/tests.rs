use proptest::prelude::*;

use super::*;
use crate::oci::Algorithm;

fn hosts() -> Hosts {
    let host = |text: &str| text.parse::<RegistryHost>().unwrap();
    Hosts {
        known: ["docker.io", "quay.io", "localhost", "10.0.0.5:5000"]
            .map(host)
            .into(),
        default: Some(host("docker.io")),
    }
}

fn name(upstream: &str, repository: &str, by_query: bool) -> Name {
    Name {
        upstream: upstream.parse().unwrap(),
        repository: Repository::parse(repository).unwrap(),
        by_query,
    }
}

fn named(path: &str, query: Option<&str>) -> Result<Name, Error> {
    match parse(path, query, &hosts())? {
        RegistryRequest::Manifest { name, .. } => Ok(name),
        other => panic!("{path} is {other:?}"),
    }
}

#[test]
fn the_four_kinds_and_the_ping_are_told_apart() {
    let digest = Digest::of(Algorithm::Sha256, b"");
    let quay = name("quay.io", "a/b", false);
    let read = |path: &str, query| parse(path, query, &hosts()).unwrap();
    assert_eq!(read("/v2/", None), RegistryRequest::Ping);
    assert_eq!(
        read("/v2/quay.io/a/b/manifests/v1", None),
        RegistryRequest::Manifest {
            name: quay.clone(),
            reference: Reference::Tag(Tag::parse("v1").unwrap())
        }
    );
    assert_eq!(
        read(&format!("/v2/quay.io/a/b/blobs/{digest}"), None),
        RegistryRequest::Blob {
            name: quay.clone(),
            digest: digest.clone()
        }
    );
    assert_eq!(
        read(
            &format!("/v2/quay.io/a/b/referrers/{digest}"),
            Some("artifactType=x%2Fy+z&token=s&last=1%2F2")
        )
        .clone(),
        RegistryRequest::Referrers {
            name: quay.clone(),
            digest,
            artifact_type: Some("x/y+z".into()),
            page: Some("last=1%2F2".into())
        }
        .clone()
    );
}

#[test]
fn the_upstream_comes_from_the_query_the_path_or_the_default() {
    let path = "/v2/library/alpine/manifests/latest";
    assert_eq!(
        named(path, Some("ns=docker.io")),
        Ok(name("docker.io", "library/alpine", true))
    );
    assert_eq!(
        named(path, Some("ns=registry-1.docker.io")),
        Ok(name("docker.io", "library/alpine", true))
    );
    assert_eq!(
        named("/v2/a/manifests/x", Some("ns=10.0.0.5%3A5000")),
        Ok(name("10.0.0.5:5000", "a", true))
    );
    assert_eq!(
        named("/v2/quay.io/a/manifests/x", None),
        Ok(name("quay.io", "a", false))
    );
    assert_eq!(
        named("/v2/10.0.0.5:5000/a/manifests/x", None),
        Ok(name("10.0.0.5:5000", "a", false))
    );
    assert_eq!(
        named("/v2/localhost/a/manifests/x", None),
        Ok(name("localhost", "a", false))
    );
    assert_eq!(
        named("/v2/alpine/manifests/x", None),
        Ok(name("docker.io", "library/alpine", false))
    );
    assert_eq!(
        named("/v2/docker.io/alpine/manifests/x", None),
        Ok(name("docker.io", "library/alpine", false))
    );
    // With ns the name is taken as it is.
    assert_eq!(
        named("/v2/alpine/manifests/x", Some("ns=docker.io")),
        Ok(name("docker.io", "alpine", true))
    );
}

#[test]
fn an_unknown_upstream_is_an_error() {
    for query in [
        "ns=evil.example",
        "ns=169.254.169.254",
        "ns=..%2F",
        "ns=http%3A%2F%2Fquay.io",
    ] {
        assert!(
            matches!(
                named("/v2/a/manifests/x", Some(query)),
                Err(Error::UnknownUpstream(_))
            ),
            "{query}"
        );
    }
    assert!(matches!(
        named("/v2/evil.example:5000/a/manifests/x", None),
        Err(Error::UnknownUpstream(_))
    ));
    let none = Hosts::default();
    assert_eq!(
        parse("/v2/a/manifests/x", None, &none),
        Err(Error::NoUpstream)
    );
}

#[test]
fn wrong_names_and_digests_are_told_apart() {
    let error = |path: &str| parse(path, None, &hosts()).unwrap_err();
    assert!(matches!(error("/v2/A/manifests/x"), Error::Name(_)));
    assert!(matches!(error("/v2/a/../b/manifests/x"), Error::Name(_)));
    assert!(matches!(error("/v2//manifests/x"), Error::Name(_)));
    assert!(matches!(error("/v2/a/blobs/sha256:12"), Error::Digest(_)));
    assert!(matches!(
        error("/v2/a/manifests/sha256:12"),
        Error::Digest(_)
    ));
    assert!(matches!(error("/v2/a/manifests/..."), Error::Reference(_)));
    for path in [
        "/",
        "/v1/",
        "/v2/a",
        "/v2/_catalog",
        "/v2/a/blobs/uploads/1/2",
    ] {
        assert_eq!(error(path), Error::NoSuchPath, "{path}");
    }
}

proptest! {
    #[test]
    fn any_path_is_read(path in "/v2/\\PC{0,40}", query in "\\PC{0,40}") {
        let _ = parse(&path, Some(&query), &hosts());
    }

    #[test]
    fn only_known_upstreams_come_out(first in "[a-z0-9.:]{1,12}", rest in "[a-z/]{1,10}", ns in proptest::option::of("[a-z0-9.:%]{0,12}")) {
        let query = ns.map(|ns| format!("ns={ns}"));
        if let Ok(RegistryRequest::Manifest { name, .. }) = parse(&format!("/v2/{first}/{rest}/manifests/x"), query.as_deref(), &hosts()) {
            prop_assert!(hosts().known.contains(&name.upstream));
        }
    }
}
