//! The rules for a policy that no single field shows. Pure; called by the operator before it writes and by the server before it swaps.

use std::collections::BTreeSet;

use super::{
    Action, FORMAT, MAXIMUM_CREDENTIALS, MAXIMUM_RULES, MAXIMUM_UPSTREAMS, Policy, Rule, Upstream,
};
use crate::values::RegistryHost;

/// Why a `policy.yaml` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("failed to read the policy: {0}")]
    Syntax(String),
    #[error("failed to take the policy: format is {found}, and this version reads format {FORMAT}")]
    Format { found: u32 },
    #[error("failed to take the policy: it has {found} upstreams; write 1 to {MAXIMUM_UPSTREAMS}")]
    UpstreamCount { found: usize },
    #[error("failed to take the policy: it has {found} rules; write {MAXIMUM_RULES} at most")]
    RuleCount { found: usize },
    #[error("failed to take the policy: the upstream {host} is listed twice")]
    SameUpstream { host: RegistryHost },
    #[error(
        "failed to take the policy: the upstream {host} has {found} credentials; write {MAXIMUM_CREDENTIALS} at most"
    )]
    CredentialCount { host: RegistryHost, found: usize },
    #[error(
        "failed to take the policy: a credential of the upstream {host} must name usernameFile and passwordFile, or dockerConfigFile or identity instead"
    )]
    CredentialKind { host: RegistryHost },
    #[error(
        "failed to take the policy: an identity of the upstream {host} can't be meant: {reason}"
    )]
    Identity { host: RegistryHost, reason: String },
    #[error(
        "failed to take the policy: two credentials of the upstream {host} are for the same repositories"
    )]
    SameCredential { host: RegistryHost },
    #[error(
        "failed to take the policy: the upstream {host} has credentials, and clients of this cache show none; say in access what they must show, or write allowAnonymousPrivate: true if everybody who reaches the cache may pull what they unlock"
    )]
    AnonymousPrivate { host: RegistryHost },
    #[error(
        "failed to take the policy: access.basic must name htpasswdFile, or usernameFile and passwordFile instead"
    )]
    BasicKind,
    #[error(
        "failed to take the policy: the limits of the upstream {host} are out of range; write a concurrency of 1 to 1024 and bytesPerSecond of 65536 to 1000000000000"
    )]
    Limits { host: RegistryHost },
    #[error(
        "failed to take the policy: the headerTimeout of the upstream {host} is out of range; write 1s to 5m"
    )]
    HeaderTimeout { host: RegistryHost },
    #[error(
        "failed to take the policy: defaultUpstream is {host}, which is not one of the upstreams"
    )]
    UnknownDefault { host: RegistryHost },
    #[error("failed to take the policy: two rules have the name {name:?}")]
    SameRule { name: String },
    #[error("failed to take the policy: a rule's name is {length} bytes long; write 1 to 320")]
    RuleName { length: usize },
    #[error(
        "failed to take the policy: the rule {rule:?} names the upstream {host}, which is not one of the upstreams"
    )]
    UnknownUpstream { rule: String, host: RegistryHost },
    #[error(
        "failed to take the policy: the rule {rule:?} sets freshness, which only the action Cache has, but its action is {action:?}"
    )]
    FreshnessWithoutCache { rule: String, action: Action },
    #[error(
        "failed to take the policy: the rule {rule:?} sets retention, which only the action Cache has, but its action is {action:?}"
    )]
    RetentionWithoutCache { rule: String, action: Action },
    #[error(
        "failed to take the policy: the rule {rule:?} sets pin beside unusedFor or keepNewest; what is pinned is never removed"
    )]
    PinWithLimits { rule: String },
    #[error(
        "failed to take the policy: the rule {rule:?} has a retention of nothing; write unusedFor of a second and keepNewest of 1 at least"
    )]
    RetentionOfNothing { rule: String },
    #[error(
        "failed to take the policy: the watermarks are {low} (low) and {high} (high); write percents from 1 to 100, the low one below the high one"
    )]
    Watermarks { low: u8, high: u8 },
    #[error("failed to take the policy: capacity.maxSize is 0; write a size, or leave it out")]
    NoCapacity,
}

