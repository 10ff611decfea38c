//! `RegistryCache`: where and how a cache runs.

mod access;
mod capacity;
mod exposure;
mod identity;
mod mirror;
mod monitoring;
mod network_policy;
mod object_storage;
mod placement;
mod pods;
mod server;
mod status;
mod tls;
mod upstream;

use k8s_openapi::api::core::v1::{
    Affinity, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::cache_policy::FreshnessSpec;
use crate::policy::Action;

pub use access::{
    AccessSpec, AnonymousAccessSpec, BasicAccessSpec, ClientCertificateAccessSpec, TokenAccessSpec,
};
pub use capacity::CapacitySpec;
pub use exposure::{ExposureSpec, GatewayRef, GatewaySpec, IngressSpec};
pub use identity::{IdentityProvider, IdentitySpec};
pub use mirror::{
    Capability, Fallback, MirrorSpec, MirrorTargetKind, MirrorTargetSpec, RuntimeSpec, RuntimeType,
};
pub use monitoring::{AlertOverride, AlertsSpec, MonitoringSpec, ServiceMonitorSpec};
pub use network_policy::{EgressSpec, NetworkPolicySpec};
pub use object_storage::{LocalTierSpec, ObjectStorageSpec};
pub use placement::{ImageSpec, OnDelete, ServiceSpec, ServiceType, StorageSpec, VolumeSpec};
pub use pods::{PodMetadata, PodTemplatePatch};
pub use server::{ConnectionsSpec, ServiceAccountSpec, TracingSpec};
pub use status::{
    NodesStatus, PolicyGeneration, PolicyStatus, RegistryCacheStatus, RenderedMirror,
    ReplicaBehind, RolloutStatus, UpstreamStatus, UsageStatus,
};
pub use tls::{IssuerRef, TlsSpec};
pub use upstream::{
    ClientCertificateSpec, CredentialSpec, LimitsSpec, PolicyRef, SecretKeyRef, SecretRef,
    UpstreamSpec,
};

/// A pull-through cache, its monitoring, and the mirror configuration for the nodes that use it.
#[derive(CustomResource, KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "larder.dev",
    version = "v1alpha1",
    kind = "RegistryCache",
    plural = "registrycaches",
    namespaced,
    status = "RegistryCacheStatus",
    derive = "PartialEq",
    shortname = "rcache",
    category = "larder",
    doc = "A pull-through cache for container images, its monitoring, and the mirror configuration for the nodes that use it.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".status.endpoint"),
    printcolumn(name = "Hit ratio", type_ = "string", json_path = ".status.usage.hitRatio"),
    printcolumn(name = "Stored", type_ = "string", json_path = ".status.usage.stored"),
    printcolumn(name = "Replicas", type_ = "string", json_path = ".status.replicasReady"),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.policy.summary"),
    printcolumn(name = "Nodes", type_ = "string", json_path = ".status.nodes.summary", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", priority = 1),
    validation = Rule::new("self.metadata.name.size() <= 40").message("name: write 40 characters at most, because names of the cache's objects are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')").message("name: begin with a letter and use lower-case letters, digits and hyphens only, because a Service is named after it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.defaultUpstream) || self.upstreams.exists(u, u.host == self.defaultUpstream)", "defaultUpstream must be the host of one of the upstreams"))]
