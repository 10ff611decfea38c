//! Who the cache is to a cloud's registry, without a password that somebody keeps.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::values::Endpoint;

/// An identity that a cloud gives to the machine or the pod. What is not said comes from the environment, where the
/// cloud's own webhooks put it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// Whose registry it is.
    pub provider: Provider,
    /// Ecr: the registry's region. Default: the one in its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Ecr: the role to take on with `tokenFile`. Default: `AWS_ROLE_ARN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Ecr: file with `aws_access_key_id` and `aws_secret_access_key`, instead of a role. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys_file: Option<PathBuf>,
    /// Gar: file with the configuration of a workload identity federation (`external_account`). Default: the machine's
    /// own account, from the metadata server. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_file: Option<PathBuf>,
    /// Acr: identifier of the tenant. Default: `AZURE_TENANT_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Acr: identifier of the client. Default: `AZURE_CLIENT_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Ecr and Acr: file with the pod's token, read at each sign-in. Default: `AWS_WEB_IDENTITY_TOKEN_FILE` or
    /// `AZURE_FEDERATED_TOKEN_FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Ecr: where its API is. Gar: where the metadata server is. Default: the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Endpoint>,
    /// Ecr and Acr: where the pod's token is exchanged. Default: the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Endpoint>,
}

/// Whose registry it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Provider {
    /// Amazon Elastic Container Registry.
    Ecr,
    /// Google Artifact Registry.
    Gar,
    /// Azure Container Registry.
    Acr,
}

impl Identity {
    /// An identity of which everything comes from the surroundings.
    pub fn of(provider: Provider) -> Self {
        Self {
            provider,
            region: None,
            role: None,
            keys_file: None,
            account_file: None,
            tenant: None,
            client: None,
            token_file: None,
            endpoint: None,
            authority: None,
        }
    }

    /// Files whose change is a change of the identity. Tokens are not among them: they change each hour.
    pub(super) fn files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        [
            ("keysFile", &self.keys_file),
            ("accountFile", &self.account_file),
        ]
        .into_iter()
        .filter_map(|(field, path)| Some((field, path.as_deref()?)))
    }

    /// What is wrong with it; `None`: nothing.
    pub(super) fn fault(&self) -> Option<String> {
        let foreign = self.foreign_field();
        if let Some(field) = foreign {
            return Some(format!(
                "{field} is not for the provider {:?}",
                self.provider
            ));
        }
        let pairs = [("region", &self.region), ("tenant", &self.tenant)];
        let odd = pairs
            .into_iter()
            .find(|(_, value)| value.as_deref().is_some_and(|text| !is_name(text)));
        if let Some((field, _)) = odd {
            return Some(format!(
                "{field} must be 1 to 64 letters, digits, dots and hyphens"
            ));
        }
        if self.keys_file.is_some() && (self.role.is_some() || self.token_file.is_some()) {
            return Some("write keysFile, or role and tokenFile".to_owned());
        }
        [("endpoint", &self.endpoint), ("authority", &self.authority)]
            .into_iter()
            .find(|(_, value)| {
                value
                    .as_ref()
                    .is_some_and(|one| !one.is_secure() && !one.is_loopback())
            })
            .map(|(field, _)| format!("{field} must begin with https://: secrets are sent there"))
    }

    fn foreign_field(&self) -> Option<&'static str> {
        let (ecr, gar, acr) = (Provider::Ecr, Provider::Gar, Provider::Acr);
        let fields: [(&str, bool, &[Provider]); 9] = [
            ("region", self.region.is_some(), &[ecr]),
            ("role", self.role.is_some(), &[ecr]),
            ("keysFile", self.keys_file.is_some(), &[ecr]),
            ("accountFile", self.account_file.is_some(), &[gar]),
            ("tenant", self.tenant.is_some(), &[acr]),
            ("client", self.client.is_some(), &[acr]),
            ("tokenFile", self.token_file.is_some(), &[ecr, acr]),
            ("endpoint", self.endpoint.is_some(), &[ecr, gar]),
            ("authority", self.authority.is_some(), &[ecr, acr]),
        ];
        fields
            .into_iter()
            .find(|(_, is_said, providers)| *is_said && !providers.contains(&self.provider))
            .map(|(field, ..)| field)
    }
}

/// What may become a part of a host's name or of a path.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && !text.contains("..")
}

#[cfg(test)]
mod tests {
    use super::super::Policy;

    fn message(identity: &str) -> String {
        let text = format!(
            "allowAnonymousPrivate: true\nupstreams:\n- host: r.example\n  credentials:\n  - identity: {{{identity}}}\n"
        );
        match Policy::parse(&text) {
            Ok(_) => "taken".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn an_identity_needs_its_provider_only() {
        for provider in ["Ecr", "Gar", "Acr"] {
            assert_eq!(message(&format!("provider: {provider}")), "taken");
        }
    }

    #[test]
    fn what_does_not_fit_the_provider_is_named() {
        let faults: Vec<_> = [
            "provider: Quay",
            "provider: Gar, role: x",
            "provider: Ecr, tenant: x",
            "provider: Ecr, region: 'a/b'",
            "provider: Ecr, keysFile: /k, role: x",
            "provider: Ecr, authority: 'http://sts.example'",
            "provider: Ecr, authority: 'http://127.0.0.1:1', usernameFile: /u",
        ]
        .map(message)
        .into();
        insta::assert_snapshot!(faults.join("\n---\n"));
        assert_eq!(
            message("provider: Ecr, authority: 'http://127.0.0.1:1'"),
            "taken"
        );
    }
}
