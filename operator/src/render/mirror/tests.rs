//! The files of each runtime, in all that can be said of a mirror.

use std::fmt::Write as _;

use crds::registry_cache::Fallback;
use crds::values::Endpoint;

use super::*;
use crate::resolve::{CacheEndpoint, Containerd, Credentials, MirroredUpstream, TalosForm};

const NEW: Containerd = Containerd { dial_timeout: true };
const OLD: Containerd = Containerd {
    dial_timeout: false,
};

/// Docker Hub as usual, and a registry that is reached at another place.
fn mirror(runtime: Runtime) -> Mirror {
    let upstream = |host: &str, endpoint: Option<&str>, prefix: Option<&str>| {
        let host = host.parse().unwrap();
        MirroredUpstream {
            endpoint: endpoint.map_or_else(
                || Endpoint::default_for(&host),
                |endpoint| endpoint.parse().unwrap(),
            ),
            repository_prefix: prefix.map(|prefix| prefix.parse().unwrap()),
            host,
        }
    };
    Mirror {
        name: "nodes".to_owned(),
        target: MirrorTarget {
            kind: MirrorTargetKind::ConfigMap,
            name: "cache-mirror-nodes".to_owned(),
        },
        runtime,
        endpoint: CacheEndpoint {
            secure: false,
            authority: "10.96.0.7:5000".to_owned(),
        },
        upstreams: vec![
            upstream("docker.io", None, None),
            upstream(
                "corp.example:5000",
                Some("http://10.0.0.5:5000"),
                Some("proxy/corp"),
            ),
        ],
        fallback: Fallback::Allow,
        digest_only: false,
        credentials: None,
        certificate_authority: None,
    }
}

fn forbidding(runtime: Runtime) -> Mirror {
    Mirror {
        fallback: Fallback::Forbid,
        ..mirror(runtime)
    }
}

/// With TLS and, where `shown`, credentials.
fn guarded(mirror: Mirror, shown: bool) -> Mirror {
    let pem = "-----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n";
    Mirror {
        endpoint: CacheEndpoint {
            secure: true,
            authority: "cache.example".to_owned(),
        },
        credentials: shown.then(|| Credentials::new("east", "pass:word")),
        certificate_authority: Some(pem.to_owned()),
        target: MirrorTarget {
            kind: MirrorTargetKind::Secret,
            ..mirror.target
        },
        ..mirror
    }
}

fn text(cases: &[(&str, Mirror)]) -> String {
    let owner = Owner {
        name: "cache".to_owned(),
        namespace: "team-a".to_owned(),
        uid: "1".to_owned(),
    };
    let mut text = String::new();
    for (case, mirror) in cases {
        let formats = formats(&owner, mirror).join(", ");
        let _ = writeln!(text, "##### {case}: {formats}");
        for (key, file) in files(&owner, mirror) {
            let _ = writeln!(text, "=== {key}\n{file}");
        }
    }
    text
}

#[test]
fn containerd() {
    let digests = Mirror {
        digest_only: true,
        ..mirror(Runtime::Containerd(OLD))
    };
    insta::assert_snapshot!(text(&[
        ("new", mirror(Runtime::Containerd(NEW))),
        ("old, by digest only", digests),
        ("without fallback", forbidding(Runtime::Containerd(NEW))),
        (
            "with TLS and credentials",
            guarded(mirror(Runtime::Containerd(NEW)), true)
        ),
        (
            "with TLS and credentials, without fallback",
            guarded(forbidding(Runtime::Containerd(NEW)), true)
        ),
    ]));
}

#[test]
fn crio_and_podman() {
    let digests = Mirror {
        digest_only: true,
        ..mirror(Runtime::Crio)
    };
    insta::assert_snapshot!(text(&[
        ("plain", mirror(Runtime::Crio)),
        ("by digest only", digests),
        ("without fallback", forbidding(Runtime::Crio)),
        (
            "with TLS and credentials",
            guarded(mirror(Runtime::Crio), true)
        ),
    ]));
}

#[test]
fn k3s() {
    insta::assert_snapshot!(text(&[
        ("plain", mirror(Runtime::K3s)),
        ("without fallback", forbidding(Runtime::K3s)),
        ("with TLS", guarded(mirror(Runtime::K3s), false)),
    ]));
}

#[test]
fn talos() {
    let forms = [TalosForm::Documents, TalosForm::MachineConfig];
    let [new, old] = forms.map(Runtime::Talos);
    insta::assert_snapshot!(text(&[
        ("1.12", mirror(new)),
        ("1.12 without fallback", forbidding(new)),
        ("1.12 with TLS", guarded(mirror(new), false)),
        ("1.11", mirror(old)),
        ("1.11 without fallback", forbidding(old)),
        ("1.11 with TLS", guarded(mirror(old), false)),
    ]));
}

#[test]
fn cluster_api() {
    let with_tls = guarded(mirror(Runtime::ClusterApi(NEW)), false);
    let in_a_config_map = Mirror {
        target: mirror(Runtime::Docker).target,
        ..with_tls.clone()
    };
    insta::assert_snapshot!(text(&[
        ("plain", mirror(Runtime::ClusterApi(OLD))),
        ("with TLS", in_a_config_map),
        ("with TLS, in a Secret", with_tls),
        (
            "with credentials",
            guarded(forbidding(Runtime::ClusterApi(NEW)), true)
        ),
    ]));
}

#[test]
fn docker() {
    insta::assert_snapshot!(text(&[
        ("plain", mirror(Runtime::Docker)),
        ("with TLS", guarded(mirror(Runtime::Docker), false)),
    ]));
}
