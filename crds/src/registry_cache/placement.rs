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
#[x_kube(validation = ("has(self.volume) == has(oldSelf.volume) || (has(self.volume) ? self.volume.size == oldSelf.objectStorage.localTier.volume.size && (has(self.volume.storageClassName) ? self.volume.storageClassName : '') == (has(oldSelf.objectStorage.localTier.volume.storageClassName) ? oldSelf.objectStorage.localTier.volume.storageClassName : '') : self.objectStorage.localTier.volume.size == oldSelf.volume.size && (has(self.objectStorage.localTier.volume.storageClassName) ? self.objectStorage.localTier.volume.storageClassName : '') == (has(oldSelf.volume.storageClassName) ? oldSelf.volume.storageClassName : ''))", "storage: the volumes stay when objectStorage comes or goes, so storage.volume and storage.objectStorage.localTier.volume must say the same"))]
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
#[x_kube(validation = ("isQuantity(self.size) && quantity(self.size).isGreaterThan(quantity('0'))", "storage.volume.size: write a size like 50Gi"))]
#[x_kube(validation = ("!isQuantity(self.size) || !isQuantity(oldSelf.size) || quantity(self.size).compareTo(quantity(oldSelf.size)) >= 0", "storage.volume.size can only grow, because Kubernetes makes no volume smaller: make a new RegistryCache with the smaller size"))]
#[x_kube(validation = ("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)", "storage.volume.storageClassName can't be changed: make a new RegistryCache"))]
pub struct VolumeSpec {
    /// Size of the volume: `50Gi`. It may grow: volumes of a class with `allowVolumeExpansion` do so while the cache servers run.
    #[schemars(with = "String", length(min = 1, max = 32))]
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
#[x_kube(validation = ("!has(self.loadBalancerClass) || self.type == 'LoadBalancer'", "service.loadBalancerClass needs the type LoadBalancer"))]
#[x_kube(validation = ("self.type != 'LoadBalancer' || oldSelf.type != 'LoadBalancer' || (has(self.loadBalancerClass) == has(oldSelf.loadBalancerClass) && (!has(self.loadBalancerClass) || self.loadBalancerClass == oldSelf.loadBalancerClass))", "service.loadBalancerClass can't be changed while the type is LoadBalancer: Kubernetes forbids it; change the type first"))]
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
    /// Which load balancer takes a Service of the type `LoadBalancer`: `example.org/internal`. Default: the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 317))]
    pub load_balancer_class: Option<String>,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            service_type: ServiceType::default(),
            port: port(),
            node_port: None,
            annotations: BTreeMap::new(),
            load_balancer_class: None,
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
