//! The `ServiceMonitor`: Prometheus scrapes each pod through the headless Service.

use serde_json::{Value, json};

use super::names::{self, Component};
use super::service::ADMIN;
use crate::resolve::ResolvedCache;

pub(super) fn service_monitor(cache: &ResolvedCache) -> Value {
    let spec = &cache.monitoring.service_monitor;
    let mut metadata = cache
        .owner
        .child(cache.owner.name.clone(), Component::Monitoring);
    super::alerts::add_labels(&mut metadata, &spec.labels);
    let mut endpoint = json!({"port": ADMIN, "path": "/metrics"});
    if let Some(interval) = &spec.interval {
        endpoint["interval"] = json!(interval);
    }
    json!({
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata,
        "spec": {
            "namespaceSelector": {"matchNames": [cache.owner.namespace]},
            // Both Services have the same labels, but only the headless one has the port `admin`.
            "selector": {"matchLabels": names::labels(&cache.owner.name, Component::CacheServer)},
            "endpoints": [endpoint],
        },
    })
}