impl Policy {
    /// Checks what [`Policy::parse`] checks beyond the syntax.
    pub fn check(&self) -> Result<(), Error> {
        if self.format != FORMAT {
            return Err(Error::Format { found: self.format });
        }
        if self.upstreams.is_empty() || self.upstreams.len() > MAXIMUM_UPSTREAMS {
            return Err(Error::UpstreamCount {
                found: self.upstreams.len(),
            });
        }
        if self.rules.len() > MAXIMUM_RULES {
            return Err(Error::RuleCount {
                found: self.rules.len(),
            });
        }
        let basic = self.access.basic.as_ref();
        if !basic.is_none_or(super::BasicAccess::is_of_one_kind) {
            return Err(Error::BasicKind);
        }
        let mut hosts = BTreeSet::new();
        for upstream in &self.upstreams {
            if !hosts.insert(&upstream.host) {
                return Err(Error::SameUpstream {
                    host: upstream.host.clone(),
                });
            }
            if !upstream.limits.are_in_range() {
                return Err(Error::Limits {
                    host: upstream.host.clone(),
                });
            }
            if !upstream.timeout_is_in_range() {
                return Err(Error::HeaderTimeout {
                    host: upstream.host.clone(),
                });
            }
            self.check_credentials(upstream)?;
        }
        if let Some(host) = self
            .default_upstream
            .as_ref()
            .filter(|host| !hosts.contains(host))
        {
            return Err(Error::UnknownDefault { host: host.clone() });
        }
        self.check_capacity()?;
        self.check_rules(&hosts)
    }

    fn check_capacity(&self) -> Result<(), Error> {
        let (low, high) = (self.capacity.low_watermark, self.capacity.high_watermark);
        if low == 0 || low >= high || high > 100 {
            return Err(Error::Watermarks { low, high });
        }
        let size = self
            .capacity
            .max_size
            .map(crate::values::ByteSize::as_bytes);
        if size == Some(0) {
            return Err(Error::NoCapacity);
        }
        Ok(())
    }

    fn check_credentials(&self, upstream: &Upstream) -> Result<(), Error> {
        let host = || upstream.host.clone();
        let credentials = &upstream.credentials;
        if credentials.len() > MAXIMUM_CREDENTIALS {
            return Err(Error::CredentialCount {
                host: host(),
                found: credentials.len(),
            });
        }
        if !credentials.iter().all(super::Credential::is_of_one_kind) {
            return Err(Error::CredentialKind { host: host() });
        }
        let mut identities = credentials.iter().filter_map(|one| one.identity.as_ref());
        if let Some(reason) = identities.find_map(super::Identity::fault) {
            return Err(Error::Identity {
                host: host(),
                reason,
            });
        }
        let scopes: BTreeSet<_> = credentials
            .iter()
            .map(|credential| &credential.repository_prefix)
            .collect();
        if scopes.len() < credentials.len() {
            return Err(Error::SameCredential { host: host() });
        }
        let everybody = self.access.is_anonymous();
        if !credentials.is_empty() && everybody && !self.allow_anonymous_private {
            return Err(Error::AnonymousPrivate { host: host() });
        }
        Ok(())
    }

    fn check_rules(&self, hosts: &BTreeSet<&RegistryHost>) -> Result<(), Error> {
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            if rule.name.is_empty() || rule.name.len() > 320 {
                return Err(Error::RuleName {
                    length: rule.name.len(),
                });
            }
            if !names.insert(&rule.name) {
                return Err(Error::SameRule {
                    name: rule.name.clone(),
                });
            }
            if let Some(host) = rule.upstreams.iter().find(|host| !hosts.contains(host)) {
                return Err(Error::UnknownUpstream {
                    rule: rule.name.clone(),
                    host: host.clone(),
                });
            }
            if rule.freshness.is_some() && rule.action != Action::Cache {
                return Err(Error::FreshnessWithoutCache {
                    rule: rule.name.clone(),
                    action: rule.action,
                });
            }
            check_retention(rule)?;
        }
        Ok(())
    }
}

fn check_retention(rule: &Rule) -> Result<(), Error> {
    let Some(retention) = &rule.retention else {
        return Ok(());
    };
    let name = rule.name.clone();
    if rule.action != Action::Cache {
        return Err(Error::RetentionWithoutCache {
            rule: name,
            action: rule.action,
        });
    }
    let seconds = retention.unused_for.map(crate::values::Duration::as_secs);
    if seconds == Some(0) || retention.keep_newest == Some(0) {
        return Err(Error::RetentionOfNothing { rule: name });
    }
    if retention.pin && (seconds.is_some() || retention.keep_newest.is_some()) {
        return Err(Error::PinWithLimits { rule: name });
    }
    Ok(())
}
