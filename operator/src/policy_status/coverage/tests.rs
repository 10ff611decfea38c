//! What covers what, and that nothing is said to be covered that is not.

use crds::policy::{Action, Decisions, Policy, Subject, Upstream};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn rule(name: &str, action: Action, upstreams: &[&str], globs: &[&str], tags: &[&str]) -> Rule {
    serde_json::from_value(json!({
        "name": name, "action": action, "upstreams": upstreams, "repositories": globs, "tags": tags,
    }))
    .unwrap()
}

fn repository_covers(wide: &str, narrow: &str) -> bool {
    let all = |globs: &[&str]| rule("any", Action::Cache, &[], globs, &[]);
    let (wide, narrow) = (all(&[wide]), all(&[narrow]));
    covers(&wide, &narrow, &BTreeSet::new(), &mut Budget::new())
}

#[test]
fn globs_cover_what_is_below_them() {
    for (wide, narrow) in [
        ("**", "a/[bc]"),
        ("ours/**", "ours/team/*"),
        ("ours/**", "ours/x"),
        ("library/*", "library/al*"),
        ("library/al*", "library/alpine"),
        ("{a,b}/c", "a/c"),
    ] {
        assert!(repository_covers(wide, narrow), "{wide} {narrow}");
    }
    for (wide, narrow) in [
        ("ours/**", "ours*/x"),
        ("library/*", "library/**"),
        ("library/*", "library/a/b"),
        ("library/*", "library/[!x]y/z"),
        ("a", "b"),
        ("*/alpine", "library/*"),
    ] {
        assert!(!repository_covers(wide, narrow), "{wide} {narrow}");
    }
}

#[test]
fn all_upstreams_together_are_everything() {
    let both = rule("a", Action::Cache, &["docker.io", "quay.io"], &[], &[]);
    let any = rule("b", Action::Deny, &[], &[], &[]);
    let hosts = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let covers = |hosts| covers(&both, &any, &hosts, &mut Budget::new());
    assert!(covers(hosts(&["docker.io"])));
    assert!(!covers(hosts(&["docker.io", "ghcr.io"])));
    assert!(!covers(BTreeSet::new()), "upstreams that are not known");
}

#[test]
fn nothing_is_certain_without_a_budget() {
    let all = rule("a", Action::Cache, &[], &[], &[]);
    assert!(!covers(&all, &all, &BTreeSet::new(), &mut Budget(0)));
}

fn any_rule(name: &'static str) -> impl Strategy<Value = Rule> {
    let actions = prop::sample::select(vec![
        Action::Cache,
        Action::Forward,
        Action::Refuse,
        Action::Deny,
    ]);
    let hosts = prop::sample::subsequence(vec!["docker.io", "quay.io"], 0..=2);
    let globs = vec!["**", "*", "a/*", "a/**", "a/b", "b", "a/{b,c}", "a/b*", "?"];
    let globs = prop::sample::subsequence(globs, 0..=2);
    let tags = prop::sample::subsequence(vec!["*", "v1", "v*", "v1*", "[vw]1", "?1"], 0..=2);
    (actions, hosts, globs, tags)
        .prop_map(move |(action, hosts, globs, tags)| rule(name, action, &hosts, &globs, &tags))
}

proptest! {
    #[test]
    fn what_is_covered_never_decides(earlier in any_rule("earlier"), later in any_rule("later")) {
        let hosts: BTreeSet<RegistryHost> =
            ["docker.io", "quay.io"].iter().map(|host| host.parse().unwrap()).collect();
        if covers(&earlier, &later, &hosts, &mut Budget::new()) {
            let policy = Policy {
                upstreams: hosts.iter().cloned().map(Upstream::named).collect(),
                rules: vec![earlier, later],
                ..Policy::public_registries()
            };
            let decisions = Decisions::new(&policy);
            for upstream in &hosts {
                for repository in ["a", "b", "a/b", "a/c", "a/bb", "a/b/c", "a/b/v1"] {
                    for tag in [None, Some("v1"), Some("v12"), Some("w1"), Some("x"), Some("v")] {
                        let decision = decisions.decide(Subject { upstream, repository, tag });
                        prop_assert_ne!(decision.rule, Some("later"));
                    }
                }
            }
        }
    }
}
