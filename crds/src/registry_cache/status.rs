//! What the operator reports.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

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
    /// `Ready`, `PolicyApplied`, `MonitoringReady` and, where the node agent wires it, `NodesWired`; `Reconciling` and `Stalled` only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
    /// How many nodes of this cluster pull through the cache. Absent where the node agent does not wire it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodesStatus>,
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
}

/// A mirror configuration that is rendered.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RenderedMirror {
    /// The mirror's name in the spec.
    pub name: String,
    /// The `ConfigMap` that holds it.
    pub config_map: String,
}
