//! What is rendered from each file of `testdata`, and what is said where nothing can be.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use crds::policy::Policy;
use crds::registry_cache::SecretRef;
use crds::static_config::StaticConfig;
use operator::observe::Observed;
use operator::render::{ALERTS, Manifest, render};
use operator::resolve::{Problem, resolve};
use proptest::prelude::*;
use support::{observed, settings};

fn manifests(observed: &Observed) -> Vec<Manifest> {
    let resolved = resolve(observed, &settings()).unwrap();
    render(&resolved).into_apply_order().unwrap()
}

fn testdata(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/testdata")
        .join(name)
}

fn told(problems: &[Problem]) -> String {
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = writeln!(text, "{:?}: {problem}", problem.reason());
        text
    })
}

#[test]
fn each_input_renders_as_before() {
    insta::glob!("testdata/*.yaml", |path| {
        let observed = observed(path);
        let text = match resolve(&observed, &settings()) {
            Ok(resolved) => {
                let manifests = render(&resolved)
                    .into_apply_order()
                    .unwrap()
                    .iter()
                    .map(|manifest| serde_saphyr::to_string(&manifest.body).unwrap())
                    .collect::<Vec<_>>()
                    .join("---\n");
                manifests + &told(resolved.mirror_problems())
            }
            Err(error) => told(&error.problems),
        };
        insta::assert_snapshot!(text);
    });
}

#[test]
fn the_server_takes_the_files_that_are_rendered() {
    for name in [
        "minimal.yaml",
        "everything.yaml",
        "monitoring-off.yaml",
        "door.yaml",
        "issued.yaml",
    ] {
        let manifests = manifests(&observed(&testdata(name)));
        let data = &manifests[0].body["data"];
        Policy::parse(data["policy.yaml"].as_str().unwrap()).unwrap();
        StaticConfig::parse(data["static.yaml"].as_str().unwrap()).unwrap();
    }
}

#[test]
fn a_policy_edit_leaves_the_pods_alone() {
    let mut observed = observed(&testdata("everything.yaml"));
    let before = manifests(&observed);
    observed.cache.spec.policy_refs.pop();
    let after = manifests(&observed);
    let changed: Vec<&str> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(before, _)| before.name.as_str())
        .collect();
    assert_eq!(changed, ["cache-config"]);
}

#[test]
fn what_a_secret_holds_leaves_the_pods_alone_and_another_secret_does_not() {
    let mut observed = observed(&testdata("everything.yaml"));
    let set = |observed: &Observed| {
        let manifests = manifests(observed);
        let kind = |one: &&Manifest| one.body["kind"] == "StatefulSet";
        manifests.iter().find(kind).unwrap().body.clone()
    };
    let before = set(&observed);
    // A user with a password becomes a Docker configuration.
    let keys = Some([".dockerconfigjson".to_owned()].into());
    observed
        .secrets
        .insert("corp-user".to_owned(), keys.clone());
    assert_eq!(set(&observed), before);
    observed.secrets.insert("another".to_owned(), keys);
    observed.cache.spec.upstreams[1].credentials[0].secret_ref = Some(SecretRef {
        name: "another".to_owned(),
    });
    assert_ne!(set(&observed), before);
}

#[test]
fn a_user_with_a_password_takes_the_place_of_a_list_without_a_restart() {
    let mut observed = observed(&testdata("door.yaml"));
    let before = manifests(&observed);
    let keys = ["username", "password"].map(str::to_owned);
    observed
        .secrets
        .insert("people".to_owned(), Some(keys.into()));
    let after = manifests(&observed);
    let changed: Vec<&str> = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before != after)
        .map(|(before, _)| before.name.as_str())
        .collect();
    assert_eq!(changed, ["cache-config"]);
    let policy = after[0].body["data"]["policy.yaml"].as_str().unwrap();
    assert!(
        policy.contains("/etc/larder/passwords/people/username"),
        "{policy}"
    );
}

