//! Upstreams and references to other objects.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::IdentitySpec;
use crate::cache_policy::FreshnessSpec;

/// A registry that the cache pulls from.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("!has(self.caSecretRef) || self.endpoints.all(e, e.startsWith('https://'))", "caSecretRef is for TLS: use https:// in endpoints, or remove caSecretRef"))]
#[x_kube(validation = ("!has(self.clientCertificate) || self.endpoints.all(e, e.startsWith('https://'))", "clientCertificate is for TLS: use https:// in endpoints, or remove clientCertificate"))]
pub struct UpstreamSpec {
    /// The registry as image names say it, with a port if they have one: `docker.io`, `registry.example:5000`.
    #[schemars(length(min = 1, max = 259))]
    #[x_kube(validation = ("self.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$')", "host: write the registry as image names say it, in lower case, with a port if it has one and without scheme or path: docker.io, registry.example:5000"))]
    pub host: String,
    /// Where its API is reached, tried in this order: `https://mirror.example:5000`, or `http://…` without TLS.
    /// Default: `https://` and the host; for `docker.io`, Docker Hub's API.
    #[serde(default)]
    #[schemars(length(max = 8), inner(length(min = 8, max = 270)))]
    #[x_kube(validation = ("self.all(e, e.matches('^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$'))", "endpoints: write http:// or https:// and a host with an optional port, without path, user or query: https://mirror.example:5000"))]
    pub endpoints: Vec<String>,
    /// Put in front of each repository when the upstream is asked: `proxy/docker-hub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 200),
        regex(pattern = r"^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$")
    )]
    pub repository_prefix: Option<String>,
    /// Certificate authorities to trust for this upstream instead of the system's: PEM in a Secret of the same namespace. Changes take effect without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Who the cache is to the upstream. The entry with the longest `repositoryPrefix` that fits a repository is used; where none fits, the upstream is asked anonymously.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub credentials: Vec<CredentialSpec>,
    /// Where tokens may be asked for beside the upstream's own domain, when its answers say so: `https://login.example`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 8, max = 270)))]
    #[x_kube(validation = ("self.all(e, e.matches('^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$'))", "authRealms: write http:// or https:// and a host with an optional port, without path, user or query: https://login.example"))]
    pub auth_realms: Vec<String>,
    /// Where the upstream's redirects may lead although it is inside the network: `storage.example`, `10.0.0.9:9000`.
    /// Other redirects to private, loopback or link-local addresses are refused; those to public ones need no entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 259)))]
    #[x_kube(validation = ("self.all(h, h.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?$'))", "redirectHosts: write hosts in lower case, with a port if only that one is meant, without scheme or path: storage.example, 10.0.0.9:9000"))]
    pub redirect_hosts: Vec<String>,
    /// HTTP proxy through which the upstream is reached: `http://proxy.example:3128`. It resolves the names of hosts then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 270))]
    #[x_kube(validation = ("self.matches('^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$')", "proxy: write http:// or https:// and a host with an optional port, without path or user: http://proxy.example:3128"))]
    pub proxy: Option<String>,
    /// Certificate with which the cache shows itself to the upstream in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateSpec>,
    /// How much may be asked of the upstream by each cache server. Changes take effect without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Time for the head of an answer, from `1s` to `5m`. Clients of what is not stored wait for some seconds more, and are told 503 then. Longer for registries that fetch or scan an image before they answer. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 16))]
    #[x_kube(validation = ("self.matches('^([0-9]+m)?([0-9]+s)?$') && duration(self) >= duration('1s') && duration(self) <= duration('5m')", "headerTimeout: write 1s to 5m, whole numbers with units from large to small: 45s, 1m30s"))]
    pub header_timeout: Option<String>,
    /// How long its tags are answered from the cache where no rule says otherwise. Default: as `freshness` of the cache says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<FreshnessSpec>,
}

/// A certificate and its key.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificateSpec {
    /// A Secret of the same namespace, of the type `kubernetes.io/tls`. What it holds may change without a restart.
    pub secret_ref: SecretRef,
}

/// Bounds of what is asked of one upstream.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Requests at the same time; more wait in line for a while, and get 503 then. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: Option<i32>,
    /// Bytes of blobs in a second, over all that are fetched into the cache. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 65536, max = 1_000_000_000_000_i64))]
    pub bytes_per_second: Option<i64>,
}

/// What the cache shows to an upstream, for some of its repositories or all.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.secretRef) != has(self.identity)", "credentials: write exactly one of secretRef and identity"))]
pub struct CredentialSpec {
    /// For this repository and those below it, as clients name them: `team/private`. Default: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 200),
        regex(pattern = r"^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$")
    )]
    pub repository_prefix: Option<String>,
    /// A Secret of the same namespace, of the type `kubernetes.io/basic-auth` or `kubernetes.io/dockerconfigjson`. What it holds may change without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// What a cloud's registry knows the pods as, instead of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentitySpec>,
}

/// A Secret in the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// A key of a Secret in the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Key in the Secret.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub key: String,
}

/// A `CachePolicy` in the same namespace.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Name of the `CachePolicy`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}
