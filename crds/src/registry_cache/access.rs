//! What clients must show.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{SecretKeyRef, SecretRef};

/// What clients must show to pull, one of four. Default: nothing. What the Secrets hold may change without a restart; a Secret of another name restarts the cache servers.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("(has(self.anonymous) ? 1 : 0) + (has(self.basic) ? 1 : 0) + (has(self.token) ? 1 : 0) + (has(self.clientCertificate) ? 1 : 0) <= 1", "access: write one of anonymous, basic, token and clientCertificate"))]
pub struct AccessSpec {
    /// Everybody who reaches the cache may pull.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous: Option<AnonymousAccessSpec>,
    /// A user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAccessSpec>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAccessSpec>,
    /// A certificate, in TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificateAccessSpec>,
}

impl AccessSpec {
    /// Whether clients need to show nothing.
    pub fn is_anonymous(&self) -> bool {
        self.basic.is_none() && self.token.is_none() && self.client_certificate.is_none()
    }
}

/// Nothing can be said of it.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnonymousAccessSpec {}

/// Users with passwords.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BasicAccessSpec {
    /// A Secret of the same namespace: with the key `auth`, which holds lines as `htpasswd -B` writes them, or of the type `kubernetes.io/basic-auth`.
    pub secret_ref: SecretRef,
}

/// Tokens without users.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenAccessSpec {
    /// A Secret of the same namespace with the key `token`, which holds a token in each line.
    pub secret_ref: SecretRef,
}

/// Certificates of an authority.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificateAccessSpec {
    /// The authorities whose certificates get in: PEM in a Secret of the same namespace.
    pub ca_secret_ref: SecretKeyRef,
}
