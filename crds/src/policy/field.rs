//! Which field of a policy an [`Error`] is about. Pure.

use super::{Credential, Error, Identity, Policy, Rule, Upstream};
use crate::values::RegistryHost;

impl Error {
    /// The field of the policy that was refused, as [`crate::place::of`] takes it; `None` if its text could not be read.
    pub fn field(&self, policy: &Policy) -> Option<String> {
        let upstream = |host: &RegistryHost, field: &str| {
            let mut all = policy.upstreams.iter();
            let number = all.position(|one| one.host == *host)?;
            Some(format!("upstreams[{number}].{field}"))
        };
        let credential = |host: &RegistryHost, is_meant: fn(&[Credential], usize) -> bool| {
            let mut all = policy.upstreams.iter();
            let credentials = &all.find(|one| one.host == *host)?.credentials;
            let number = (0..credentials.len()).find(|number| is_meant(credentials, *number))?;
            upstream(host, &format!("credentials[{number}]"))
        };
        let rule = |name: &str, field: &str| {
            let mut all = policy.rules.iter();
            let number = all.position(|one| one.name == name)?;
            Some(format!("rules[{number}].{field}"))
        };
        match self {
            Self::Syntax(_) => None,
            Self::Format { .. } => Some("format".to_owned()),
            Self::UpstreamCount { .. } => Some("upstreams".to_owned()),
            Self::RuleCount { .. } => Some("rules".to_owned()),
            Self::SameUpstream { host } => {
                let same = |one: &Upstream| one.host == *host;
                let number = policy.upstreams.iter().rposition(same)?;
                Some(format!("upstreams[{number}].host"))
            }
            Self::CredentialCount { host, .. } | Self::AnonymousPrivate { host } => {
                upstream(host, "credentials")
            }
            Self::CredentialKind { host } => {
                credential(host, |all, number| !all[number].is_of_one_kind())
            }
            Self::Identity { host, .. } => credential(host, |all, number| {
                let identity = all[number].identity.as_ref();
                identity.and_then(Identity::fault).is_some()
            }),
            Self::SameCredential { host } => credential(host, |all, number| {
                let (before, this) = (&all[..number], &all[number]);
                let same = |one: &Credential| one.repository_prefix == this.repository_prefix;
                before.iter().any(same)
            }),
            Self::BasicKind => Some("access.basic".to_owned()),
            Self::Limits { host } => upstream(host, "limits"),
            Self::HeaderTimeout { host } => upstream(host, "headerTimeout"),
            Self::UnknownDefault { .. } => Some("defaultUpstream".to_owned()),
            Self::SameRule { name } => {
                let same = |one: &Rule| one.name == *name;
                let number = policy.rules.iter().rposition(same)?;
                Some(format!("rules[{number}].name"))
            }
            Self::RuleName { length } => {
                let same = |one: &Rule| one.name.len() == *length;
                let number = policy.rules.iter().position(same)?;
                Some(format!("rules[{number}].name"))
            }
            Self::UnknownUpstream { rule: name, host } => {
                let found = policy.rules.iter().find(|one| one.name == *name)?;
                let number = found.upstreams.iter().position(|one| one == host)?;
                rule(name, &format!("upstreams[{number}]"))
            }
            Self::FreshnessWithoutCache { rule: name, .. } => rule(name, "freshness"),
            Self::RetentionWithoutCache { rule: name, .. }
            | Self::RetentionOfNothing { rule: name } => rule(name, "retention"),
            Self::PinWithLimits { rule: name } => rule(name, "retention.pin"),
            Self::Watermarks { .. } => Some("capacity".to_owned()),
            Self::NoCapacity => Some("capacity.maxSize".to_owned()),
        }
    }
}
