//! A registry to pull from: where it is, who it is trusted by, and what it is told.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::values::{Endpoint, RegistryHost, RepositoryPrefix};

/// Most credentials of one upstream.
pub const MAXIMUM_CREDENTIALS: usize = 32;

/// A registry to pull from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Upstream {
    /// What image names say, and containerd's `ns`.
    pub host: RegistryHost,
    /// Where its API is reached, in order of preference. Empty: `https://` and the host (Docker Hub: its API's name).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Put in front of each repository name when the upstream is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_prefix: Option<RepositoryPrefix>,
    /// PEM file with the certificate authorities to trust instead of the system's. Read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Who the cache is to the upstream. The most specific one for a repository is used; where none is for it, nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// Where tokens may be asked for beside the upstream's own domain: `https://login.example`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub auth_realms: Vec<Endpoint>,
}

/// A user name with a password, or a Docker configuration that holds them. Its files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credential {
    /// For this repository and those below it, as clients name them; absent: for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_prefix: Option<RepositoryPrefix>,
    /// File with the user name. Goes with `passwordFile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username_file: Option<PathBuf>,
    /// File with the password. Goes with `usernameFile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// A Docker `config.json` with an entry for the upstream, instead of the other two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker_config_file: Option<PathBuf>,
}

impl Credential {
    /// Whether it names exactly one kind of files.
    pub(super) fn is_of_one_kind(&self) -> bool {
        matches!(
            (
                &self.username_file,
                &self.password_file,
                &self.docker_config_file
            ),
            (Some(_), Some(_), None) | (None, None, Some(_))
        )
    }
}

impl Upstream {
    /// A registry of which nothing but the name is said.
    pub fn named(host: RegistryHost) -> Self {
        Self {
            host,
            endpoints: Vec::new(),
            repository_prefix: None,
            ca_file: None,
            credentials: Vec::new(),
            auth_realms: Vec::new(),
        }
    }

    /// Where to ask, never empty.
    pub fn effective_endpoints(&self) -> Vec<Endpoint> {
        if self.endpoints.is_empty() {
            vec![Endpoint::default_for(&self.host)]
        } else {
            self.endpoints.clone()
        }
    }

    /// Every file that it names, and the field that names it.
    pub fn files(&self) -> Vec<(&'static str, &Path)> {
        let credentials = self.credentials.iter().flat_map(|credential| {
            [
                ("usernameFile", &credential.username_file),
                ("passwordFile", &credential.password_file),
                ("dockerConfigFile", &credential.docker_config_file),
            ]
        });
        [("caFile", &self.ca_file)]
            .into_iter()
            .chain(credentials)
            .filter_map(|(field, path)| Some((field, path.as_deref()?)))
            .collect()
    }
}
