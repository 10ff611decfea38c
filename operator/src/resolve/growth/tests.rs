use kube::api::{ApiResource, DynamicObject};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::observe::Live;

fn claim(ordinal: i32, requested: &str, capacity: Option<&str>) -> CacheClaim {
    let claim = json!({
        "metadata": {"name": names::claim("cache", ordinal), "uid": format!("claim-{ordinal}")},
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": requested}}},
        "status": {
            "phase": if capacity.is_some() { "Bound" } else { "Pending" },
            "capacity": capacity.map(|size| json!({"storage": size})),
        },
    });
    CacheClaim::new(serde_json::from_value(claim).unwrap())
}

/// A cache with two replicas and 2Gi declared.
fn observed(claims: Vec<CacheClaim>, class: Option<FoundClass>, set: Option<Value>) -> Observed {
    let cache = json!({
        "metadata": {"name": "cache", "namespace": "team-a", "uid": "1"},
        "spec": {"upstreams": [{"host": "docker.io"}], "replicas": 2, "storage": {"volume": {"size": "2Gi"}}},
    });
    let resource = ApiResource::erase::<k8s_openapi::api::apps::v1::StatefulSet>(&());
    let object = |set| {
        (
            resource,
            serde_json::from_value::<DynamicObject>(set).unwrap(),
        )
    };
    Observed {
        cache: serde_json::from_value(cache).unwrap(),
        policies: std::collections::BTreeMap::new(),
        secrets: std::collections::BTreeMap::new(),
        secret_values: std::collections::BTreeMap::new(),
        live: Live::new(set.map(object)),
        pods: Vec::new(),
        claims,
        classes: class
            .map(|class| ("fast".to_owned(), class))
            .into_iter()
            .collect(),
        apis: crate::optional_apis::OptionalApis::default(),
        authorities: None,
        time: 0,
        nodes: crate::nodes::Sighting::NotWired,
        nodes_behind: false,
        figures: crate::figures::Told::default(),
    }
}

fn set(size: &str, removed: bool) -> Value {
    json!({
        "metadata": {
            "name": "cache", "uid": "set",
            "deletionTimestamp": removed.then_some("2026-01-01T00:00:00Z"),
            "ownerReferences": [{"apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache", "name": "cache", "uid": "1", "controller": true}],
        },
        "spec": {"volumeClaimTemplates": [{"spec": {"resources": {"requests": {"storage": size}}}}]},
    })
}

fn owner() -> Owner {
    Owner {
        name: "cache".to_owned(),
        namespace: "team-a".to_owned(),
        uid: "1".to_owned(),
    }
}

fn next_of(claims: Vec<CacheClaim>, class: Option<FoundClass>, set: Option<Value>) -> Growth {
    next(&observed(claims, class, set), &owner(), "2Gi")
}

fn small() -> CacheClaim {
    claim(0, "1Gi", Some("1Gi"))
}

fn raised() -> CacheClaim {
    claim(0, "2Gi", Some("1Gi"))
}

fn grown() -> CacheClaim {
    claim(0, "2048Mi", Some("2Gi"))
}

fn to_raise(known: bool) -> Growth {
    Growth::Claims(vec![SmallClaim {
        name: "store-cache-0".to_owned(),
        uid: "claim-0".to_owned(),
        storage_class: "fast".to_owned(),
        known,
    }])
}

fn waiting() -> Growth {
    Growth::Volumes(Waiting {
        claims: vec!["store-cache-0".to_owned()],
        complaint: None,
    })
}

