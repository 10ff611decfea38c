//! What the operator makes of a policy.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::registry_cache::ReplicaBehind;

/// Most caches that the status names. `cacheCount` and `applied` speak of all.
pub const MAXIMUM_BINDINGS: usize = 256;

/// What the operator makes of the policy.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CachePolicyStatus {
    /// The generation that the rest of the status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of `RegistryCaches` that follow this policy.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub cache_count: i32,
    /// Replicas that confirmed this generation, of all replicas of those caches, as `5/6`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<String>,
    /// The caches that follow this policy, by name; the first 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cache".to_owned()]))]
    pub bindings: Vec<PolicyBinding>,
    /// `Accepted`: whether the rules can be used. `Referenced`: whether a cache follows the policy. `Effective`: whether every rule can match something.
    /// `Applied`: whether every replica of those caches confirmed this generation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// How far the policy got in one cache.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBinding {
    /// Name of the `RegistryCache`.
    pub cache: String,
    /// Hash of what that cache declares, the rules of all its policies: its `status.policy.desiredHash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired_hash: Option<String>,
    /// The generation of this policy that is in that hash. Absent: none is, or the cache was not looked at yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Replicas that confirmed the policy's current generation.
    #[schemars(range(min = 0))]
    pub applied_replicas: i32,
    /// Replicas that should.
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Pods that do not follow `desiredHash`, and what they follow. All others do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["pod".to_owned()]))]
    pub behind: Vec<ReplicaBehind>,
}
