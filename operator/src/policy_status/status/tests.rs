//! The status for each thing that can happen, as one table.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::*;

fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn policy(name: &str, rules: &Value) -> CachePolicy {
    serde_json::from_value(json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "CachePolicy",
        "metadata": {"name": name, "namespace": "team-a", "generation": 3},
        "spec": {"rules": rules},
    }))
    .unwrap()
}

/// A cache with two replicas, of which some have confirmed what was made from some generation of the policy `ours`.
fn cache(
    name: &str,
    hosts: &[&str],
    policies: &[&str],
    confirmed: Option<(i64, i32)>,
) -> RegistryCache {
    let upstreams: Vec<Value> = hosts.iter().map(|host| json!({"host": host})).collect();
    let references: Vec<Value> = policies.iter().map(|name| json!({"name": name})).collect();
    let status = confirmed.map(|(generation, replicas)| {
        json!({"policy": {
            "desiredHash": format!("hash-{generation}"), "appliedReplicas": replicas, "replicas": 2, "summary": "",
            "policies": [{"name": "ours", "generation": generation}],
        }})
    });
    serde_json::from_value(json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache",
        "metadata": {"name": name, "namespace": "team-a"},
        "spec": {
            "upstreams": upstreams, "policyRefs": references, "replicas": 2,
            "storage": {"volume": {"size": "1Gi"}},
        },
        "status": status,
    }))
    .unwrap()
}

fn two_rules() -> Value {
    json!([
        {"name": "library", "action": "Cache", "match": {"repositories": ["library/*"]}},
        {"name": "rest", "action": "Deny"},
    ])
}

fn told(policy: &CachePolicy, caches: &[RegistryCache], others: &[CachePolicy]) -> String {
    let neighbours = Neighbours::new(caches.iter(), others.iter().chain([policy]));
    words(&status(policy, &neighbours, &time(0)))
}

fn words(status: &CachePolicyStatus) -> String {
    assert_eq!(status.observed_generation, Some(3));
    let mut text = format!(
        "caches={} applied={}\n",
        status.cache_count,
        status.applied.as_deref().unwrap_or("-")
    );
    for one in &status.bindings {
        let hash = one.desired_hash.as_deref().unwrap_or("-");
        let generation = one.generation.map_or("-".to_owned(), |one| one.to_string());
        let _ = writeln!(
            text,
            "{}: {hash}, generation {generation}, {}/{}",
            one.cache, one.applied_replicas, one.replicas
        );
    }
    for one in &status.conditions {
        let _ = writeln!(
            text,
            "{}={} {}: {}",
            one.type_, one.status, one.reason, one.message
        );
    }
    text
}

#[test]
fn each_situation_has_its_status() {
    let mut text = String::new();
    let mut case = |name: &str, told: String| {
        let _ = writeln!(text, "# {name}\n{told}");
    };
    let ours = policy("ours", &two_rules());
    let follows = |name, confirmed| cache(name, &["docker.io"], &["ours"], confirmed);
    case("nobody follows", told(&ours, &[], &[]));
    case(
        "all have it",
        told(
            &ours,
            &[follows("a", Some((3, 2))), follows("b", Some((3, 2)))],
            &[],
        ),
    );
    case(
        "it is on its way",
        told(
            &ours,
            &[follows("a", Some((3, 2))), follows("b", Some((3, 1)))],
            &[],
        ),
    );
    case(
        "a cache still has the edit before",
        told(&ours, &[follows("a", Some((2, 2)))], &[]),
    );
    case(
        "a cache was not looked at yet",
        told(&ours, &[follows("a", None)], &[]),
    );
    let broken = policy(
        "ours",
        &json!([{"action": "Cache", "match": {"repositories": ["["]}}]),
    );
    case(
        "it can't be used",
        told(&broken, &[follows("a", Some((2, 2)))], &[]),
    );
    let caches = [follows("a", Some((2, 2)))];
    let before = status(
        &ours,
        &Neighbours::new(caches.iter(), [&ours].into_iter()),
        &time(0),
    );
    let reason = "spec.rules: invalid type: integer `7`, expected a sequence";
    let neighbours = Neighbours::new(caches.iter(), std::iter::empty());
    let malformed = of_malformed(&ours.metadata, &before, reason, &neighbours, &time(0));
    case("it can't be read", words(&malformed));
    let shadowed = policy(
        "ours",
        &json!([
            {"action": "Cache", "match": {"repositories": ["library/*"]}},
            {"name": "alpine", "action": "Deny", "match": {"repositories": ["library/alpine"]}},
            {"name": "elsewhere", "action": "Cache", "match": {"upstreams": ["quay.io", "docker.io"]}},
        ]),
    );
    case(
        "a rule is hidden, and an upstream is not there",
        told(&shadowed, &[follows("a", Some((3, 2)))], &[]),
    );
    let first = policy("first", &json!([{"name": "all", "action": "Forward"}]));
    let behind = |name| cache(name, &["docker.io"], &["first", "ours"], Some((3, 2)));
    case(
        "an earlier policy hides all",
        told(&ours, &[behind("a")], std::slice::from_ref(&first)),
    );
    case(
        "but not in each cache",
        told(
            &ours,
            &[behind("a"), follows("b", Some((3, 2)))],
            std::slice::from_ref(&first),
        ),
    );
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_told_again_is_the_same() {
    let mut ours = policy("ours", &two_rules());
    let caches = [
        cache("b", &["docker.io"], &["ours"], Some((3, 2))),
        cache("a", &["docker.io"], &["ours"], None),
    ];
    let at = |ours: &CachePolicy, caches: &[&RegistryCache], second| {
        let neighbours = Neighbours::new(caches.iter().copied(), std::iter::once(ours));
        status(ours, &neighbours, &time(second))
    };
    let first = at(&ours, &[&caches[0], &caches[1]], 100);
    ours.status = Some(first.clone());
    // Later, and found in another order.
    assert_eq!(at(&ours, &[&caches[1], &caches[0]], 200), first);
}

#[test]
fn more_caches_than_can_be_named_are_counted() {
    let ours = policy("ours", &two_rules());
    let caches: Vec<RegistryCache> = (0..300)
        .map(|number| {
            cache(
                &format!("cache-{number}"),
                &["docker.io"],
                &["ours"],
                Some((3, 1)),
            )
        })
        .collect();
    let neighbours = Neighbours::new(caches.iter(), std::iter::once(&ours));
    let status = status(&ours, &neighbours, &time(0));
    assert_eq!(status.bindings.len(), MAXIMUM_BINDINGS);
    assert_eq!(status.cache_count, 300);
    assert_eq!(status.applied.as_deref(), Some("300/600"));
    let message = &status.conditions.last().unwrap().message;
    assert!(message.ends_with("; and 292 more."), "{message}");
}
