//! A bucket that the replicas of a cache share.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::placement::VolumeSpec;
use super::upstream::{SecretKeyRef, SecretRef};

/// A bucket with the API of S3. What one replica fetched, the others have, also while the upstream is down. What is in it is trusted: only caches may write to it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStorageSpec {
    /// Where the API is: `https://s3.example:9000`. Default: AWS, in the region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 270))]
    #[x_kube(validation = ("self.matches('^https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$')", "endpoint: write http:// or https:// and a host with an optional port, without path, user or query: https://s3.example:9000"))]
    pub endpoint: Option<String>,
    /// Name of the bucket. It must exist.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = r"^[a-z0-9][a-z0-9.-]*[a-z0-9]$")
    )]
    pub bucket: String,
    /// Region of the bucket. Servers of one's own take the default as a rule.
    #[serde(default = "region")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub region: String,
    /// What the keys of all objects begin with: `team/images`. Caches with the same bucket and prefix share content, and what credentials opened of it. Default: namespace and name of the `RegistryCache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    #[x_kube(validation = ("self.matches('^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$')", "prefix: write names of letters, digits, dots, hyphens and underscores with a slash between them: team/images"))]
    pub prefix: Option<String>,
    /// Whether the bucket stands in the path of requests, as most servers want it, and not in the name of the host.
    #[serde(default = "yes")]
    pub path_style: bool,
    /// A Secret of the same namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and perhaps `AWS_SESSION_TOKEN`. What it holds may change without a restart. Default: the identity that AWS gives to the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
    /// A Secret of the same namespace with the authorities that the endpoint's certificate is judged by. Default: those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
    /// The disk of each replica, from which it serves.
    pub local_tier: LocalTierSpec,
}

/// What a replica keeps for itself. `capacity` is about this, and not about the bucket.
#[derive(KubeSchema, Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalTierSpec {
    /// A persistent volume for each replica.
    pub volume: VolumeSpec,
}

fn region() -> String {
    "us-east-1".to_owned()
}

fn yes() -> bool {
    true
}