#[x_kube(validation = ("self.mirrors.all(m, m.upstreams.all(h, self.upstreams.exists(u, u.host == h)))", "mirrors: each entry of a mirror's upstreams must be the host of one of the upstreams"))]
#[x_kube(validation = ("self.allowAnonymousPrivate || (has(self.access) && (has(self.access.basic) || has(self.access.token) || has(self.access.clientCertificate))) || !self.upstreams.exists(u, has(u.credentials) && size(u.credentials) > 0)", "upstreams with credentials need allowAnonymousPrivate: true while access is anonymous, because clients of the cache show no credentials: everybody who reaches it can pull what its credentials unlock"))]
#[x_kube(validation = ("!has(self.access) || !has(self.access.clientCertificate) || has(self.tls)", "access.clientCertificate is shown in TLS: write tls too"))]
#[x_kube(validation = ("self.mirrors.all(m, m.runtime.type != 'Docker' || size(m.upstreams) > 0 || (size(self.upstreams) == 1 && self.upstreams[0].host == 'docker.io'))", "mirrors: Docker can only mirror docker.io: write upstreams: [docker.io]"))]
#[x_kube(validation = ("self.mirrors.all(m, m.runtime.type != 'Docker' || size(self.upstreams) == 1 || (has(self.defaultUpstream) && self.defaultUpstream == 'docker.io'))", "defaultUpstream: Docker names no upstream when it asks a mirror, so write defaultUpstream: docker.io"))]
pub struct RegistryCacheSpec {
    /// The registries that the cache may ask. Nothing else is ever reached through it.
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".to_owned()]))]
    pub upstreams: Vec<UpstreamSpec>,
    /// Upstream of requests that name none, such as Docker's `registry-mirrors`. Default: such requests get 404, unless the cache has a single upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 259))]
    pub default_upstream: Option<String>,
    /// Whether content that the upstreams' credentials unlock may be given to clients that show none. Must be true if an upstream has credentials and `access` is anonymous.
    #[serde(default)]
    pub allow_anonymous_private: bool,
    /// The policies to follow, in this order, from the same namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub policy_refs: Vec<PolicyRef>,
    /// What happens to requests that no rule of the policies matches.
    #[serde(default)]
    pub default_action: Action,
    /// How long tags are answered from the cache where neither a rule nor the upstream says otherwise.
    #[serde(default)]
    pub freshness: FreshnessSpec,
    /// Number of cache servers. Each has a volume of its own and fills it by itself; all answer behind one Service.
    #[serde(default = "replicas")]
    #[schemars(range(min = 1, max = 32))]
    pub replicas: i32,
    /// Where the content is kept.
    pub storage: StorageSpec,
    /// How much is kept. A change is live within two seconds, and restarts nothing.
    #[serde(default)]
    pub capacity: CapacitySpec,
    /// The Service that clients use.
    #[serde(default)]
    pub service: ServiceSpec,
    /// Mirror configuration to render, one entry for each group of nodes that reaches the cache in its own way.
    #[serde(default = "mirrors")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub mirrors: Vec<MirrorSpec>,
    /// Scraping and alerts.
    #[serde(default)]
    pub monitoring: MonitoringSpec,
    /// Container image of the cache server. Default: the operator's choice, of its own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSpec>,
    /// Compute resources of a cache server. Default: requests of 50m CPU and 64Mi memory, without limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels that a node must have to run a cache server.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the cache servers tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// TLS on the port for clients. Default: clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// What clients must show.
    #[serde(default)]
    pub access: AccessSpec,
    /// A Secret of the same namespace with the key `token`, which `cache-server ls`, `purge` and `warm` must show. Default: nobody may use them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_token_secret_ref: Option<SecretRef>,
    /// What clients may take of the port for them.
    #[serde(default)]
    pub connections: ConnectionsSpec,
    /// Where traces are sent. Default: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingSpec>,
    /// The pods' service account. Default: the namespace's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSpec>,
    /// Which nodes and which neighbours the cache servers want.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How the cache servers are spread. Default: over nodes and over zones, as far as possible. A constraint without `labelSelector` is about this cache's pods; an empty list spreads nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Priority class of the cache servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// Secrets of the same namespace with which nodes pull the cache server's own image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub image_pull_secrets: Vec<SecretRef>,
    /// Further containers, volumes, variables, labels and the like. A change restarts the cache servers, as a change of the fields above does.
    #[serde(default)]
    pub pod_template: PodTemplatePatch,
    /// Who may reach the cache servers, and whom they may. Default: no `NetworkPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<NetworkPolicySpec>,
    /// How the cache is reached beyond its Service.
    #[serde(default)]
    pub exposure: ExposureSpec,
    /// While true, the operator changes nothing for this cache, and goes on to tell how it is. The cache itself runs on.
    #[serde(default)]
    pub suspend: bool,
}

fn replicas() -> i32 {
    1
}

fn mirrors() -> Vec<MirrorSpec> {
    vec![MirrorSpec {
        name: "nodes".to_owned(),
        endpoint: None,
        upstreams: Vec::new(),
        runtime: RuntimeSpec::default(),
        fallback: Fallback::default(),
        capabilities: mirror::capabilities(),
        credentials_secret_ref: None,
        ca_secret_ref: None,
        target: None,
    }]
}
