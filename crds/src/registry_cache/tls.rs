//! TLS between clients and cache.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyRef, SecretRef};

/// A certificate for the port that clients pull from. It may be renewed at any time without a restart; TLS that is turned on or off restarts the cache servers.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("has(self.secretRef) != has(self.issuerRef)", "tls: write exactly one of secretRef and issuerRef"))]
#[x_kube(validation = ("!has(self.names) || has(self.issuerRef)", "tls.names are for a certificate that is issued: use issuerRef, or remove names"))]
pub struct TlsSpec {
    /// A Secret of the same namespace, of the type `kubernetes.io/tls`. Its `ca.crt`, if it has one, is what nodes trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// Who issues the certificate, by cert-manager: for the names and addresses of the Service and those in `mirrors`. It is kept in the Secret `<cache>-tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
    /// Further names and addresses by which clients reach the cache, for `issuerRef`: `cache.example`, `10.1.2.3`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = ("self.all(n, n.matches('^([*][.])?[a-z0-9]([a-z0-9.-]*[a-z0-9])?$') || n.matches('^[0-9a-f]*:[0-9a-f:]+$'))", "names: write host names in lower case or IP addresses, without scheme and port: cache.example, 10.1.2.3"))]
    pub names: Vec<String>,
    /// Authorities that nodes shall trust, in PEM. Default: `ca.crt` of the certificate's Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// Time that nodes get to learn of a new authority, before a certificate of it is used. Until then they trust the old one and the new one, and the old certificate stays in use. Nodes with a node agent are waited for beyond it, for a day at most.
    #[serde(default = "authority_delay")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = ("self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?$')", "authorityDelay: write whole numbers with units from large to small: 90s, 10m, 1h30m"))]
    pub authority_delay: String,
}

/// A cert-manager `Issuer` in the same namespace, a `ClusterIssuer`, or an issuer of another group.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IssuerRef {
    /// Name of the issuer.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `Issuer`, `ClusterIssuer`, or a kind of another group.
    #[serde(default = "issuer")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Z][A-Za-z0-9]*$"))]
    pub kind: String,
    /// API group of the kind.
    #[serde(default = "cert_manager")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$")
    )]
    pub group: String,
}

fn authority_delay() -> String {
    "10m".to_owned()
}

fn issuer() -> String {
    "Issuer".to_owned()
}

fn cert_manager() -> String {
    "cert-manager.io".to_owned()
}
