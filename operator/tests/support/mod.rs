//! Reads a YAML file with a cluster's state into what the observe step would return.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use kube::ResourceExt as _;
use kube::api::{ApiResource, DynamicObject};
use operator::confidential::Confidential;
use operator::nodes::Sighting;
use operator::observe::{FoundPolicy, Live, Observed};
use operator::optional_apis::OptionalKind;
use operator::resolve::Settings;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct State {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default, rename = "clusterIP")]
    service_address: Option<String>,
    #[serde(default)]
    monitoring: bool,
    #[serde(default)]
    cert_manager: bool,
    #[serde(default)]
    gateways: bool,
    #[serde(default)]
    authorities: Option<String>,
    #[serde(default)]
    secrets: BTreeMap<String, BTreeSet<String>>,
    #[serde(default)]
    values: BTreeMap<String, BTreeMap<String, String>>,
}

/// The settings of all tests.
pub(crate) fn settings() -> Settings {
    Settings {
        cache_server_image: "larder/cache-server:0.1.0".to_owned(),
        cache_server_pull_policy: None,
        namespace: Some("larder-system".to_owned()),
    }
}

/// The state that a file describes.
pub(crate) fn observed(path: &Path) -> Observed {
    let text = std::fs::read_to_string(path).expect("the test data is as described");
    let mut cluster = State::default();
    let mut cache: Option<RegistryCache> = None;
    let mut policies = BTreeMap::new();
    for document in text.split("\n---\n") {
        let value: Value = serde_saphyr::from_str(document).expect("the test data is as described");
        match value["kind"].as_str() {
            Some("Cluster") => {
                cluster = serde_json::from_value(value).expect("the test data is as described");
            }
            Some("RegistryCache") => {
                cache = Some(serde_json::from_value(value).expect("the test data is as described"));
            }
            Some("CachePolicy") => {
                let policy: CachePolicy =
                    serde_json::from_value(value).expect("the test data is as described");
                policies.insert(policy.name_any(), FoundPolicy::Found(Box::new(policy)));
            }
            other => unreachable!("{other:?} in {}", path.display()),
        }
    }
    let cache = cache.expect("the test data is as described");
    let service = cluster.service_address.map(|ip| {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&());
        let object = DynamicObject::new(&cache.name_any(), &resource)
            .data(json!({"spec": {"clusterIP": ip}}));
        (resource, object)
    });
    let values = cluster.values.into_iter().flat_map(|(name, values)| {
        values.into_iter().map(move |(key, text)| {
            let value = Confidential::new(text.into_bytes());
            ((name.clone(), key), value)
        })
    });
    Observed {
        cache,
        policies,
        secrets: cluster
            .secrets
            .into_iter()
            .map(|(name, keys)| (name, Some(keys)))
            .collect(),
        secret_values: values.collect(),
        live: Live::new(service),
        pods: Vec::new(),
        claims: Vec::new(),
        apis: OptionalKind::ALL
            .into_iter()
            .filter(|kind| match kind {
                OptionalKind::Certificate => cluster.cert_manager,
                OptionalKind::HttpRoute => cluster.gateways,
                OptionalKind::ServiceMonitor | OptionalKind::PrometheusRule => cluster.monitoring,
            })
            .collect(),
        authorities: cluster.authorities,
        time: 1_700_000_000,
        classes: BTreeMap::new(),
        nodes: Sighting::NotWired,
        nodes_behind: false,
        figures: operator::figures::Told::default(),
    }
}
