//! The Prometheus operator's objects: taken up when their API appears, and accepted by Prometheus' own tool.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::tools::packages;
use e2e::{World, command};

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
    let groups = serde_json::to_string(&rule["spec"]).context("failed to write the rules")?;
    let directory = tempfile::tempdir().context("failed to make a directory")?;
    let file = directory.path().join("rules.yaml");
    std::fs::write(&file, groups).context("failed to write the rules")?;
    packages::unpack(packages::PROMETHEUS, directory.path())?;
    let mut promtool = Command::new(directory.path().join("usr/bin/promtool"));
    let said = command::output(promtool.args(["check", "rules"]).arg(&file))?;
    ensure!(said.contains("SUCCESS"), "promtool says: {said}");
    Ok(())
}
