//! A registry to pull from: where it is, who it is trusted by, and what it is told.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Freshness, Identity};
use crate::values::{Duration, Endpoint, RegistryHost, RepositoryPrefix};

/// Most credentials of one upstream.
pub const MAXIMUM_CREDENTIALS: usize = 32;

/// A registry to pull from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// Where redirects may lead although it is inside the network: `storage.example`, `10.0.0.9:9000`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redirect_hosts: Vec<RegistryHost>,
    /// HTTP proxy through which all of it is reached. What the environment says of proxies is not looked at then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Endpoint>,
    /// Certificate with which the cache shows itself in TLS. Never shown to hosts that redirects lead to, unless they are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// How much may be asked of it.
    #[serde(default, skip_serializing_if = "Limits::are_absent")]
    pub limits: Limits,
    /// From one request to the head of its answer, 1s to 5m. Clients of what is not stored wait for some seconds more and are told 503 then. Absent: 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header_timeout: Option<Duration>,
    /// Freshness of its tags where the matching rule says nothing else. Absent: as the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
}

/// A certificate and its key, in PEM. The files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientCertificate {
    /// File with the certificate, and those between it and its authority.
    pub certificate_file: PathBuf,
    /// File with the private key.
    pub key_file: PathBuf,
}

/// Bounds of what is asked of one upstream. Absent: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Requests at the same time; more wait in line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Bytes of blobs in a second, over all fills.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

impl Limits {
    /// What each may be.
    pub const CONCURRENCY: std::ops::RangeInclusive<u32> = 1..=1024;
    /// What each may be. Below, a single read would be a second's worth.
    pub const BYTES_PER_SECOND: std::ops::RangeInclusive<u64> = 65_536..=1_000_000_000_000;

    fn are_absent(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn are_in_range(self) -> bool {
        self.concurrency
            .is_none_or(|number| Self::CONCURRENCY.contains(&number))
            && self
                .bytes_per_second
                .is_none_or(|number| Self::BYTES_PER_SECOND.contains(&number))
    }
}

/// A user name with a password, a Docker configuration that holds them, or a cloud's identity. Its files are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// What a cloud's registry knows the machine or the pod as, instead of files with secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

impl Credential {
    /// Whether it is exactly one kind.
    pub(super) fn is_of_one_kind(&self) -> bool {
        matches!(
            (
                &self.username_file,
                &self.password_file,
                &self.docker_config_file,
                &self.identity
            ),
            (Some(_), Some(_), None, None)
                | (None, None, Some(_), None)
                | (None, None, None, Some(_))
        )
    }
}

impl Upstream {
    /// Seconds that [`Self::header_timeout`] may have.
    pub const HEADER_TIMEOUT: std::ops::RangeInclusive<u64> = 1..=300;

    pub(super) fn timeout_is_in_range(&self) -> bool {
        let range = Self::HEADER_TIMEOUT;
        self.header_timeout
            .is_none_or(|time| range.contains(&time.as_secs()))
    }

    /// A registry of which nothing but the name is said.
    pub fn named(host: RegistryHost) -> Self {
        Self {
            host,
            endpoints: Vec::new(),
            repository_prefix: None,
            ca_file: None,
            credentials: Vec::new(),
            auth_realms: Vec::new(),
            redirect_hosts: Vec::new(),
            proxy: None,
            client_certificate: None,
            limits: Limits::default(),
            header_timeout: None,
            freshness: None,
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
        let certificate = self.client_certificate.iter().flat_map(|one| {
            [
                ("certificateFile", one.certificate_file.as_path()),
                ("keyFile", one.key_file.as_path()),
            ]
        });
        let credentials = self.credentials.iter().flat_map(|credential| {
            [
                ("usernameFile", &credential.username_file),
                ("passwordFile", &credential.password_file),
                ("dockerConfigFile", &credential.docker_config_file),
            ]
        });
        let identities = self
            .credentials
            .iter()
            .filter_map(|credential| credential.identity.as_ref())
            .flat_map(Identity::files);
        [("caFile", &self.ca_file)]
            .into_iter()
            .chain(credentials)
            .filter_map(|(field, path)| Some((field, path.as_deref()?)))
            .chain(certificate)
            .chain(identities)
            .collect()
    }
}
