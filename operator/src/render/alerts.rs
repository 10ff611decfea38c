//! The `PrometheusRule`: what a person must know about a cache.

use std::collections::BTreeMap;

use crds::registry_cache::AlertsSpec;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::names::{self, Component};
use crate::resolve::ResolvedCache;

/// An alert, with `SELECTOR` in place of the labels that select the pods of one cache, and `SHARE` and `PERCENT` in place of its
/// threshold.
#[derive(Debug, Clone, Copy)]
pub struct Alert {
    pub name: &'static str,
    expression: &'static str,
    percent: Option<i32>,
    wait: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
}

/// All alerts. Their names are API: `monitoring.alerts` names them.
pub const ALERTS: [Alert; 9] = [
    Alert {
        name: "LarderUnavailable",
        expression: "sum(up{SELECTOR}) == 0 or absent(up{SELECTOR})",
        percent: None,
        wait: "2m",
        severity: "critical",
        summary: "No replica of the image cache CACHE can be scraped.",
        description: "Pulls fall back to the upstream registries where the nodes may do that, and fail elsewhere. Look at `kubectl -n NAMESPACE get registrycache NAME -o wide` and at the pods.",
    },
    Alert {
        name: "LarderUpstreamFailing",
        expression: "sum by (upstream) (rate(larder_upstream_requests_total{SELECTOR,code!~\"[1234]..\"}[5m])) / sum by (upstream) (rate(larder_upstream_requests_total{SELECTOR}[5m])) > SHARE",
        percent: Some(50),
        wait: "10m",
        severity: "warning",
        summary: "More than PERCENT % of the requests to {{ $labels.upstream }} fail.",
        description: "The image cache CACHE gets server errors or no answer from {{ $labels.upstream }}. What it holds is still served; new images are not pulled. Check the registry, and the way to it.",
    },
    Alert {
        name: "LarderServingStale",
        expression: "sum by (upstream) (rate(larder_stale_served_total{SELECTOR}[10m])) > 0",
        percent: None,
        wait: "30m",
        severity: "warning",
        summary: "Tags of {{ $labels.upstream }} are answered from old copies.",
        description: "For half an hour the image cache CACHE could not ask {{ $labels.upstream }} whether tags moved, and serves what it knows. After serveStaleFor it will stop doing so.",
    },
    Alert {
        name: "LarderDigestMismatch",
        expression: "sum by (upstream) (increase(larder_digest_mismatches_total{SELECTOR}[15m])) > 0",
        percent: None,
        wait: "0m",
        severity: "critical",
        summary: "{{ $labels.upstream }} delivered content that does not match its digest.",
        description: "The image cache CACHE refused the content, so no client has it. Something between the registry and the cache changes or truncates bodies.",
    },
    Alert {
        name: "LarderStoreAlmostFull",
        expression: "larder_store_free_bytes{SELECTOR} / larder_store_capacity_bytes{SELECTOR} < SHARE",
        percent: Some(3),
        wait: "15m",
        severity: "warning",
        summary: "The disk under the store of {{ $labels.pod }} is almost full.",
        description: "Less than PERCENT % of it is free, although the image cache CACHE keeps within its maxSize: something else fills the disk, or the volume is smaller than declared. Set spec.capacity.minFree, or a smaller maxSize; both are live within seconds.",
    },
    Alert {
        name: "LarderAdmissionStopped",
        expression: "larder_admission_stopped{SELECTOR} == 1",
        percent: None,
        wait: "15m",
        severity: "warning",
        summary: "{{ $labels.pod }} keeps no new images, since what it must keep fills it.",
        description: "What rules pin leaves no room in the image cache CACHE. Images that it does not hold are passed through from the upstream. Pin less in the CachePolicies, or raise spec.capacity.maxSize or the size of the volume.",
    },
    Alert {
        name: "LarderStoreWriteFailures",
        expression: "increase(larder_store_write_failures_total{SELECTOR}[10m]) > 0",
        percent: None,
        wait: "5m",
        severity: "warning",
        summary: "{{ $labels.pod }} can't write to its store.",
        description: "The disk is full, read-only or broken. Content is passed through without being kept. Look at the log of the pod, and at its volume.",
    },
    Alert {
        name: "LarderBucketBehind",
        expression: "larder_bucket_behind{SELECTOR} == 1",
        percent: None,
        wait: "2h",
        severity: "warning",
        summary: "{{ $labels.pod }} can't write all that it holds to the bucket.",
        description: "Pulls go on, but what this replica of the image cache CACHE fetched is not there for the others, and not for a new one. Look at the log of the pod, at the keys of spec.storage.objectStorage, and at what they allow.",
    },
    Alert {
        name: "LarderPolicyRejected",
        expression: "larder_policy_last_reload_successful{SELECTOR} == 0",
        percent: None,
        wait: "2m",
        severity: "warning",
        summary: "{{ $labels.pod }} refused its policy and follows an older one.",
        description: "Look at the condition PolicyApplied of `kubectl -n NAMESPACE get registrycache NAME -o yaml`.",
    },
];

