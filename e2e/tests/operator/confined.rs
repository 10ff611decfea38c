//! An operator whose rights end with two namespaces, as the chart gives them with `watchNamespaces`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Operator, OperatorOptions, objects};
use serde_json::json;

use super::golden::{forget, rest, wait_for_children};
use super::ready::{self, cache};

const LIMIT: Duration = Duration::from_mins(2);

const OWN: &str = "confined-system";
const WATCHED: [&str; 2] = ["confined-a", "confined-b"];
const OTHER: &str = "confined-other";

/// Whatever needs a right of its own.
fn everything() -> serde_json::Value {
    json!({"spec": {
        "networkPolicy": {},
        "serviceAccount": {"annotations": {"example.org/role": "pull"}},
        "exposure": {
            "ingress": {"host": "cache.example"},
            "gateway": {"parentRefs": [{"name": "internal"}], "hostnames": ["cache.example"]},
        },
        "mirrors": [{"name": "nodes"}, {"name": "secret", "target": {"kind": "Secret"}}],
    }})
}

const CHILDREN: [(&str, &str); 11] = [
    ("statefulsets", "images"),
    ("services", "images-pods"),
    ("serviceaccounts", "images"),
    ("poddisruptionbudgets", "images"),
    ("networkpolicies", "images"),
    ("ingresses", "images"),
    ("configmaps", "images-mirror-nodes"),
    ("secrets", "images-mirror-secret"),
    ("servicemonitors", "images"),
    ("prometheusrules", "images"),
    ("httproutes", "images"),
];

pub(crate) fn rights_in_two_namespaces_are_enough_for_their_caches(
    cluster: &mut Cluster,
) -> Result<()> {
    cluster.install_optional_definitions()?;
    for namespace in [OWN, OTHER].into_iter().chain(WATCHED) {
        cluster.create_namespace(namespace)?;
    }
    let namespaces = format!("watchNamespaces={{{}}}", WATCHED.join(","));
    cluster.install_rights("confined", OWN, &[&namespaces])?;
    for namespace in WATCHED.into_iter().chain([OTHER]) {
        cluster.apply(&ready::manifest(namespace))?;
        cluster.run(cluster.api.merge(&cache(namespace), &everything()))?;
    }
    let untouched = cluster.get(&cache(OTHER))?;
    // As the chart's Deployment says it.
    let account = "confined-larder-operator";
    let watch = WATCHED.iter().flat_map(|name| ["--watch-namespace", name]);
    let arguments = watch.chain(["--lease-name", account]);
    let mut operator = cluster.start_operator_with(&OperatorOptions {
        arguments: arguments.map(str::to_owned).collect(),
        account: Some((OWN.to_owned(), account.to_owned())),
        elected: true,
        ..OperatorOptions::default()
    })?;
    operator.wait_until_ready()?;
    for namespace in WATCHED {
        cluster.wait_until_cache_is_ready(namespace, "images")?;
        wait_for_children(cluster, namespace, &CHILDREN)?;
        rest(cluster, &operator, namespace)?;
    }
    must_be_refused_nothing(&operator)?;
    let [grown, _] = WATCHED;
    let more = json!({"spec": {"storage": {"volume": {"size": "2Gi"}}}});
    cluster.run(cluster.api.merge(&cache(grown), &more))?;
    cluster.wait_for("the volumes to grow", LIMIT, |cluster| {
        for claim in cluster.list(&objects("persistentvolumeclaims", grown))? {
            let size = &claim["status"]["capacity"]["storage"];
            ensure!(size == "2Gi", "a claim has {size}");
        }
        Ok(())
    })?;
    cluster.wait_until_cache_is_ready(grown, "images")?;
    rest(cluster, &operator, grown)?;
    must_be_refused_nothing(&operator)?;

    let other = cluster.get(&cache(OTHER))?;
    ensure!(other == untouched, "it was {untouched} and is {other}");
    for (plural, _) in CHILDREN {
        let selector = "labelSelector=app.kubernetes.io/managed-by=larder";
        let found = cluster.list(&format!("{}?{selector}", objects(plural, OTHER)))?;
        ensure!(found.is_empty(), "{} {plural} are there", found.len());
    }
    operator.terminate()?;
    for namespace in [OWN, OTHER].into_iter().chain(WATCHED) {
        forget(cluster, namespace)?;
    }
    cluster.remove_optional_definitions()
}

/// Storage classes belong to no namespace: to be refused those is expected, and no line of the log.
fn must_be_refused_nothing(operator: &Operator) -> Result<()> {
    let path = operator.log();
    let log =
        fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))?;
    ensure!(!log.is_empty(), "the operator says nothing");
    let refused: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("orbidden"))
        .collect();
    ensure!(refused.is_empty(), "it was refused {refused:?}");
    Ok(())
}
