//! The conditions of the caches as metrics, made anew for each scrape: a cache that is gone leaves no series behind.

use crds::conditions::{MONITORING_READY, POLICY_APPLIED, READY};
use crds::registry_cache::RegistryCache;
use kube::ResourceExt as _;
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

/// Those that are always present, so that 0 means "false".
const CONDITIONS: [&str; 3] = [READY, POLICY_APPLIED, MONITORING_READY];

pub(super) fn gauge() -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(
        Opts::new(
            "larder_operator_cache_condition",
            "Whether a condition of a RegistryCache is True (1) or not (0)",
        ),
        // Not `namespace`: Prometheus gives that label to the operator's own.
        &["cache_namespace", "cache", "condition"],
    )
}

pub(super) fn families<'a>(
    caches: impl Iterator<Item = &'a RegistryCache>,
) -> Result<Vec<MetricFamily>, prometheus::Error> {
    let gauge = gauge()?;
    let registry = Registry::new();
    registry.register(Box::new(gauge.clone()))?;
    for cache in caches {
        let (namespace, name) = (cache.namespace().unwrap_or_default(), cache.name_any());
        let conditions = cache.status.iter().flat_map(|status| &status.conditions);
        for condition in conditions {
            if CONDITIONS.contains(&condition.type_.as_str()) {
                gauge
                    .with_label_values(&[&namespace, &name, &condition.type_])
                    .set(i64::from(condition.status == "True"));
            }
        }
    }
    Ok(registry.gather())
}

#[cfg(test)]
mod tests {
    use crds::conditions::STALLED;
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_of_caches_are_ones_and_zeros() {
        let condition = |type_: &str, status: &str| {
            json!({
                "type": type_, "status": status, "reason": "Any", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let cache: RegistryCache = serde_json::from_value(json!({
            "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache",
            "metadata": {"name": "cache", "namespace": "team-a"},
            "spec": {"upstreams": [{"host": "docker.io"}], "storage": {"volume": {"size": "1Gi"}}},
            "status": {"conditions": [
                condition(READY, "False"), condition(STALLED, "True"), condition(POLICY_APPLIED, "True"),
            ]},
        }))
        .unwrap();
        let families = families(std::iter::once(&cache)).unwrap();
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&families)
            .unwrap();
        insta::assert_snapshot!(text, @r#"
        # HELP larder_operator_cache_condition Whether a condition of a RegistryCache is True (1) or not (0)
        # TYPE larder_operator_cache_condition gauge
        larder_operator_cache_condition{cache="cache",cache_namespace="team-a",condition="PolicyApplied"} 1
        larder_operator_cache_condition{cache="cache",cache_namespace="team-a",condition="Ready"} 0
        "#);
    }

    #[test]
    fn without_caches_there_is_nothing_to_tell() {
        assert!(families(std::iter::empty()).unwrap().is_empty());
    }
}
