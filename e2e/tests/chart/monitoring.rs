//! Alerts and the dashboard: taken by Prometheus' own tool, made of metrics that exist.

use std::collections::BTreeSet;
use std::fs;

use e2e::{larder, promtool};
use serde_json::Value;

use crate::tools::{NAMESPACE, objects, template};

fn rules() -> Value {
    let rendered = template(&["--set", "crds.install=false,prometheusRule.enabled=true"]).unwrap();
    let mut objects = objects(&rendered).into_iter();
    objects
        .find(|object| object["kind"] == "PrometheusRule")
        .unwrap()["spec"]
        .clone()
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    let cases = larder::workspace().join("e2e/tests/chart/alerts.yaml");
    let cases = fs::read_to_string(cases).unwrap();
    promtool::try_rules(&rules().to_string(), &cases).unwrap();
}

#[test]
fn each_alert_is_tried_and_can_be_left_out() {
    let rules = rules();
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    let alerts: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap())
        .collect();
    let read = |path: &str| fs::read_to_string(larder::workspace().join(path)).unwrap();
    let schema: Value = serde_json::from_str(&read("helm/values.schema.json")).unwrap();
    let excludable = schema
        .pointer("/properties/prometheusRule/properties/exclude/items/enum")
        .unwrap();
    let excludable: BTreeSet<&str> = excludable
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    assert_eq!(alerts, excludable);
    let tried = read("e2e/tests/chart/alerts.yaml");
    for alert in alerts {
        assert!(tried.contains(&format!("alertname=\"{alert}\"")), "{alert}");
    }
    for rule in rules {
        let texts = rule["annotations"].to_string();
        assert!(
            !texts.contains("NAMESPACE") && !texts.contains("LEASE"),
            "{texts}"
        );
        let selector = format!("{{namespace=\"{NAMESPACE}\",job=\"larder-operator\"");
        assert!(rule["expr"].as_str().unwrap().contains(&selector), "{rule}");
    }
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_exist() {
    let read = |path: &str| fs::read_to_string(larder::workspace().join(path)).unwrap();
    let reference = read("docs/reference/metrics.md") + &read("docs/reference/operator-metrics.md");
    let asked = read("helm/files/alerts.yaml") + &read("helm/files/dashboard.json");
    let words = asked.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let metrics: BTreeSet<&str> = words.filter(|word| word.starts_with("larder_")).collect();
    assert!(metrics.len() > 10, "{metrics:?}");
    for metric in metrics {
        let metric = metric.strip_suffix("_bucket").unwrap_or(metric);
        assert!(reference.contains(&format!("`{metric}`")), "{metric}");
    }
}

#[test]
fn dashboard_is_in_a_config_map_that_the_sidecar_finds() {
    let rendered = template(&["--set", "crds.install=false,dashboard.enabled=true"]).unwrap();
    let mut objects = objects(&rendered).into_iter();
    let config_map = objects
        .find(|object| object["kind"] == "ConfigMap")
        .unwrap();
    assert_eq!(config_map["metadata"]["labels"]["grafana_dashboard"], "1");
    let dashboard: Value =
        serde_json::from_str(config_map["data"]["larder.json"].as_str().unwrap()).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("namespace=~\"$namespace\""), "{query}");
        }
    }
}
