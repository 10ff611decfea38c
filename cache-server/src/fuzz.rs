//! Fuzz targets: what clients and upstreams send is understood or refused, and never leads out of the store or to somebody
//! who was not named. They run for a moment with `cargo test`; CONTRIBUTING.md says how they run for long.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Component, Path};

use bolero::{check, produce};
use crds::values::RegistryHost;
use reqwest::Url;

use crate::cache::ByteRange;
use crate::cache::admission::Hosts;
use crate::http::route::RegistryRequest;
use crate::http::{range, route};
use crate::oci::manifest::Manifest;
use crate::oci::{Digest, Reference, Repository, Tag};
use crate::storage::layout::Layout;
use crate::upstream::auth::{Challenge, wants_basic};
use crate::upstream::trust::{self, Reach};

const ITERATIONS: usize = 20_000;
const LENGTH: usize = 12;
const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A text of words and of single characters, any of ASCII among them: bytes alone would hardly ever be valid.
fn phrase(bytes: &[u8], words: &[&str]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            0..=219 => text.push_str(words[usize::from(*byte) % words.len()]),
            other => text.push(char::from(other.wrapping_mul(37) & 0x7f)),
        }
    }
    text
}

/// Below the root by plain names only.
fn stays_inside(path: &Path) {
    let inside = path.strip_prefix("/s").unwrap();
    assert!(
        inside
            .components()
            .all(|part| matches!(part, Component::Normal(_))),
        "{path:?}"
    );
    let text = path.to_str().unwrap();
    assert!(!text.contains('\0') && !text.contains("//"), "{path:?}");
}

fn store_paths_stay_inside(
    host: &RegistryHost,
    repository: &Repository,
    tag: Option<&Tag>,
    digest: Option<&Digest>,
) {
    let layout = Layout::new(Path::new("/s"));
    if let Some(tag) = tag {
        stays_inside(&layout.tag_record(host, repository, tag));
    }
    if let Some(digest) = digest {
        stays_inside(&layout.blob(digest));
        stays_inside(&layout.membership(host, repository, digest));
        stays_inside(&layout.manifest_record(host, repository, digest));
    }
}

/// The parameter of a filter.
fn only(artifact_type: &str) -> String {
    let mut text = "artifactType=".to_owned();
    for byte in artifact_type.bytes() {
        let _ = write!(text, "%{byte:02x}");
    }
    text
}

/// The same request as a client makes it that names the upstream by `ns`.
fn by_query(mut request: RegistryRequest) -> RegistryRequest {
    match &mut request {
        RegistryRequest::Ping => {}
        RegistryRequest::Manifest { name, .. }
        | RegistryRequest::Blob { name, .. }
        | RegistryRequest::Referrers { name, .. }
        | RegistryRequest::Tags { name, .. } => name.by_query = true,
    }
    request
}

#[test]
fn requests_name_a_known_upstream_and_a_place_in_the_store() {
    const WORDS: [&str; 18] = [
        "library",
        "/",
        "alpine",
        "a",
        "docker.io/",
        "r.test:5000/",
        "localhost/",
        "..",
        ".",
        "%2e%2e",
        "%2f",
        "_",
        "_manifests",
        "-",
        ":",
        "ä",
        "/tags/list",
        "/blobs/",
    ];
    const QUERIES: [&str; 7] = [
        "",
        "ns=r.test:5000&n=5",
        "ns=dock%65r.io",
        "ns=evil.io",
        "n=1&last=a/../b&x=2&n=3",
        "artifactType=a%2fb&ns=",
        "&&=&ns",
    ];
    let tails = [
        String::new(),
        "/tags/list".to_owned(),
        "/manifests/latest".to_owned(),
        "/manifests/..".to_owned(),
        format!("/manifests/sha256:{HEX}"),
        format!("/blobs/sha256:{HEX}"),
        format!("/blobs/sha256:{HEX}0"),
        format!("/referrers/sha256:{HEX}"),
    ];
    let known: HashSet<RegistryHost> = ["docker.io", "r.test:5000", "localhost"]
        .iter()
        .map(|host| host.parse().unwrap())
        .collect();
    let hosts = Hosts {
        known,
        default: Some("docker.io".parse().unwrap()),
    };
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=6_usize))
        .for_each(|bytes| {
            let [tail, query, bytes @ ..] = bytes.as_slice() else {
                return;
            };
            let tail = &tails[usize::from(*tail) % tails.len()];
            let text = format!("/v2/{}{tail}", phrase(bytes, &WORDS));
            let query = Some(QUERIES[usize::from(*query) % QUERIES.len()]);
            let Ok(request) = route::parse(&text, query, &hosts) else {
                return;
            };
            let (tail, kept) = match &request {
                RegistryRequest::Ping => return,
                RegistryRequest::Manifest { reference, .. } => {
                    (format!("manifests/{reference}"), None)
                }
                RegistryRequest::Blob { digest, .. } => (format!("blobs/{digest}"), None),
                RegistryRequest::Referrers {
                    digest,
                    artifact_type,
                    page,
                    ..
                } => {
                    let query = artifact_type.as_deref().map(only).into_iter();
                    let query: Vec<_> = query.chain(page.clone()).collect();
                    (format!("referrers/{digest}"), Some(query.join("&")))
                }
                RegistryRequest::Tags { query, .. } => ("tags/list".to_owned(), query.clone()),
            };
            let name = request.name().unwrap();
            assert!(hosts.known.contains(&name.upstream));
            let (tag, digest) = match &request {
                RegistryRequest::Manifest {
                    reference: Reference::Tag(tag),
                    ..
                } => (Some(tag), None),
                RegistryRequest::Manifest {
                    reference: Reference::Digest(digest),
                    ..
                }
                | RegistryRequest::Blob { digest, .. }
                | RegistryRequest::Referrers { digest, .. } => (None, Some(digest)),
                _ => (None, None),
            };
            store_paths_stay_inside(&name.upstream, &name.repository, tag, digest);
            let path = format!("/v2/{}/{tail}", name.repository);
            let query = format!("ns={}&{}", name.upstream, kept.unwrap_or_default());
            let again = route::parse(&path, Some(&query), &hosts).unwrap();
            assert_eq!(again, by_query(request), "{text:?} became {path}?{query}");
        });
}

