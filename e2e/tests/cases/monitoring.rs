//! The Prometheus operator's objects: taken up when their API appears, and accepted by Prometheus' own tool.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{World, promtool};
use serde_json::Value;

use super::quickstart;

/// The operator looks for the API once a minute, and then has to reconcile.
const LIMIT: Duration = Duration::from_mins(2);

/// As much of the API as the API server needs to keep the objects.
fn definition(kind: &str, plural: &str) -> String {
    let singular = kind.to_lowercase();
    format!(
        "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.monitoring.coreos.com}}
spec:
  group: monitoring.coreos.com
  scope: Namespaced
  names: {{kind: {kind}, plural: {plural}, singular: {singular}}}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {{openAPIV3Schema: {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}
---
"
    )
}

pub(crate) fn monitoring_that_is_installed_later_is_used(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    let node = &mut world.node;
    let condition = cache.wait_for_condition(node, "MonitoringReady", "False", LIMIT)?;
    ensure!(
        condition["reason"] == "ApiMissing",
        "the condition is {condition}"
    );
    node.apply(
        &(definition("ServiceMonitor", "servicemonitors")
            + &definition("PrometheusRule", "prometheusrules")),
    )?;
    cache.wait_for_condition(node, "MonitoringReady", "True", LIMIT)?;
    let monitor = cache.json(node, "servicemonitor", "images")?;
    ensure!(
        monitor["spec"]["endpoints"][0]["port"] == "admin",
        "the ServiceMonitor is {monitor}"
    );
    let rule = cache.json(node, "prometheusrule", "images")?;
    alerts_fire_when_they_should(&rule["spec"], &cache.namespace)
}

/// As Prometheus' own tool sees it, which is told what happens and what must fire then.
fn alerts_fire_when_they_should(rules: &Value, namespace: &str) -> Result<()> {
    let happens = include_str!("alerts.yaml").replace("NAMESPACE", namespace);
    let alerts = rules["groups"][0]["rules"]
        .as_array()
        .context("there are no rules")?;
    for alert in alerts {
        let name = alert["alert"].as_str().context("an alert has no name")?;
        ensure!(
            happens.contains(&format!("alertname=\"{name}\"")),
            "nothing makes {name} fire"
        );
    }
    promtool::try_rules(&rules.to_string(), &happens)
}
