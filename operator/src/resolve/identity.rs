//! Who the pods are to clouds: tokens of their service account, each for one audience, and none for the API server. Pure.

use std::path::{Path, PathBuf};

use crds::policy::{Credential, Identity, Provider};
use crds::registry_cache::{CredentialSpec, IdentityProvider, IdentitySpec};
use crds::values::Endpoint;
use serde_json::{Value, json};

use super::{CONFIG_DIRECTORY, Problem, secrets, spec_problem};
use crate::render::names::hashed;

/// Directory of the pods with a directory for each token.
const TOKENS_DIRECTORY: &str = "/etc/larder/tokens";
/// Beginning of the names of files with accounts.
const ACCOUNT: &str = "google";
/// Name of the file with a token.
pub const TOKEN_FILE: &str = "token";

/// A token to mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodToken {
    pub(crate) audience: String,
}

impl PodToken {
    /// Short, without the characters that an audience may have.
    pub(crate) fn name(&self) -> String {
        hashed("token", &self.audience)
    }

    /// Directory in which the pods find it.
    pub(crate) fn directory(&self) -> PathBuf {
        Path::new(TOKENS_DIRECTORY).join(self.name())
    }

    fn file(&self) -> PathBuf {
        self.directory().join(TOKEN_FILE)
    }
}

/// The server's form of an identity, and what goes with it.
pub(super) struct Found {
    pub(super) credential: Credential,
    /// `None`: the surroundings give one.
    pub(super) token: Option<PodToken>,
    /// Name and text of a file with the configuration of Google's federation. It holds no secret.
    pub(super) account: Option<(String, String)>,
}

/// Checks an identity.
pub(super) fn credential(
    field: &str,
    spec: &CredentialSpec,
    identity: &IdentitySpec,
) -> Result<Found, Problem> {
    let provider = match identity.provider {
        IdentityProvider::Ecr => Provider::Ecr,
        IdentityProvider::Gar => Provider::Gar,
        IdentityProvider::Acr => Provider::Acr,
    };
    let pool = identity.workload_identity_provider.as_ref();
    let usual = match provider {
        Provider::Ecr => identity
            .role
            .is_some()
            .then(|| "sts.amazonaws.com".to_owned()),
        Provider::Acr => identity
            .client
            .is_some()
            .then(|| "api://AzureADTokenExchange".to_owned()),
        Provider::Gar => pool.map(|pool| format!("https:{}", resource(pool))),
    };
    let audience = usual.map(|usual| identity.audience.clone().unwrap_or(usual));
    let token = audience.map(|audience| PodToken { audience });
    let account = pool.zip(token.as_ref()).map(|(pool, token)| {
        let text = account(pool, identity.google_service_account.as_deref(), token);
        (format!("{}.json", hashed(ACCOUNT, &text)), text)
    });
    let authority = identity.authority.as_ref().map(|text| {
        text.parse::<Endpoint>()
            .map_err(|error| spec_problem(&format!("{field}.identity.authority"), &error))
    });
    let credential = Credential {
        repository_prefix: secrets::repository_prefix(field, spec)?,
        username_file: None,
        password_file: None,
        docker_config_file: None,
        identity: Some(Identity {
            region: identity.region.clone(),
            role: identity.role.clone(),
            tenant: identity.tenant.clone(),
            client: identity.client.clone(),
            token_file: token
                .as_ref()
                .filter(|_| provider != Provider::Gar)
                .map(PodToken::file),
            account_file: account
                .as_ref()
                .map(|(name, _)| Path::new(CONFIG_DIRECTORY).join(name)),
            authority: authority.transpose()?,
            ..Identity::of(provider)
        }),
    };
    Ok(Found {
        credential,
        token,
        account,
    })
}

/// Whether a file of that name is what an identity made.
pub(super) fn is_account_file(name: &str) -> bool {
    let rest = name.strip_prefix(ACCOUNT);
    let rest = rest.and_then(|rest| rest.strip_suffix(".json"));
    rest.is_some_and(|rest| rest.starts_with('-'))
}

/// Google's name of a provider.
fn resource(pool: &str) -> String {
    format!("//iam.googleapis.com/{pool}")
}

/// <https://google.aip.dev/auth/4117>
fn account(pool: &str, acts_as: Option<&str>, token: &PodToken) -> String {
    let mut account = json!({
        "type": "external_account",
        "audience": resource(pool),
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": "https://sts.googleapis.com/v1/token",
        "credential_source": {"file": token.file()},
    });
    if let Some(email) = acts_as {
        account["service_account_impersonation_url"] = Value::String(format!(
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/{email}:generateAccessToken"
        ));
    }
    account.to_string()
}