#[test]
fn names_are_kept_as_they_are_and_stay_in_the_store() {
    const WORDS: [&str; 20] = [
        "a", "z9", "/", ".", "..", "_", "__", "-", "--", "A", "sha256:", "sha512:", HEX, "latest",
        "\0", "%2f", "ä", " ", "\\", ":",
    ];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=LENGTH))
        .for_each(|bytes| {
            let text = phrase(bytes, &WORDS);
            let (host, plain) = (
                "r.test:5000".parse().unwrap(),
                Repository::parse("a").unwrap(),
            );
            if let Some(repository) = Repository::parse(&text) {
                assert_eq!(repository.as_str(), text);
                let tag = Tag::parse("t").unwrap();
                store_paths_stay_inside(&host, &repository, Some(&tag), None);
            }
            if let Some(tag) = Tag::parse(&text) {
                assert_eq!(tag.as_str(), text);
                store_paths_stay_inside(&host, &plain, Some(&tag), None);
            }
            if let Ok(digest) = Digest::parse(&text) {
                assert_eq!(digest.to_string(), text);
                store_paths_stay_inside(&host, &plain, None, Some(&digest));
            }
            if let Ok(host) = text.parse::<RegistryHost>() {
                let digest = Digest::parse(&format!("sha256:{HEX}")).unwrap();
                store_paths_stay_inside(&host, &plain, None, Some(&digest));
            }
        });
}

#[test]
fn ranges_lie_within_the_content_and_read_back() {
    const WORDS: [&str; 16] = [
        "=",
        "-",
        "-",
        "-",
        ",",
        "0",
        "1",
        "9",
        "99",
        "18446744073709551615",
        "18446744073709551616",
        " ",
        "	",
        "+",
        "bytes=",
        "ä",
    ];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator((
            produce::<Vec<u8>>().with().len(0..=5_usize),
            produce::<u64>(),
        ))
        .for_each(|(bytes, size)| {
            let range = range::parse(&format!("bytes={}", phrase(bytes, &WORDS)));
            match range.header() {
                Some(header) => assert_eq!(range::parse(&header), range),
                None => assert_eq!(range, ByteRange::Whole),
            }
            for size in [*size, size % 100, 0, u64::MAX] {
                if let Ok(Some(part)) = range.resolve(size) {
                    assert!(
                        part.start < part.end && part.end <= size,
                        "{range:?} of {size}"
                    );
                }
            }
        });
}

#[test]
fn challenges_read_back() {
    const WORDS: [&str; 20] = [
        "Bearer",
        "bearer ",
        "Basic ",
        " ",
        ",",
        "realm=",
        "service=",
        "scope=",
        "\"",
        "\\",
        "=",
        "https://a.io/t",
        "x",
        "ä",
        "Negotiate abc==",
        "Bearer realm=\"",
        "Bearer realm=x,",
        "scope=\"a\\\"b\"",
        "Basic realm=\"x\", ",
        "	",
    ];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=LENGTH))
        .for_each(|bytes| {
            let header = phrase(bytes, &WORDS);
            let _ = wants_basic(&header);
            let Some(challenge) = Challenge::parse(&header) else {
                return;
            };
            let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
            let mut written = format!("Bearer realm=\"{}\"", quoted(&challenge.realm));
            for (name, value) in [("service", &challenge.service), ("scope", &challenge.scope)] {
                if let Some(value) = value {
                    let _ = write!(written, ",{name}=\"{}\"", quoted(value));
                }
            }
            assert_eq!(Challenge::parse(&written), Some(challenge), "{header:?}");
        });
}

