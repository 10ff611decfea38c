//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::MirrorTargetKind;

/// What the operator reports.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryCacheStatus {
    /// The generation that the rest of the status speaks of; -1 until the operator has seen the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where clients in the cluster reach the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Ready replicas of all, as `2/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas_ready: Option<String>,
    /// How far the policy got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyStatus>,
    /// The mirror configurations that are rendered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<RenderedMirror>,
    /// `Ready`, `PolicyApplied`, `MonitoringReady`, `StorageReady` and `MirrorsReady`; `UpstreamsReachable` as soon as that is known; `NodesWired` where the node agent wires the cache, `ExposureReady`
    /// where a Gateway shows it; `Reconciling`,
    /// `Stalled`, `Suspended`, `Risky`, `NotEnforceable` and `NotPullable` only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// The value of the annotation `larder.dev/requestedAt` that the operator has answered with a reconcile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// The restart of the cache servers that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// How many nodes of this cluster pull through the cache. Absent where the node agent does not wire it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
    /// How much the cache helps, and how full it is. Rounded, and written every five minutes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageStatus>,
    /// How the upstreams are, as far as the cache servers asked them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".to_owned()]))]
    pub upstreams: Vec<UpstreamStatus>,
}

/// How much a cache helps, and how full it is.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageStatus {
    /// Part of the last hour's requests for manifests and blobs that the cache answered, as `93%`. Absent: there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hit_ratio: Option<String>,
    /// What the fullest cache server stores, of what it may, as `12Gi/100Gi`.
    #[serde(default)]
    pub stored: String,
}

/// How an upstream is.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// What image names say.
    pub host: String,
    /// Whether it can be had of what is not stored. What nobody asked counts as reachable.
    pub reachable: bool,
    /// Why it can't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A restart of the cache servers, one after the other.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// What of the pods changes, as `the image (from a:1 to a:2)` or `spec.tolerations`.
    pub changes: Vec<String>,
}

/// How many nodes of this cluster pull through the cache.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodesStatus {
    /// Nodes whose mirror files are in place and followed, and that reach the cache.
    pub ready: i32,
    /// Nodes that should run an agent.
    pub total: i32,
    /// The two numbers as `3/3 wired`.
    pub summary: String,
}

/// How far the declared policy got.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Hash of the policy that is declared.
    pub desired_hash: String,
    /// Pods whose `/configz` shows that hash.
    pub applied_replicas: i32,
    /// Pods that should.
    pub replicas: i32,
    /// The two numbers as `3/3 applied`.
    pub summary: String,
    /// The `CachePolicies` that this hash was made from, each with its generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub policies: Vec<PolicyGeneration>,
    /// Pods that should and do not, by name. All others follow `desiredHash`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pod".to_owned()]))]
    pub behind: Vec<ReplicaBehind>,
}

/// A pod that does not follow the policy that is declared.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaBehind {
    /// The pod's name.
    pub pod: String,
    /// Hash of the policy that it follows. Absent: none, or it does not run or gives no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// A `CachePolicy` at one generation.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyGeneration {
    /// The policy's name.
    pub name: String,
    /// Its `metadata.generation`.
    pub generation: i64,
}

/// A mirror configuration that is rendered.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedMirror {
    /// The mirror's name in the spec.
    pub name: String,
    // A status that an earlier operator wrote lacks the following, and must stay readable.
    /// Kind of the object that holds it.
    #[serde(default)]
    pub kind: MirrorTargetKind,
    /// Name of the object.
    #[serde(default)]
    pub object: String,
    /// What the object holds, as the runtime calls it: `hosts.toml`, `registries.conf`.
    #[serde(default)]
    pub formats: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_of_an_earlier_operator_can_be_read() {
        let earlier =
            serde_json::json!({"mirrors": [{"name": "nodes", "configMap": "cache-mirror-nodes"}]});
        let status: RegistryCacheStatus = serde_json::from_value(earlier).unwrap();
        assert_eq!(status.mirrors[0].name, "nodes");
    }
}