#[test]
fn claims_come_first_and_then_the_set() {
    let old = || Some(set("1Gi", false));
    let new = || Some(set("2Gi", false));
    let can = || Some(FoundClass::Expandable);
    let other = || claim(1, "2Gi", Some("1Gi"));
    let replace = || Growth::Replace {
        uid: "set".to_owned(),
    };
    let gone = Some(set("1Gi", true));
    for (what, found, expected) in [
        (
            "small",
            next_of(vec![small()], can(), old()),
            to_raise(true),
        ),
        (
            "one raised",
            next_of(vec![other(), small()], can(), old()),
            to_raise(true),
        ),
        (
            "all raised",
            next_of(vec![raised()], None, old()),
            replace(),
        ),
        ("all grown", next_of(vec![grown()], None, old()), replace()),
        (
            "on its way out",
            next_of(vec![raised()], None, gone),
            Growth::Removal,
        ),
        ("gone", next_of(vec![raised()], None, None), waiting()),
        (
            "gone too early",
            next_of(vec![small()], can(), None),
            to_raise(true),
        ),
        ("made anew", next_of(vec![raised()], None, new()), waiting()),
    ] {
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn what_is_as_declared_is_left_alone() {
    let new = || Some(set("2Gi", false));
    let same = Some(set("2048Mi", false));
    let large = claim(0, "5Gi", Some("5Gi"));
    let unused = claim(7, "2Gi", Some("1Gi"));
    for (what, found) in [
        ("nothing yet", next_of(vec![], None, None)),
        ("at rest", next_of(vec![grown()], None, new())),
        (
            "another form of the size",
            next_of(vec![grown()], None, same),
        ),
        ("larger than declared", next_of(vec![large], None, new())),
        (
            "of a replica that is no more",
            next_of(vec![unused], None, new()),
        ),
    ] {
        assert_eq!(found, Growth::Done, "{what}");
    }
    let unbound = claim(0, "1Gi", None);
    assert_eq!(next_of(vec![unbound], None, new()), waiting());
}

#[test]
fn the_class_decides_where_it_can_be_read() {
    let old = || Some(set("1Gi", false));
    let class = || "fast".to_owned();
    for (found, expected) in [
        (FoundClass::Unreadable, to_raise(false)),
        (
            FoundClass::Fixed,
            Growth::Stuck(Stuck::Fixed { class: class() }),
        ),
        (
            FoundClass::Missing,
            Growth::Stuck(Stuck::Missing { class: class() }),
        ),
    ] {
        assert_eq!(next_of(vec![small()], Some(found), old()), expected);
    }
    let mut classless = small();
    classless.storage_class = String::new();
    let stuck = Stuck::Classless {
        claim: "store-cache-0".to_owned(),
    };
    assert_eq!(next_of(vec![classless], None, old()), Growth::Stuck(stuck));
}

#[test]
fn a_set_of_somebody_else_is_never_replaced() {
    let mut foreign = set("1Gi", false);
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("2");
    let grown = || claim(0, "2Gi", Some("2Gi"));
    assert_eq!(next_of(vec![grown()], None, Some(foreign)), Growth::Done);
}

#[test]
fn what_kubernetes_says_about_a_failure_is_passed_on() {
    let mut failed = claim(0, "2Gi", Some("1Gi"));
    failed.complaint = Some("the disk is full".to_owned());
    let Growth::Volumes(waiting) = next_of(vec![failed], None, Some(set("2Gi", false))) else {
        unreachable!("the volume waits");
    };
    assert_eq!(
        waiting.complaint.as_deref(),
        Some("store-cache-0: the disk is full")
    );
}

#[test]
fn room_is_that_of_the_smallest_volume_in_use() {
    let claims = vec![
        claim(0, "2Gi", Some("2Gi")),
        claim(1, "2Gi", Some("1Gi")),
        claim(7, "1Gi", Some("1Mi")),
    ];
    let observed = observed(claims, None, None);
    assert_eq!(room(&observed, &owner(), 2 << 30), 1 << 30);
    assert_eq!(room(&observed, &owner(), 1 << 20), 1 << 20);
}

proptest! {
    /// Wherever it begins, and whoever is killed in between: each step is taken once, and then nothing is left to do.
    #[test]
    fn any_state_ends_with_the_declared_size(
        requested in prop::collection::vec(prop::sample::select(vec!["1Gi", "1536Mi", "2Gi", "3Gi"]), 2),
        live in prop::option::of((prop::sample::select(vec!["1Gi", "2Gi"]), any::<bool>())),
    ) {
        let mut claims: Vec<CacheClaim> = (0..).zip(&requested).map(|(ordinal, size)| claim(ordinal, size, Some(size))).collect();
        let mut live = live.map(|(size, removed)| (size.to_owned(), removed));
        let mut steps = Vec::new();
        loop {
            let set = live.as_ref().map(|(size, removed)| set(size, *removed));
            let observed = observed(claims.clone(), Some(FoundClass::Expandable), set);
            match next(&observed, &owner(), "2Gi") {
                // What the operator does next, without a word about growth: it applies the set that it renders.
                Growth::Done if live.is_none() => live = Some((template_size(&observed, &owner(), "2Gi"), false)),
                Growth::Done => break,
                Growth::Claims(small) => {
                    steps.push("claims");
                    for one in &mut claims {
                        if small.iter().any(|small| small.name == one.name()) {
                            one.requested = "2Gi".to_owned();
                        }
                    }
                }
                Growth::Replace { .. } => {
                    steps.push("replace");
                    live.as_mut().unwrap().1 = true;
                }
                Growth::Removal => live = None,
                Growth::Volumes(_) => {
                    for one in &mut claims {
                        one.capacity = Some(one.requested.clone());
                    }
                }
                Growth::Stuck(stuck) => prop_assert!(false, "{stuck:?}"),
            }
            prop_assert!(steps.len() <= 2, "{steps:?}");
        }
        prop_assert_eq!(live.unwrap().0, "2Gi");
        prop_assert!(claims.iter().all(|one| !one.asks_for_less_than("2Gi") && !one.has_less_than("2Gi")));
    }
}
