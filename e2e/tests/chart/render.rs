//! What the chart renders, and what it refuses.

use std::fs;

use e2e::larder;

use crate::tools::{self, chart, helm, objects, template, text};

#[test]
fn chart_has_no_findings_with_any_values() {
    for values in tools::values() {
        helm(&[
            "lint",
            "--strict",
            text(&chart()),
            "--values",
            text(&values),
        ])
        .unwrap();
    }
}

#[test]
fn objects_are_as_they_were() {
    for values in tools::values() {
        let rendered = template(&["--values", text(&values)]).unwrap();
        let name = values.file_stem().unwrap().to_str().unwrap().to_owned();
        insta::assert_snapshot!(name, rendered);
    }
}

#[test]
fn definitions_are_those_of_the_code_and_outlive_the_release() {
    let rendered = template(&["--show-only", "templates/crds.yaml"]).unwrap();
    let mut rendered = objects(&rendered);
    assert_eq!(rendered.len(), 2);
    for (found, file) in rendered.iter_mut().zip(["cachepolicies", "registrycaches"]) {
        let path = larder::workspace().join(format!("crds/yaml/{file}.yaml"));
        let expected = objects(&fs::read_to_string(path).unwrap()).remove(0);
        let metadata = found["metadata"].as_object_mut().unwrap();
        let annotations = metadata.remove("annotations").unwrap();
        assert_eq!(annotations["helm.sh/resource-policy"], "keep");
        metadata.remove("labels").unwrap();
        assert_eq!(*found, expected, "{file}");
    }
}

#[test]
fn definitions_go_with_the_release_if_they_shall() {
    let arguments = [
        "--show-only",
        "templates/crds.yaml",
        "--set",
        "crds.keep=false",
    ];
    let rendered = template(&arguments).unwrap();
    assert!(!rendered.contains("resource-policy"), "{rendered}");
}

#[test]
fn all_rights_are_given_to_the_account_of_the_operator() {
    let values = "serviceAccount.name=robot,nodeAgent.enabled=true,nodeAgent.namespaces={a}";
    for scope in [&[][..], &["--set", "watchNamespaces={a,b}"]] {
        let rendered = template(&[&["--set", values], scope].concat()).unwrap();
        let rendered = objects(&rendered);
        let bindings = rendered.iter().filter(|object| {
            let kind = object["kind"].as_str().unwrap();
            // The hook that undoes the agents' work has an account of its own.
            kind.ends_with("Binding") && object["metadata"]["annotations"]["helm.sh/hook"].is_null()
        });
        let accounts: Vec<&str> = bindings
            .map(|binding| binding["subjects"][0]["name"].as_str().unwrap())
            .collect();
        assert!(accounts.len() > 3, "{accounts:?}");
        assert!(accounts.iter().all(|name| *name == "robot"), "{accounts:?}");
    }
}

#[test]
fn operator_writes_no_secret_if_it_shall_not() {
    let writes_secrets = |file: &str, settings: &[&str]| {
        let file = format!("templates/{file}");
        let agents = "nodeAgent.enabled=true,nodeAgent.namespaces={a}";
        let show = ["--show-only", &file, "--set", agents];
        let rendered = template(&[&show, settings].concat()).unwrap();
        let found = objects(&rendered);
        let rules = found.iter().filter_map(|role| role["rules"].as_array());
        let mut secrets = rules.flatten().filter(|rule| {
            let resources = rule["resources"].as_array();
            resources.is_some_and(|all| all.iter().any(|one| one == "secrets"))
        });
        secrets.any(|rule| {
            let verbs = rule["verbs"].as_array();
            verbs.is_some_and(|all| all.iter().any(|one| one == "create" || one == "patch"))
        })
    };
    for file in ["rbac.yaml", "node-agent-rbac.yaml"] {
        assert!(writes_secrets(file, &[]), "{file}");
        assert!(
            !writes_secrets(file, &["--set", "mirrorSecrets=false"]),
            "{file}"
        );
    }
}

#[test]
fn one_replica_has_no_budget_that_would_pin_it() {
    let rendered = template(&["--set", "replicas=1"]).unwrap();
    assert!(!rendered.contains("PodDisruptionBudget"));
}

#[test]
fn wrong_values_are_refused_by_name() {
    for (setting, mentioned) in [
        ("image.pullPolicy=Sometimes", "pullPolicy"),
        ("image.repository=", "repository"),
        ("image.tag=a b", "tag"),
        ("replica=1", "replica"),
        ("replicas=-1", "replicas"),
        ("watchNamespaces={Team_A}", "watchNamespaces"),
        ("watchNamespaces=team-a", "watchNamespaces"),
        ("watchNamespaces={a,a}", "watchNamespaces"),
        ("crds.kep=true", "kep"),
        ("leaderElection=false", "replicas"),
        ("prometheusRule.exclude={LarderNoSuchAlert}", "exclude"),
        ("serviceMonitor.interval=often", "interval"),
        ("affinity.nodes=1", "affinity"),
    ] {
        let refused = template(&["--set", setting]).unwrap_err();
        // The command line stands before that.
        let (_, said) = refused.split_once(" ended with ").unwrap();
        assert!(said.contains(mentioned), "{setting}: {said}");
    }
}
