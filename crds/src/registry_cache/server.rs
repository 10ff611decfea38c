//! What the cache servers allow themselves and their clients, and who they are to the cluster.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Bounds that keep the port for clients open for all while some are many, slow or silent. A change restarts the cache servers.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsSpec {
    /// Connections at the same time, to each cache server. More are answered 503, which makes nodes go on to the upstream.
    #[serde(default = "maximum")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub maximum: i32,
    /// Time for the head of a request, for a TLS handshake, and between two requests.
    #[serde(default = "header_timeout")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')", "headerTimeout: write whole numbers with units from large to small: 30s, 1m30s"))]
    pub header_timeout: String,
    /// Time after which a client that takes nothing of what waits for it is cut.
    #[serde(default = "stall_timeout")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')", "stallTimeout: write whole numbers with units from large to small: 30s, 1m30s"))]
    pub stall_timeout: String,
    /// Bytes a second that a client must take on average while bytes wait for it. `0`: any rate will do.
    #[serde(default = "minimum_rate")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(validation = ("self.matches('^(0|[1-9][0-9]*(k|M|G|T|Ki|Mi|Gi|Ti)?)$')", "minimumRate: write bytes a second like 4Ki or 100k, or 0"))]
    pub minimum_rate: String,
    /// Time over which that average is taken.
    #[serde(default = "rate_window")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')", "rateWindow: write whole numbers with units from large to small: 30s, 5m"))]
    pub rate_window: String,
}

impl Default for ConnectionsSpec {
    fn default() -> Self {
        Self {
            maximum: maximum(),
            header_timeout: header_timeout(),
            stall_timeout: stall_timeout(),
            minimum_rate: minimum_rate(),
            rate_window: rate_window(),
        }
    }
}

/// Traces of requests, fills and what upstreams are asked. A change restarts the cache servers.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracingSpec {
    /// A collector that takes OTLP over HTTP: `http://collector.monitoring:4318`.
    #[schemars(length(min = 8, max = 270))]
    #[x_kube(validation = ("self.matches('^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$')", "endpoint: write http:// or https:// and a host with an optional port, without path or user: http://collector.monitoring:4318"))]
    pub endpoint: String,
    /// Part of the requests that are traced, from `0` to `1`.
    #[serde(default = "sample_ratio")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = ("self.matches('^(0([.][0-9]{1,6})?|1([.]0{1,6})?)$')", "sampleRatio: write a number from 0 to 1, like \"0.05\""))]
    pub sample_ratio: String,
}

/// Who the pods are to the cluster, and to clouds that trust it. They get no token for the API server. A change restarts the cache servers.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.name) != has(self.annotations)", "serviceAccount: write the name of one that exists, or annotations of one to make"))]
pub struct ServiceAccountSpec {
    /// One that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
    /// One is made, with the cache's name and these annotations, by which clouds know it: `eks.amazonaws.com/role-arn`, `iam.gke.io/gcp-service-account`, `azure.workload.identity/client-id`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

fn maximum() -> i32 {
    8192
}

fn header_timeout() -> String {
    "30s".to_owned()
}

fn stall_timeout() -> String {
    "2m".to_owned()
}

fn minimum_rate() -> String {
    "4Ki".to_owned()
}

fn rate_window() -> String {
    "5m".to_owned()
}

fn sample_ratio() -> String {
    "1".to_owned()
}
