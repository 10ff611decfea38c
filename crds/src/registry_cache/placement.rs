//! Where a cache keeps its content, how it is reached, and what it runs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::object_storage::ObjectStorageSpec;

/// Where the content is kept: exactly one of its fields.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.volume) != has(self.objectStorage)", "storage: write exactly one of volume and objectStorage"))]
#[x_kube(validation = ("has(self.volume) == has(oldSelf.volume) || (has(self.volume) ? self.volume == oldSelf.objectStorage.localTier.volume : self.objectStorage.localTier.volume == oldSelf.volume)", "storage: the volumes stay when objectStorage comes or goes, so storage.volume and storage.objectStorage.localTier.volume must say the same"))]
pub struct StorageSpec {
    /// A persistent volume for each replica, which keeps its content alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeSpec>,
    /// A bucket that all replicas share, behind the volume of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_storage: Option<ObjectStorageSpec>,
}

impl StorageSpec {
    /// The volume of each replica, and the field that it is said in. `None` only where the API server did not check.
    pub fn local_volume(&self) -> Option<(&VolumeSpec, &'static str)> {
        let tier = self
            .object_storage
            .as_ref()
            .map(|storage| &storage.local_tier.volume);
        let of_tier = tier.map(|volume| (volume, "storage.objectStorage.localTier.volume"));
        of_tier.or(self
            .volume
            .as_ref()
            .map(|volume| (volume, "storage.volume")))
    }
}

/// A persistent volume.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.size == oldSelf.size", "storage.volume.size can't be changed yet: make a new RegistryCache with the other size"))]
#[x_kube(validation = ("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "storage.volume.storageClassName can't be changed: make a new RegistryCache"))]
pub struct VolumeSpec {
    /// Size of the volume: `50Gi`.
    pub size: Quantity,
    /// Storage class. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub storage_class_name: Option<String>,
    /// Whether the volumes outlive the `RegistryCache`: `Retain` keeps the claims for a cache of the same name, `Delete` removes them.
    #[serde(default)]
    pub on_delete: OnDelete,
}

/// What happens to the volumes when the `RegistryCache` is deleted.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDelete {
    #[default]
    Retain,
    Delete,
}

/// The Service that clients use.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.nodePort) || self.type != 'ClusterIP'", "service.nodePort needs the type NodePort or LoadBalancer"))]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort` or `LoadBalancer`.
    #[serde(default, rename = "type")]
    pub service_type: ServiceType,
    /// Port of the Service.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Port on every node. Default: the cluster chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Annotations of the Service, for load balancers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            service_type: ServiceType::default(),
            port: port(),
            node_port: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// How the Service is exposed.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceType {
    #[default]
    ClusterIP,
    NodePort,
    LoadBalancer,
}

/// Mirror configuration for one group of nodes: a `ConfigMap` with a containerd `hosts.toml` for each upstream.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorSpec {
    /// Name of the group. The `ConfigMap` is named `<cache>-mirror-<name>`.
    #[schemars(
        length(min = 1, max = 16),
        regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")
    )]
    pub name: String,
    /// The cache as these nodes reach it: `http://10.1.2.3:5000`. Default: the cluster address of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 270))]
    #[x_kube(validation = ("self.matches('^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$')", "endpoint: write http:// or https:// and a host with an optional port, without path, user or query: http://10.1.2.3:5000"))]
    pub endpoint: Option<String>,
    /// Hosts of the upstreams to mirror, 20 at most. Default: all.
    #[serde(default)]
    #[schemars(length(max = 20), inner(length(min = 1, max = 259)))]
    pub upstreams: Vec<String>,
}

/// A container image.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSpec {
    /// Full reference, with a tag or digest.
    #[schemars(length(min = 1, max = 512))]
    pub reference: String,
    /// `Always`, `IfNotPresent` or `Never`. Default: Kubernetes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(Always|IfNotPresent|Never)$"))]
    pub pull_policy: Option<String>,
}

fn port() -> i32 {
    5000
}
