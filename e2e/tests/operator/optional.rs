//! The real definitions of others: what the operator makes for them is taken, and stays as it is. The others are played here.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::cluster::objects;
use e2e::{Cluster, condition};
use serde_json::{Value, json};

use super::golden::{forget, rest};
use super::ready::{self, cache};

/// The operator looks every half minute which kinds exist.
const LIMIT: Duration = Duration::from_mins(2);

/// A certificate that nobody reads.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nb2xk\n-----END CERTIFICATE-----\n";

/// What a cache asks cert-manager for, and waits for.
pub(crate) fn wanted_certificate(
    cluster: &mut Cluster,
    namespace: &str,
    name: &str,
) -> Result<Value> {
    let cache = format!("{}/{name}", objects("registrycaches", namespace));
    let certificate = format!("{}/{name}", objects("certificates", namespace));
    cluster.wait_for("the Certificate", LIMIT, |cluster| {
        let ready = condition(&cluster.get(&cache)?, "Ready").clone();
        ensure!(
            ready["reason"] == "CertificatePending",
            "the condition is {ready}"
        );
        cluster.get(&certificate)
    })
}

/// As cert-manager.
pub(crate) fn issue(cluster: &Cluster, certificate: &Value) -> Result<()> {
    let namespace = &certificate["metadata"]["namespace"];
    let issued = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": certificate["spec"]["secretName"], "namespace": namespace},
        "stringData": {"tls.crt": PEM, "tls.key": "key", "ca.crt": PEM},
    });
    cluster.apply(&issued.to_string())
}

fn must_be(cluster: &Cluster, namespace: &str, type_: &str, reason: &str) -> Result<String> {
    let cache = cluster.get(&cache(namespace))?;
    let condition = condition(&cache, type_);
    ensure!(
        condition["reason"] == reason,
        "the condition is {condition}"
    );
    Ok(condition["message"].as_str().unwrap_or_default().to_owned())
}

/// What a Gateway's controller says of the route.
fn answer(cluster: &Cluster, namespace: &str, status: &str, reason: &str) -> Result<()> {
    let condition = json!({
        "type": "Accepted", "status": status, "reason": reason, "message": "Said by the test.",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let parent = json!({
        "parentRef": {"name": "internal", "namespace": "gateways"},
        "controllerName": "example.org/test", "conditions": [condition],
    });
    let route = format!("{}/images/status", objects("httproutes", namespace));
    let body = json!({"status": {"parents": [parent]}});
    cluster.run(cluster.api.merge(&route, &body)).map(drop)
}

pub(crate) fn objects_for_others_come_when_their_definitions_do(
    cluster: &mut Cluster,
) -> Result<()> {
    let namespace = "for-others";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let exposed = json!({"spec": {"exposure": {"gateway": {
        "parentRefs": [{"name": "internal", "namespace": "gateways", "sectionName": "https"}],
        "hostnames": ["cache.example"],
    }}}});
    cluster.run(cluster.api.merge(&cache(namespace), &exposed))?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    for condition in ["MonitoringReady", "ExposureReady"] {
        let message = must_be(cluster, namespace, condition, "ApiMissing")?;
        ensure!(!message.is_empty(), "{condition} says nothing");
    }
    cluster.install_optional_definitions()?;
    cluster.wait_for("what is for others", LIMIT, |cluster| {
        for plural in ["servicemonitors", "prometheusrules", "httproutes"] {
            cluster.get(&format!("{}/images", objects(plural, namespace)))?;
        }
        must_be(cluster, namespace, "MonitoringReady", "Succeeded")?;
        must_be(cluster, namespace, "ExposureReady", "Progressing")
    })?;
    rest(cluster, &operator, namespace)?;
    for (status, reason, expected) in [
        ("True", "Accepted", "Succeeded"),
        ("False", "NotAllowedByListeners", "NotAccepted"),
    ] {
        answer(cluster, namespace, status, reason)?;
        cluster.wait_for("the Gateway's answer", LIMIT, |cluster| {
            must_be(cluster, namespace, "ExposureReady", expected)
        })?;
    }
    let message = must_be(cluster, namespace, "ExposureReady", "NotAccepted")?;
    ensure!(
        message.contains("internal") && message.contains("NotAllowedByListeners"),
        "the condition says {message}"
    );
    let less = json!({"spec": {"exposure": {"gateway": null}}});
    cluster.run(cluster.api.merge(&cache(namespace), &less))?;
    cluster.wait_for("the route to go", LIMIT, |cluster| {
        let routes = cluster.list(&objects("httproutes", namespace))?;
        ensure!(routes.is_empty(), "{} routes are left", routes.len());
        let left = must_be(cluster, namespace, "ExposureReady", "NotAccepted");
        ensure!(left.is_err(), "the condition is left");
        Ok(())
    })?;
    operator.terminate()?;
    cluster.remove_optional_definitions()?;
    forget(cluster, namespace)
}

pub(crate) fn a_certificate_comes_before_the_pods_that_show_it(
    cluster: &mut Cluster,
) -> Result<()> {
    let namespace = "certified";
    cluster.install_optional_definitions()?;
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let guarded = json!({"spec": {
        "mirrors": [{"name": "nodes", "endpoint": "https://cache.example:5000"}],
        "tls": {"issuerRef": {"name": "corporate"}, "names": ["images.example"]},
    }});
    cluster.run(cluster.api.merge(&cache(namespace), &guarded))?;
    let operator = cluster.start_operator()?;
    let wanted = wanted_certificate(cluster, namespace, "images")?;
    let names: Vec<&str> = wanted["spec"]["dnsNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for name in ["images.certified.svc", "images.example", "cache.example"] {
        ensure!(names.contains(&name), "the names are {names:?}");
    }
    let sets = cluster.list(&objects("statefulsets", namespace))?;
    ensure!(sets.is_empty(), "pods came before their certificate");
    issue(cluster, &wanted)?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    let mirror = format!("{}/images-mirror-nodes", objects("configmaps", namespace));
    let told = cluster.get(&mirror)?["data"]["ca.crt"].clone();
    ensure!(told == PEM, "nodes are told of {told}");
    rest(cluster, &operator, namespace)?;
    operator.terminate()?;
    forget(cluster, namespace)?;
    cluster.remove_optional_definitions()
}