#[test]
fn new_authorities_leave_the_pods_alone() {
    let mut observed = observed(&testdata("door.yaml"));
    let set = |observed: &Observed| {
        let manifests = manifests(observed);
        let kind = |one: &&Manifest| one.body["kind"] == "StatefulSet";
        manifests.iter().find(kind).unwrap().body.clone()
    };
    let before = set(&observed);
    observed.authorities =
        Some("-----BEGIN CERTIFICATE-----\nVHdv\n-----END CERTIFICATE-----\n".to_owned());
    assert_eq!(set(&observed), before);
    observed.authorities = None;
    assert_eq!(set(&observed), before);
}

#[test]
fn nothing_of_the_parents_metadata_is_copied() {
    let text = format!("{:?}", manifests(&observed(&testdata("everything.yaml"))));
    assert!(
        !text.contains("not-copied") && !text.contains("not-taken"),
        "{text}"
    );
}

#[test]
fn every_alert_can_be_left_out() {
    let mut observed = observed(&testdata("everything.yaml"));
    observed.cache.spec.monitoring.alerts.exclude =
        ALERTS.iter().map(|alert| alert.name.to_owned()).collect();
    let manifests = manifests(&observed);
    let rule = manifests.last().unwrap();
    assert_eq!(
        rule.body["spec"]["groups"][0]["rules"],
        serde_json::json!([])
    );
}

#[test]
fn a_secret_shows_nothing_of_what_it_holds_but_in_its_values() {
    let observed = observed(&testdata("mirrors.yaml"));
    let secret = |observed: &Observed| {
        let found = manifests(observed).into_iter();
        let mut found = found.filter(|one| one.name == "cache-mirror-east");
        found.next().unwrap().body
    };
    let before = secret(&observed);
    let hosts = before["data"]["docker.io.hosts.toml"].as_str().unwrap();
    let hosts: k8s_openapi::ByteString = serde_json::from_value(hosts.into()).unwrap();
    let hosts = String::from_utf8(hosts.0).unwrap();
    // The end of line that `echo` left is no part of the password.
    assert!(hosts.contains("Basic ZWFzdDpzZWNyZXQ=\""), "{hosts}");
    assert!(!format!("{observed:?}").contains("secret\\n"));

    let mut rotated = observed.clone();
    let place = ("east".to_owned(), "password".to_owned());
    let value = operator::confidential::Confidential::new(b"another".to_vec());
    rotated.secret_values.insert(place, value);
    let after = secret(&rotated);
    assert_ne!(before["data"], after["data"]);
    assert_eq!(before["metadata"], after["metadata"]);
}

#[test]
fn a_mirror_that_can_not_be_rendered_keeps_what_was() {
    let mut observed = observed(&testdata("mirrors.yaml"));
    observed.secrets.remove("east");
    observed.secret_values.clear();
    let resolved = resolve(&observed, &settings()).unwrap();
    let rendered = render(&resolved);
    let kept: Vec<&str> = rendered.kept.iter().map(|one| one.name.as_str()).collect();
    assert!(kept.contains(&"cache-mirror-east"), "{kept:?}");
    let manifests = rendered.into_apply_order().unwrap();
    assert!(manifests.iter().any(|one| one.name == "cache-mirror-nodes"));
    assert!(!manifests.iter().any(|one| one.name == "cache-mirror-east"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A difference between two runs would be written again and again.
    #[test]
    fn rendering_is_deterministic(
        replicas in 1..32,
        labels in prop::collection::btree_map("[a-z]{1,8}", "[a-z]{0,8}", 0..4),
        excluded in 0..ALERTS.len(),
        hosts in prop::collection::btree_set("[a-z]{1,8}\\.example", 1..5),
    ) {
        let mut observed = observed(&testdata("everything.yaml"));
        let spec = &mut observed.cache.spec;
        spec.replicas = replicas;
        spec.node_selector.clone_from(&labels);
        spec.monitoring.service_monitor.labels = labels;
        spec.monitoring.alerts.exclude = vec![ALERTS[excluded].name.to_owned()];
        for host in hosts {
            let mut upstream = spec.upstreams[0].clone();
            upstream.host = host;
            spec.upstreams.push(upstream);
        }
        let text = |observed: &Observed| -> Vec<String> {
            manifests(observed).iter().map(|manifest| manifest.body.to_string()).collect()
        };
        prop_assert_eq!(text(&observed), text(&observed.clone()));
    }
}
