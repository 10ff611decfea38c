//! What else of the pods can be said.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::Schema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Additions to the pods, in the form of a `PodTemplateSpec`. They are added to what the operator renders and never take anything away from it.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplatePatch {
    /// Labels and annotations to add.
    #[serde(default)]
    pub metadata: PodMetadata,
    /// Any of `initContainers`, `containers`, `volumes`, `hostAliases`, `dnsPolicy`, `dnsConfig`, `runtimeClassName`, `schedulerName` and
    /// `terminationGracePeriodSeconds`. To the container named `cache-server` may be added `env`, `envFrom`, `volumeMounts` and `lifecycle`;
    /// other containers are added whole. What can't be added is named by the condition `Ready`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub spec: Map<String, Value>,
}

/// Metadata of the pods.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels. Those that the operator itself sets can't be changed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, String>,
    /// Annotations, but for those of larder.dev.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

/// The whole of a pod's schema is larger than an object may be; the operator checks instead.
fn any_object(_: &mut schemars::SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "object",
        "maxProperties": 16,
        "x-kubernetes-preserve-unknown-fields": true,
    })
}
