//! How clients' clusters are told to use the cache.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyRef, SecretRef};

/// Mirror configuration for one group of nodes, such as a cluster: a `ConfigMap` or a Secret with the files that their container runtime reads.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.capabilities.exists(c, c == 'Resolve') || self.fallback == 'Allow'", "capabilities: a mirror without Resolve needs fallback: Allow, because nothing else could say what a tag means"))]
#[x_kube(validation = ("self.capabilities.exists(c, c == 'Resolve') || self.runtime.type in ['Containerd', 'Crio', 'ClusterApi']", "capabilities: only Containerd, Crio and ClusterApi can have a mirror without Resolve"))]
#[x_kube(validation = ("self.runtime.type != 'Docker' || self.fallback == 'Allow'", "fallback: Docker always falls back to Docker Hub, so write Allow"))]
#[x_kube(validation = ("self.runtime.type != 'Docker' || self.upstreams.all(h, h == 'docker.io')", "upstreams: Docker can only mirror docker.io"))]
#[x_kube(validation = ("!has(self.credentialsSecretRef) || self.runtime.type in ['Containerd', 'Crio', 'ClusterApi']", "credentialsSecretRef: K3s, Talos and Docker show credentials only to who asks for them, and the cache does not ask, because a node would answer with the upstream's"))]
#[x_kube(validation = ("!has(self.credentialsSecretRef) || !has(self.target) || !has(self.target.kind) || self.target.kind == 'Secret'", "target.kind: credentials belong into a Secret"))]
#[x_kube(validation = ("!has(self.caSecretRef) || !has(self.endpoint) || self.endpoint.startsWith('https://')", "caSecretRef is for TLS: use https:// in endpoint, or remove caSecretRef"))]
pub struct MirrorSpec {
    /// Name of the group.
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
    /// What reads the files.
    #[serde(default)]
    pub runtime: RuntimeSpec,
    /// Whether nodes may go to the upstream where the cache gives them nothing. With `Forbid` they get what the cache serves, and nothing while it is away.
    #[serde(default)]
    pub fallback: Fallback,
    /// What nodes ask the cache for: `Pull` is content by its digest, `Resolve` is what a tag means. With `Pull` alone tags are resolved at the upstream.
    #[serde(default = "capabilities")]
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(validation = ("self.exists(c, c == 'Pull')", "capabilities: a mirror is for pulling, so name Pull, or leave capabilities out"))]
    pub capabilities: Vec<Capability>,
    /// The name and password that these nodes show to the cache: a Secret of the same namespace, of the type `kubernetes.io/basic-auth`. They are rendered into the files, and follow the Secret. Default: nodes show nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// Certificate authorities by which these nodes know the cache: PEM in a Secret of the same namespace. They are rendered beside the files. Default: those that the nodes trust anyway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The object that holds the files. Default: a `ConfigMap` named `<cache>-mirror-<name>`, or a Secret of that name where there are credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<MirrorTargetSpec>,
}

/// A container runtime, or what configures one.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.type != 'Talos' || has(self.version)", "runtime.version: write the version of Talos, like 1.12, because its configuration has another form since then"))]
pub struct RuntimeSpec {
    /// `Containerd` (`certs.d`), `Crio` (`registries.conf`, podman too), `K3s` (`registries.yaml`), `Talos` (machine configuration), `ClusterApi` (files of a `KubeadmConfig` with containerd) or `Docker` (`daemon.json`).
    #[serde(default, rename = "type")]
    pub runtime_type: RuntimeType,
    /// The oldest version on these nodes, like `2.1`; with `ClusterApi` that of containerd. Only what this version knows is written. Default: what every version takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 64),
        regex(pattern = r"^v?[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,4})?([-+~][0-9A-Za-z.+~-]*)?$")
    )]
    pub version: Option<String>,
}

/// What reads the mirror configuration.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeType {
    #[default]
    Containerd,
    Crio,
    K3s,
    Talos,
    ClusterApi,
    Docker,
}

/// Whether nodes may go to the upstream.
#[derive(JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fallback {
    #[default]
    Allow,
    Forbid,
}

/// What nodes ask the cache for.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capability {
    Pull,
    Resolve,
}

/// Where a mirror configuration goes, in the cache's namespace.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MirrorTargetSpec {
    /// `ConfigMap` or `Secret`. Default: `Secret` where the mirror has credentials, else `ConfigMap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<MirrorTargetKind>,
    /// Name of the object. One that exists and is not the cache's own is left alone. Default: `<cache>-mirror-<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub name: Option<String>,
}

/// What holds a mirror configuration.
#[derive(
    JsonSchema, Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum MirrorTargetKind {
    #[default]
    ConfigMap,
    Secret,
}

impl MirrorTargetKind {
    /// The kind of the object.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
        }
    }
}

pub(super) fn capabilities() -> Vec<Capability> {
    vec![Capability::Pull, Capability::Resolve]
}
