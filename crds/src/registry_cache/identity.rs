//! Who the cache is to a cloud's registry.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An identity that a cloud gives to the pods, in place of a stored password. What is not said comes from the pod's surroundings, where the cloud's webhooks put it.
#[derive(KubeSchema, Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self.provider == 'Ecr' || !(has(self.region) || has(self.role))", "identity: region and role are for the provider Ecr"))]
#[x_kube(validation = ("self.provider == 'Acr' ? has(self.tenant) == has(self.client) : !(has(self.tenant) || has(self.client))", "identity: tenant and client are for the provider Acr, and go together"))]
#[x_kube(validation = ("!has(self.authority) || has(self.role) || has(self.tenant)", "identity: authority is where the pod's token is exchanged: write a role, or a tenant and a client"))]
#[x_kube(validation = ("self.provider == 'Gar' || !has(self.workloadIdentityProvider)", "identity: workloadIdentityProvider is for the provider Gar"))]
#[x_kube(validation = ("!has(self.googleServiceAccount) || has(self.workloadIdentityProvider)", "identity: googleServiceAccount goes with workloadIdentityProvider; a pod of Google's own clusters is given one by serviceAccount.annotations"))]
#[x_kube(validation = ("!has(self.audience) || has(self.role) || has(self.tenant) || has(self.workloadIdentityProvider)", "identity: audience is of the pod's token: write a role, a tenant and a client, or a workloadIdentityProvider"))]
pub struct IdentitySpec {
    /// `Ecr` (Amazon), `Gar` (Google) or `Acr` (Azure).
    pub provider: IdentityProvider,
    /// Ecr: the registry's region. Default: the one in its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$")
    )]
    pub region: Option<String>,
    /// Ecr: the role to take on with a token of the pod: `arn:aws:iam::1:role/pull`. Default: what the pod is given by a webhook or an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 20, max = 2048),
        regex(pattern = r"^arn:[a-z-]+:iam::[0-9]+:role/[A-Za-z0-9+=,.@_/-]+$")
    )]
    pub role: Option<String>,
    /// Acr: identifier of the tenant. Default: what the pod is given by a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$")
    )]
    pub tenant: Option<String>,
    /// Acr: identifier of the client that trusts the pod's token. Default: what the pod is given by a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$")
    )]
    pub client: Option<String>,
    /// Gar: who trusts the pod's token: `projects/1/locations/global/workloadIdentityPools/pool/providers/cluster`. Default: the account of the machine or pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(
            pattern = r"^projects/[a-z0-9-]+/locations/[a-z0-9-]+/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$"
        )
    )]
    pub workload_identity_provider: Option<String>,
    /// Gar: the account to act as, with `workloadIdentityProvider`: `pull@team.iam.gserviceaccount.com`. Default: none, the provider's own rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 3, max = 253),
        regex(pattern = r"^[a-z0-9.-]+@[a-z0-9.-]+$")
    )]
    pub google_service_account: Option<String>,
    /// Whom the pod's token is for. Default: `sts.amazonaws.com`, `api://AzureADTokenExchange`, or the provider's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[!-~]+$"))]
    pub audience: Option<String>,
    /// Ecr and Acr: where the pod's token is exchanged: `https://login.microsoftonline.us`. Default: the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 9, max = 270))]
    #[x_kube(validation = ("self.matches('^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?/?$')", "authority: write https:// and a host with an optional port, without path or user: https://login.microsoftonline.us"))]
    pub authority: Option<String>,
}

/// Whose registry it is.
#[derive(JsonSchema, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdentityProvider {
    Ecr,
    Gar,
    Acr,
}
