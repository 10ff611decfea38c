//! Conditions for each thing that can happen, as one table.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use crds::conditions::Reason;
use crds::registry_cache::{MirrorTargetKind, RegistryCacheStatus};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::DynamicObject;
use operator::apply::{Applied, Error};
use operator::confirm::{Confirmation, PodPolicy, PodState};
use operator::figures::{Told, Usage};
use operator::nodes::count::Trouble;
use operator::nodes::{NodesSeen, Sighting};
use operator::observe::Observed;
use operator::optional_apis::OptionalKind;
use operator::render::names::{MirrorTarget, mirror_target};
use operator::report::{Failure, Settled, report, truncate};
use operator::resolve::{ResolvedCache, resolve};
use serde_json::{Value, json};

fn observed() -> Observed {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let mut observed = support::observed(&directory.join("everything.yaml"));
    observed.cache.metadata.generation = Some(3);
    observed.cache.spec.replicas = 2;
    observed
}

fn time(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn applied(ready: i32, updated: i32) -> Applied {
    let mut stateful_set = StatefulSet::default();
    stateful_set.metadata.name = Some("cache".to_owned());
    stateful_set.status = Some(StatefulSetStatus {
        replicas: 2,
        ready_replicas: Some(ready),
        updated_replicas: Some(updated),
        ..StatefulSetStatus::default()
    });
    Applied {
        stateful_set: Some(stateful_set),
        policy_changed: false,
        mirrors: ["cache-mirror-nodes", "cache-mirror-edge"]
            .map(|name| MirrorTarget {
                kind: MirrorTargetKind::ConfigMap,
                name: name.to_owned(),
            })
            .into(),
        ..Applied::default()
    }
}

fn confirmation(states: [PodState; 2], overdue: bool) -> Confirmation {
    let pods = states
        .into_iter()
        .enumerate()
        .map(|(ordinal, state)| PodPolicy {
            name: format!("cache-{ordinal}"),
            state,
        });
    Confirmation {
        pods: pods.collect(),
        overdue,
    }
}

fn refused() -> PodState {
    PodState::Differs {
        hash: Some("0123456789abcdef".to_owned()),
        last_error: Some("failed to read the policy: line 3".to_owned()),
    }
}

fn silent() -> PodState {
    PodState::Silent {
        reason: "failed to get /configz within 800 ms".to_owned(),
    }
}

fn foreign() -> Error {
    Error::NotOwned {
        kind: "Service".to_owned(),
        namespace: "team-a".to_owned(),
        name: "cache".to_owned(),
    }
}

/// The conditions after a reconcile that went through all steps.
fn settled(observed: &Observed, applied: &Applied, confirmation: &Confirmation) -> String {
    table(&status(observed, applied, confirmation).conditions)
}

fn status(
    observed: &Observed,
    applied: &Applied,
    confirmation: &Confirmation,
) -> RegistryCacheStatus {
    let cache = resolve(observed, &support::settings()).unwrap();
    let settled = Settled {
        cache: &cache,
        applied,
        confirmation,
    };
    let status = report(observed, Ok(settled), &time(0));
    assert_eq!(status.observed_generation, Some(3));
    status
}

#[test]
fn pods_that_do_not_follow_the_policy_are_named_with_what_they_follow() {
    let behind = |states| {
        let status = status(&observed(), &applied(2, 2), &confirmation(states, false));
        let behind = status.policy.unwrap().behind.into_iter();
        behind
            .map(|one| (one.pod, one.hash.unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let named = |pod: &str, hash: &str| (pod.to_owned(), hash.to_owned());
    assert_eq!(behind([PodState::Confirmed, PodState::Confirmed]), []);
    assert_eq!(
        behind([PodState::Confirmed, refused()]),
        [named("cache-1", "0123456789abcdef")]
    );
    assert_eq!(
        behind([silent(), PodState::NotRunning]),
        [named("cache-0", ""), named("cache-1", "")]
    );
}

fn table(conditions: &[operator::report::Condition]) -> String {
    conditions.iter().fold(String::new(), |mut text, one| {
        let _ = writeln!(
            text,
            "{}={} {}: {}",
            one.type_, one.status, one.reason, one.message
        );
        text
    })
}

#[test]
fn each_outcome_has_its_conditions() {
    use PodState::{Confirmed, NotRunning};
    let all = || confirmation([Confirmed, Confirmed], false);
    let mut text = String::new();
    let mut case = |name: &str, conditions: String| {
        let _ = writeln!(text, "# {name}\n{conditions}");
    };
    let observed = observed();
    case("all is well", settled(&observed, &applied(2, 2), &all()));
    case(
        "one replica is not ready",
        settled(&observed, &applied(1, 2), &all()),
    );
    case(
        "one replica is not updated",
        settled(&observed, &applied(2, 1), &all()),
    );
    case(
        "the policy is on its way",
        settled(
            &observed,
            &applied(2, 2),
            &confirmation(
                [
                    Confirmed,
                    PodState::Differs {
                        hash: None,
                        last_error: None,
                    },
                ],
                false,
            ),
        ),
    );
    case(
        "no pod runs",
        settled(
            &observed,
            &applied(0, 0),
            &confirmation([NotRunning, NotRunning], false),
        ),
    );
    case(
        "a pod refused the policy",
        settled(
            &observed,
            &applied(2, 2),
            &confirmation([refused(), Confirmed], true),
        ),
    );
    case(
        "a pod gives no answer",
        settled(
            &observed,
            &applied(2, 2),
            &confirmation([Confirmed, silent()], true),
        ),
    );
    let mut failed = applied(2, 2);
    failed.failures.push(foreign());
    case(
        "the Service is somebody else's",
        settled(&observed, &failed, &all()),
    );
    let mut monitoring_failed = applied(2, 2);
    monitoring_failed.optional_failures.push(foreign());
    case(
        "monitoring failed",
        settled(&observed, &monitoring_failed, &all()),
    );
    let mut missing = observed.clone();
    missing.apis = [OptionalKind::ServiceMonitor].into_iter().collect();
    case(
        "the monitoring API is missing",
        settled(&missing, &applied(2, 2), &all()),
    );
    let mut off = observed.clone();
    off.cache.spec.monitoring.service_monitor.enabled = false;
    off.cache.spec.monitoring.alerts.enabled = false;
    case("monitoring is off", settled(&off, &applied(2, 2), &all()));
    insta::assert_snapshot!(text);
}

#[test]
fn choices_that_people_regret_are_said() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    let both = confirmation([PodState::Confirmed, PodState::Confirmed], false);
    let mut text = String::new();
    for (file, tls) in [
        ("minimal.yaml", true),
        ("everything.yaml", true),
        ("door.yaml", true),
        ("door.yaml", false),
    ] {
        let mut observed = support::observed(&directory.join(file));
        if !tls {
            observed.cache.spec.tls = None;
            let alerts = &mut observed.cache.spec.monitoring.alerts;
            alerts.exclude = vec!["LarderServingStale".to_owned(), "LarderOld".to_owned()];
        }
        let cache = resolve(&observed, &support::settings()).unwrap();
        let settled = Settled {
            cache: &cache,
            applied: &applied(2, 2),
            confirmation: &both,
        };
        let status = report(&observed, Ok(settled), &time(100));
        let risky = status.conditions.iter().find(|one| one.type_ == "Risky");
        let message = risky.map_or("nothing", |condition| &condition.message);
        let _ = writeln!(text, "{file}, TLS {tls}: {message}");
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_gateways_say_of_the_route_is_told() {
    let mut observed = observed();
    observed.cache.spec.exposure = serde_json::from_value(json!({
        "gateway": {"parentRefs": [{"name": "internal"}, {"name": "external"}]},
    }))
    .unwrap();
    let said = |parents: Value| {
        let kind = OptionalKind::HttpRoute.resource();
        let mut all = applied(2, 2);
        let route = DynamicObject::new("cache", &kind);
        all.route = Some(route.data(json!({"status": {"parents": parents}})));
        all
    };
    let parent = |name: &str, conditions: Value| json!({"parentRef": {"name": name}, "conditions": conditions});
    let accepted =
        json!([{"type": "Accepted", "status": "True"}, {"type": "ResolvedRefs", "status": "True"}]);
    let refused = json!([{"type": "Accepted", "status": "False", "reason": "NoMatchingListenerHostname", "message": "No listener fits."}]);
    let unresolved = json!([
        {"type": "Accepted", "status": "True"},
        {"type": "ResolvedRefs", "status": "False", "reason": "BackendNotFound", "message": "No Service."},
    ]);
    let everywhere = [OptionalKind::HttpRoute].into_iter().collect();
    let none = [].into_iter().collect();
    let cases = vec![
        (&none, applied(2, 2)),
        (&everywhere, said(json!([]))),
        (
            &everywhere,
            said(json!([parent("internal", accepted.clone())])),
        ),
        (
            &everywhere,
            said(json!([
                parent("internal", accepted.clone()),
                parent("external", refused)
            ])),
        ),
        (
            &everywhere,
            said(json!([
                parent("internal", unresolved),
                parent("external", accepted.clone())
            ])),
        ),
        (
            &everywhere,
            said(json!([
                parent("internal", accepted.clone()),
                parent("external", accepted)
            ])),
        ),
    ];
    let both = confirmation([PodState::Confirmed, PodState::Confirmed], false);
    let mut text = String::new();
    for (apis, applied) in cases {
        let mut observed = observed.clone();
        observed.apis.clone_from(apis);
        let cache = resolve(&observed, &support::settings()).unwrap();
        let settled = Settled {
            cache: &cache,
            applied: &applied,
            confirmation: &both,
        };
        let status = report(&observed, Ok(settled), &time(100));
        let told = status
            .conditions
            .iter()
            .find(|one| one.type_ == "ExposureReady");
        let told = told.unwrap();
        let _ = writeln!(text, "{} {}: {}", told.status, told.reason, told.message);
    }
    insta::assert_snapshot!(text);
}

#[test]
fn times_change_only_when_a_condition_turns() {
    let mut observed = observed();
    let cache = resolve(&observed, &support::settings()).unwrap();
    let both = confirmation([PodState::Confirmed, PodState::Confirmed], false);
    let at = |observed: &Observed, applied: &Applied, second| {
        let settled = Settled {
            cache: &cache,
            applied,
            confirmation: &both,
        };
        report(observed, Ok(settled), &time(second))
    };
    let first = at(&observed, &applied(2, 2), 100);
    observed.cache.status = Some(first.clone());
    assert_eq!(at(&observed, &applied(2, 2), 200), first);
    let turned = at(&observed, &applied(1, 2), 300);
    let times: Vec<(&str, i64)> = turned
        .conditions
        .iter()
        .map(|one| (one.type_.as_str(), one.last_transition_time.0.as_second()))
        .collect();
    assert_eq!(
        times,
        [
            ("Ready", 300),
            ("Reconciling", 300),
            ("PolicyApplied", 100),
            ("MonitoringReady", 100),
            ("StorageReady", 100),
            ("MirrorsReady", 100),
            ("NotEnforceable", 100),
            ("Risky", 100),
        ]
    );
}

#[test]
fn a_failure_keeps_what_was_known() {
    let mut observed = observed();
    let cache = resolve(&observed, &support::settings()).unwrap();
    let both = confirmation([PodState::Confirmed, PodState::Confirmed], false);
    let settled = Settled {
        cache: &cache,
        applied: &applied(2, 2),
        confirmation: &both,
    };
    observed.cache.status = Some(report(&observed, Ok(settled), &time(100)));
    let failure = Failure {
        reason: Reason::Failed,
        message: "the API server is away".to_owned(),
        stalled: false,
        policy: false,
    };
    let status = report(&observed, Err(&failure), &time(200));
    assert_eq!(status.endpoint.as_deref(), Some("http://10.96.0.7:443"));
    insta::assert_snapshot!(table(&status.conditions), @r"
    Ready=False Failed: the API server is away
    Reconciling=True Failed: the API server is away
    PolicyApplied=True Succeeded: 2 of 2 replicas confirmed policy 6231232b59d2.
    MonitoringReady=True Succeeded: The objects for the Prometheus operator are as declared.
    StorageReady=True Succeeded: Each volume has the declared size of 50Gi.
    MirrorsReady=True Succeeded: All 2 mirrors are rendered.
    NotEnforceable=True FallbackAllowed: rule first/narrowed (mirrors nodes, edge). What is denied there is pulled from the upstream: write fallback: Forbid in these mirrors, or Refuse instead of Deny.
    Risky=True RiskyChoice: Everybody who reaches the cache can pull what its credentials for registry.corp.example:5000 unlock: say in access what clients must show.
    ");
}

#[test]
fn mirrors_and_what_does_not_go_with_them_are_told() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/mirrors.yaml");
    let mut observed = support::observed(&path);
    let both = confirmation([PodState::Confirmed, PodState::Confirmed], false);
    let told = |observed: &Observed, failures: Vec<Error>, written: &[&str]| {
        let cache = resolve(observed, &support::settings()).unwrap();
        let mut applied = applied(1, 1);
        applied.failures = failures;
        let targets = cache_targets(observed);
        let is_written = |target: &MirrorTarget| written.contains(&target.name.as_str());
        applied.mirrors = targets.into_iter().filter(is_written).collect();
        let settled = Settled {
            cache: &cache,
            applied: &applied,
            confirmation: &both,
        };
        let status = report(observed, Ok(settled), &time(0));
        let mirrors = status.mirrors.iter().fold(String::new(), |mut text, one| {
            let formats = one.formats.join(", ");
            let kind = one.kind.as_str();
            let _ = writeln!(text, "{}: {kind} {}: {formats}", one.name, one.object);
            text
        });
        table(&status.conditions) + &mirrors
    };
    let names = [
        "cache-mirror-nodes",
        "cache-mirror-east",
        "crio-files",
        "cache-mirror-docker",
        "cache-mirror-talos",
    ];
    let mut text = format!("# problems\n{}\n", told(&observed, Vec::new(), &names));
    observed.cache.spec.mirrors.truncate(names.len());
    let _ = writeln!(
        text,
        "# all is well\n{}",
        told(&observed, Vec::new(), &names)
    );
    let foreign = Error::NotOwned {
        kind: "ConfigMap".to_owned(),
        namespace: "team-a".to_owned(),
        name: "cache-mirror-nodes".to_owned(),
    };
    let rest = told(&observed, vec![foreign], &names[1..]);
    let _ = writeln!(text, "# one is somebody else's\n{rest}");
    assert!(
        !text.contains("secret\n") && !text.contains("c2VjcmV0"),
        "{text}"
    );
    insta::assert_snapshot!(text);
}

fn cache_targets(observed: &Observed) -> Vec<MirrorTarget> {
    let mirrors = observed.cache.spec.mirrors.iter();
    mirrors
        .map(|mirror| mirror_target("cache", mirror))
        .collect()
}

/// The status when all is as declared.
fn as_declared(observed: &Observed, cache: &ResolvedCache) -> RegistryCacheStatus {
    let settled = Settled {
        cache,
        applied: &applied(2, 2),
        confirmation: &confirmation([PodState::Confirmed, PodState::Confirmed], false),
    };
    report(observed, Ok(settled), &time(0))
}

#[test]
fn what_nodes_say_is_told_and_stays_until_they_say_more() {
    let mut observed = observed();
    let cache = resolve(&observed, &support::settings()).unwrap();
    let status = |observed: &Observed| as_declared(observed, &cache);
    let mut seen = NodesSeen {
        ready: 1,
        total: 2,
        behind: [("node-b".to_owned(), "connection refused".to_owned())].into(),
        trouble: None,
    };
    let wired = |status: &RegistryCacheStatus| {
        let nodes = status.nodes.as_ref().map_or("", |nodes| &nodes.summary);
        let condition = status
            .conditions
            .iter()
            .find(|one| one.type_ == "NodesWired");
        let condition = condition.map(|one| table(std::slice::from_ref(one)));
        format!("{nodes} {}", condition.unwrap_or_default())
    };
    observed.nodes = Sighting::Seen(seen.clone());
    let first = status(&observed);
    assert_eq!(
        wired(&first),
        "1/2 wired NodesWired=False NotWired: 1 of 2 nodes pull through the cache. node-b: connection refused.\n"
    );
    observed.cache.status = Some(first.clone());
    observed.nodes = Sighting::Unknown;
    assert_eq!(status(&observed), first);
    seen.trouble = Some(Trouble::NotOwned {
        message: "It is somebody else's.".to_owned(),
    });
    observed.nodes = Sighting::Seen(seen);
    assert!(wired(&status(&observed)).contains("NotOwned: It is somebody else's."));
    observed.nodes = Sighting::NotWired;
    assert_eq!(wired(&status(&observed)), " ");
}

#[test]
fn what_moves_is_told_as_it_was_seen_and_kept_while_nobody_looks() {
    let mut observed = observed();
    let cache = resolve(&observed, &support::settings()).unwrap();
    let status = |observed: &Observed| as_declared(observed, &cache);
    let reachable = |status: &RegistryCacheStatus| {
        let mut all = status.conditions.iter();
        let condition = all.find(|one| one.type_ == "UpstreamsReachable");
        condition.map(|one| table(std::slice::from_ref(one)))
    };
    let nothing = status(&observed);
    assert_eq!((&nothing.usage, &nothing.upstreams), (&None, &vec![]));
    assert_eq!(reachable(&nothing), None);

    let hosts: Vec<_> = observed
        .cache
        .spec
        .upstreams
        .iter()
        .map(|upstream| upstream.host.clone())
        .collect();
    let well = hosts.iter().map(|host| (host.clone(), None));
    observed.figures = Told {
        usage: Some(Usage {
            requests: 1000,
            hits: 934,
            used: 3 << 29,
            maximum: 100 << 30,
        }),
        upstreams: Some(
            well.clone()
                .chain([("gone.example".to_owned(), None)])
                .collect(),
        ),
    };
    let seen = status(&observed);
    let usage = seen.usage.clone().unwrap();
    assert_eq!(usage.hit_ratio.as_deref(), Some("93%"));
    assert_eq!(usage.stored, "1.5Gi/100Gi");
    let told: Vec<_> = seen.upstreams.iter().map(|one| one.host.clone()).collect();
    let mut declared = hosts.clone();
    declared.sort();
    assert_eq!(told, declared, "without one that is not declared any more");
    insta::assert_snapshot!(reachable(&seen).unwrap());

    // Nobody looked since the operator's start, and the reconcile failed.
    observed.cache.status = Some(seen.clone());
    let away = observed.figures.upstreams.take().map(|mut all| {
        all.insert(
            hosts[0].clone(),
            Some("for 1 of 2 replicas: timeout".to_owned()),
        );
        all
    });
    observed.figures = Told::default();
    let failure = Failure {
        reason: Reason::Failed,
        message: "No.".to_owned(),
        stalled: false,
        policy: false,
    };
    let failed = report(&observed, Err(&failure), &time(1));
    assert_eq!(
        (&failed.usage, &failed.upstreams),
        (&seen.usage, &seen.upstreams)
    );
    assert_eq!(reachable(&failed), reachable(&seen));

    observed.figures.upstreams = away;
    let seen = status(&observed);
    assert!(!seen.upstreams.iter().all(|one| one.reachable));
    insta::assert_snapshot!(reachable(&seen).unwrap());
}

#[test]
fn long_texts_are_cut_between_characters() {
    assert_eq!(truncate("short", 10), "short");
    let cut = truncate(&"ä".repeat(1_000), 1_024);
    assert!(cut.len() <= 1_024 && cut.ends_with('…'));
}
