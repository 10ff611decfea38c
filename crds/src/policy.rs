//! `policy.yaml`: what a cache server serves, from where and for how long. A change is live within a second of its arrival.

mod access;
mod capacity;
mod check;
mod decide;
mod field;
mod identity;
mod upstream;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::values::{Duration, RegistryHost, RepositoryGlob, TagGlob};

pub use access::{Access, BasicAccess, TokenAccess};
pub use capacity::{Capacity, Retention};
pub use check::Error;
pub use decide::{Decision, Decisions, Kept, Subject};
pub use identity::{Identity, Provider};
pub use upstream::{ClientCertificate, Credential, Limits, MAXIMUM_CREDENTIALS, Upstream};

/// The version of the file's format that this build reads and writes.
pub const FORMAT: u32 = 1;

/// Most upstreams of one cache.
pub const MAXIMUM_UPSTREAMS: usize = 64;
/// Most rules of one cache, over all its policies.
pub const MAXIMUM_RULES: usize = 1024;

/// Everything hot: upstreams, rules and capacity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Version of the format: 1.
    #[serde(default = "format")]
    pub format: u32,
    /// The registries that may be asked. Nothing else is ever dialled.
    pub upstreams: Vec<Upstream>,
    /// Upstream of requests that name none (Docker's `registry-mirrors`). One of `upstreams`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_upstream: Option<RegistryHost>,
    /// What clients must show. Default: nothing.
    #[serde(default, skip_serializing_if = "Access::is_anonymous")]
    pub access: Access,
    /// Whether content that credentials unlock may be given to clients that show none. Needed for credentials where `access`
    /// lets everybody in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_anonymous_private: bool,
    /// Tried in order; the first that matches decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// What happens where no rule matches.
    #[serde(default)]
    pub default_action: Action,
    /// Freshness of tags where neither the matching rule nor the upstream says something else.
    #[serde(default)]
    pub freshness: Freshness,
    /// How much is kept.
    #[serde(default, skip_serializing_if = "Capacity::is_default")]
    pub capacity: Capacity,
}

/// What to do with what matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Stands in messages and logs. Unique.
    pub name: String,
    /// Hosts of upstreams; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<RegistryHost>,
    /// Repositories, any of them; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<RepositoryGlob>,
    /// Tags, any of them; empty: all. For a request by digest a rule with tags counts if its action is Cache or Forward, and
    /// is passed over if it is Refuse or Deny.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<TagGlob>,
    /// What is done with what matches.
    pub action: Action,
    /// Freshness of the tags that this rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// What is kept of what this rule matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    /// Serve it from the cache, and fill the cache from the upstream.
    #[default]
    Cache,
    /// Pass it through from the upstream and keep nothing.
    Forward,
    /// Answer "not found", so that the client goes on to the upstream itself.
    Refuse,
    /// Answer "forbidden" with a reason.
    Deny,
}

impl Action {
    /// Whether the request gets content.
    pub fn serves(self) -> bool {
        matches!(self, Self::Cache | Self::Forward)
    }
}

/// How long a tag may be answered from the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Freshness {
    /// Age from which the upstream is asked again. Default 5m.
    pub refresh_after: Duration,
    /// Age up to which the old answer is given while the upstream fails or hangs. Default 7d.
    pub serve_stale_for: Duration,
    /// Tags that never move: asked once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub immutable_tags: Vec<TagGlob>,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            refresh_after: Duration::from_secs(300),
            serve_stale_for: Duration::from_secs(7 * 86_400),
            immutable_tags: Vec::new(),
        }
    }
}

impl Policy {
    /// The four public registries that a cache server without a policy file serves.
    pub fn public_registries() -> Self {
        let upstream =
            |host: &str| Upstream::named(host.parse().expect("the names below are valid"));
        Self {
            format: FORMAT,
            upstreams: ["docker.io", "quay.io", "ghcr.io", "registry.k8s.io"]
                .map(upstream)
                .into(),
            default_upstream: Some("docker.io".parse().expect("docker.io is valid")),
            access: Access::default(),
            allow_anonymous_private: false,
            rules: Vec::new(),
            default_action: Action::Cache,
            freshness: Freshness::default(),
            capacity: Capacity::default(),
        }
    }

    /// Reads and checks the text of a `policy.yaml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let policy: Self = yaml(text).map_err(Error::Syntax)?;
        policy.check()?;
        Ok(policy)
    }

    /// The text of the file.
    pub fn to_yaml(&self) -> String {
        serde_saphyr::to_string(self).expect("plain data has a YAML form")
    }

    /// Hash of the meaning, not of the text: 64 hexadecimal digits of SHA-256 over the canonical JSON. Comments and the
    /// order of keys don't count, the order of rules does.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(
            serde_json::to_vec(self).expect("plain data has a JSON form"),
        ))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

fn format() -> u32 {
    FORMAT
}

/// Reads YAML; an empty text is an empty mapping. Errors have the place and the line that they are about.
pub fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let nothing = text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    serde_saphyr::from_str(if nothing { "{}" } else { text }).map_err(|error| {
        // Advice for programmers, which is none for those who wrote the file.
        let advice = ", set DuplicateKeyPolicy in Options if acceptable";
        error.to_string().replace(advice, "")
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
