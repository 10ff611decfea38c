//! Who may talk with the pods, and with whom they may.

use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// Rules of the pods' `NetworkPolicy`. It works where the cluster's network has such policies. Peers have the form of Kubernetes' own.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicySpec {
    /// Who may reach the port for clients. Default: everybody, because nodes pull from their own addresses: name their networks by `ipBlock`, if at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub clients: Vec<NetworkPolicyPeer>,
    /// Who may reach the port for metrics and administration beside the operator, such as the namespace of your Prometheus. Default: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub administrators: Vec<NetworkPolicyPeer>,
    /// Where the pods may connect to.
    #[serde(default)]
    pub egress: EgressSpec,
}

/// Where the pods may connect to, beside DNS.
#[derive(KubeSchema, Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressSpec {
    /// Where upstreams are. Default: anywhere, but only on the ports that the upstreams, their proxies, realms, redirects and identities, a bucket and a collector of traces are said to have, and 443.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub to: Vec<NetworkPolicyPeer>,
    /// Further TCP ports to allow, such as that of an object storage that an upstream redirects to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 1, max = 65535)))]
    pub ports: Vec<i32>,
}