/// Pieces of addresses that could be taken for others.
const PLACES: [&str; 26] = [
    "https://",
    "http://",
    "HTTPS:",
    "//",
    "/",
    "\\",
    "@",
    ":",
    "443",
    "8443",
    "?",
    "#",
    "%2e",
    ".",
    "..",
    "docker.io",
    "auth.docker.io",
    "DOCKER.IO",
    "evil.io",
    "evil-docker.io",
    "login.example",
    "127.1",
    "0x7f000001",
    "[::1]",
    "[::ffff:10.0.0.1]",
    "169.254.169.254",
];

#[test]
fn a_token_is_asked_only_of_the_upstreams_domain_and_of_named_realms() {
    let endpoint = Url::parse("https://registry-1.docker.io").unwrap();
    let named = [Url::parse("https://login.example").unwrap()];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=8_usize))
        .for_each(|bytes| {
            for text in [
                phrase(bytes, &PLACES),
                format!("https://{}", phrase(bytes, &PLACES)),
            ] {
                let Ok(realm) = Url::parse(&text) else {
                    continue;
                };
                if trust::realm_is_trusted(&endpoint, "docker.io", &realm, &named) {
                    let host = realm.host_str().unwrap();
                    let ours = host == "docker.io" || host.ends_with(".docker.io");
                    assert_eq!(realm.scheme(), "https", "{text:?}");
                    assert!(ours || realm.origin() == named[0].origin(), "{text:?}");
                }
            }
        });
}

#[test]
fn a_redirect_leads_inside_only_by_name_and_never_to_cleartext() {
    let endpoint = Url::parse("https://registry-1.docker.io").unwrap();
    let named: [RegistryHost; 1] = ["login.example".parse().unwrap()];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=8_usize))
        .for_each(|bytes| {
            let Ok(to) = endpoint.join(&phrase(bytes, &PLACES)) else {
                return;
            };
            let Ok(reach) = trust::redirect(&endpoint, &endpoint, &to, &named) else {
                return;
            };
            assert_eq!(to.scheme(), "https", "{to}");
            let host = to.host_str().unwrap();
            let known = host == "registry-1.docker.io" || host == "login.example";
            assert_eq!(reach == Reach::Named, known, "{to}");
            match host.trim_matches(['[', ']']).parse() {
                Ok(std::net::IpAddr::V4(address)) => {
                    assert!(
                        !address.is_loopback() && !address.is_private() && !address.is_link_local()
                    );
                }
                Ok(std::net::IpAddr::V6(address)) => {
                    assert!(!address.is_loopback() && address.to_ipv4_mapped().is_none());
                }
                Err(_) => {}
            }
        });
}

#[test]
fn manifests_refer_to_nothing_that_they_do_not_say() {
    let descriptor = format!("{{\"digest\":\"sha256:{HEX}\"}}");
    let members = [
        format!("\"layers\":[{descriptor},{descriptor}]"),
        format!("\"config\":{descriptor}"),
        format!("\"manifests\":[{descriptor}]"),
        format!("\"blobs\":[{descriptor}]"),
        format!("\"subject\":{descriptor}"),
        format!("\"annotations\":{{\"layers\":[{descriptor}]}}"),
        "\"layers\":[{\"digest\":\"sha256:..\"}]".to_owned(),
        "\"manifests\":[]".to_owned(),
        "\"mediaType\":\"a\\u0000\"".to_owned(),
        "\"config\":null".to_owned(),
        "\"a\":1e999".to_owned(),
        "\"b\":[[[{}]]]".to_owned(),
    ];
    check!()
        .with_iterations(ITERATIONS)
        .with_generator(produce::<Vec<u8>>().with().len(0..=6_usize))
        .for_each(|bytes| {
            let _ = Manifest::parse(bytes);
            let chosen: Vec<_> = bytes
                .iter()
                .map(|byte| members[usize::from(*byte) % members.len()].as_str())
                .collect();
            let text = format!("{{{}}}", chosen.join(","));
            if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
                let said = chosen.iter().filter(|member| {
                    !member.starts_with("\"subject\"") && !member.starts_with("\"annotations\"")
                });
                let said: usize = said.map(|member| member.matches(HEX).count()).sum();
                assert_eq!(manifest.references.len(), said, "{text}");
                assert!(!manifest.is_index || text.contains("manifests"), "{text}");
                assert_eq!(Manifest::parse(text.as_bytes()).unwrap(), manifest);
            }
        });
}
