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
}

impl Default for AlertsSpec {
    fn default() -> Self {
        Self {
            enabled: true,
            labels: BTreeMap::new(),
            exclude: Vec::new(),
        }
    }
}

fn enabled() -> bool {
    true
}
