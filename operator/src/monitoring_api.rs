//! Whether the cluster has the Prometheus operator's API. It may be installed, or removed, while the operator runs.

use std::time::Duration;

use kube::Client;
use kube::api::ApiResource;
use kube::core::GroupVersionKind;
use tokio::sync::watch;

const GROUP: &str = "monitoring.coreos.com";
const VERSION: &str = "v1";
/// Time between two looks at which kinds exist.
const DISCOVERY: Duration = Duration::from_secs(30);

/// Which kinds exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MonitoringApi {
    pub service_monitor: bool,
    pub prometheus_rule: bool,
}

/// The kind `ServiceMonitor`.
pub fn service_monitor() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(GROUP, VERSION, "ServiceMonitor"),
        "servicemonitors",
    )
}

/// The kind `PrometheusRule`.
pub fn prometheus_rule() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk(GROUP, VERSION, "PrometheusRule"),
        "prometheusrules",
    )
}

/// The kinds that exist.
pub fn resources(api: MonitoringApi) -> impl Iterator<Item = ApiResource> {
    let service_monitor = api.service_monitor.then(service_monitor);
    let prometheus_rule = api.prometheus_rule.then(prometheus_rule);
    service_monitor.into_iter().chain(prometheus_rule)
}

/// Asks the API server which kinds exist.
pub async fn discover(client: &Client) -> Result<MonitoringApi, Box<kube::Error>> {
    let list = client
        .list_api_group_resources(&format!("{GROUP}/{VERSION}"))
        .await;
    match list {
        Ok(list) => {
            let has = |plural: &str| list.resources.iter().any(|one| one.name == plural);
            Ok(MonitoringApi {
                service_monitor: has("servicemonitors"),
                prometheus_rule: has("prometheusrules"),
            })
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(MonitoringApi::default()),
        Err(error) => Err(Box::new(error)),
    }
}

/// Tells each time that other kinds exist, until dropped.
pub async fn follow(client: &Client, sender: watch::Sender<MonitoringApi>) {
    loop {
        tokio::time::sleep(DISCOVERY).await;
        match discover(client).await {
            Ok(found) => {
                sender.send_if_modified(|known| {
                    let changed = *known != found;
                    if changed {
                        tracing::info!(?found, "the monitoring kinds of the cluster changed");
                        *known = found;
                    }
                    changed
                });
            }
            Err(error) => tracing::warn!(%error, "failed to look which monitoring kinds exist"),
        }
    }
}
