//! Scraping and alerts.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Objects for the Prometheus operator. They are made when its API is installed; the condition `MonitoringReady` tells.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonitoringSpec {
    /// The `ServiceMonitor`.
    #[serde(default)]
    pub service_monitor: ServiceMonitorSpec,
    /// The `PrometheusRule`.
    #[serde(default)]
    pub alerts: AlertsSpec,
}

/// How the pods are scraped.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMonitorSpec {
    /// Whether to make one.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Labels that your Prometheus selects by: `release: kube-prometheus-stack`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Time between scrapes. Default: Prometheus' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(ms|s|m|h)$"))]
    pub interval: Option<String>,
}

impl Default for ServiceMonitorSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            labels: BTreeMap::new(),
            interval: None,
        }
    }
}

/// Which alerts are made.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertsSpec {
    /// Whether to make any.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Labels of the `PrometheusRule`, by which your Prometheus selects it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Names of alerts to leave out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)))]
    pub exclude: Vec<String>,
    /// Where your runbooks are: each alert gets the annotation `runbook_url`, this with `/` and its name behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^https?://[^\s/]+(/\S*)?$"))]
    pub runbook_base_url: Option<String>,
    /// What is different from the default, by alert.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["alert".to_owned()]))]
    pub overrides: Vec<AlertOverride>,
}

/// One alert as you want it.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.thresholdPercent) || self.alert in ['LarderUpstreamFailing', 'LarderStoreAlmostFull']", "thresholdPercent: only LarderUpstreamFailing and LarderStoreAlmostFull have one"))]
pub struct AlertOverride {
    /// Its name.
    #[schemars(length(min = 1, max = 63))]
    pub alert: String,
    /// How long it has to be true before it fires: `30m`.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16), regex(pattern = r"^[0-9]+(s|m|h|d)$"))]
    pub wait: Option<String>,
    /// Its label `severity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub severity: Option<String>,
    /// Of requests that fail (`LarderUpstreamFailing`, 50 by default), of the disk that is free (`LarderStoreAlmostFull`, 3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub threshold_percent: Option<i32>,
}

impl Default for AlertsSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            labels: BTreeMap::new(),
            exclude: Vec::new(),
            runbook_base_url: None,
            overrides: Vec::new(),
        }
    }
}

fn enabled() -> bool {
    true
}