/// A sentence, if the cache names alerts that there are not.
pub fn unknown(spec: &AlertsSpec) -> Option<String> {
    let changed = spec.overrides.iter().map(|one| &one.alert);
    let names = spec.exclude.iter().chain(changed);
    let unknown: Vec<&str> = names
        .map(String::as_str)
        .filter(|name| ALERTS.iter().all(|alert| alert.name != *name))
        .collect();
    (!unknown.is_empty()).then(|| {
        format!(
            "There is no alert {}, so monitoring.alerts changes nothing by that name.",
            unknown.join(", ")
        )
    })
}

pub(super) fn prometheus_rule(cache: &ResolvedCache) -> Value {
    let spec = &cache.monitoring.alerts;
    let mut metadata = cache
        .owner
        .child(cache.owner.name.clone(), Component::Monitoring);
    add_labels(&mut metadata, &spec.labels);
    let rules: Vec<Value> = ALERTS
        .iter()
        .filter(|alert| !spec.exclude.iter().any(|name| name == alert.name))
        .map(|alert| rule(cache, alert))
        .collect();
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": {"groups": [{
            "name": format!("larder/{}/{}", cache.owner.namespace, cache.owner.name),
            "rules": rules,
        }]},
    })
}

fn rule(cache: &ResolvedCache, alert: &Alert) -> Value {
    let (namespace, name) = (&cache.owner.namespace, &cache.owner.name);
    // The job is the name of the Service that the ServiceMonitor selects.
    let selector = format!(
        "namespace=\"{namespace}\",job=\"{}\"",
        names::pods_service(name)
    );
    let alerts = &cache.monitoring.alerts;
    let changed = alerts.overrides.iter().find(|one| one.alert == alert.name);
    let percent = changed
        .and_then(|one| one.threshold_percent)
        .or(alert.percent)
        .unwrap_or_default();
    let text = |template: &str| {
        template
            .replace("PERCENT", &percent.to_string())
            .replace("NAMESPACE", namespace)
            .replace("CACHE", &format!("{namespace}/{name}"))
            .replace("NAME", name)
    };
    let expression = alert
        .expression
        .replace("SELECTOR", &selector)
        .replace("SHARE", &(f64::from(percent) / 100.0).to_string());
    let mut annotations = json!({
        "summary": text(alert.summary),
        "description": text(alert.description),
    });
    if let Some(base) = &alerts.runbook_base_url {
        let address = format!("{}/{}", base.trim_end_matches('/'), alert.name);
        annotations["runbook_url"] = address.into();
    }
    let wait = changed.and_then(|one| one.wait.as_deref());
    let severity = changed.and_then(|one| one.severity.as_deref());
    json!({
        "alert": alert.name,
        "expr": expression,
        "for": wait.unwrap_or(alert.wait),
        "labels": {
            "severity": severity.unwrap_or(alert.severity),
            "namespace": namespace,
            "cache": name,
        },
        "annotations": annotations,
    })
}

/// Adds people's labels, but never over those by which the operator finds the object again.
pub(super) fn add_labels(metadata: &mut ObjectMeta, labels: &BTreeMap<String, String>) {
    let own = metadata.labels.get_or_insert_default();
    for (key, value) in labels {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}
