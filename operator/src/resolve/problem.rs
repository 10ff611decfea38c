//! What a person has to mend, said so that they can.

use std::fmt::Write as _;

use crds::conditions::Reason;

use super::RuleProblem;

/// Something in the declaration that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("spec.{field}: {reason}")]
    Spec { field: String, reason: String },
    #[error(
        "Secret {namespace}/{name} does not exist; create it with the key {key}, or remove {field}"
    )]
    SecretMissing {
        namespace: String,
        name: String,
        key: String,
        field: String,
    },
    #[error(
        "Secret {namespace}/{name} has no key {key}; add it, or name another key in {field}.key"
    )]
    SecretKeyMissing {
        namespace: String,
        name: String,
        key: String,
        field: String,
    },
    #[error("Secret {namespace}/{name} does not exist; create it {expected}, or remove {field}")]
    MountedSecretMissing {
        namespace: String,
        name: String,
        expected: &'static str,
        field: String,
    },
    #[error(
        "Secret {namespace}/{name} lacks a key; make it {expected}, or name another Secret in {field}"
    )]
    MountedSecretKeys {
        namespace: String,
        name: String,
        expected: &'static str,
        field: String,
    },
    #[error(
        "CachePolicy {namespace}/{name} does not exist; create it, or remove policyRefs[{position}]"
    )]
    PolicyMissing {
        namespace: String,
        name: String,
        position: usize,
    },
    #[error("CachePolicy {namespace}/{name} can't be read: {reason}")]
    PolicyMalformed {
        namespace: String,
        name: String,
        reason: String,
    },
    #[error("CachePolicy {namespace}/{name}, {problem}")]
    Rule {
        namespace: String,
        name: String,
        problem: RuleProblem,
    },
    #[error("the cache server would refuse the policy: {reason}")]
    Refused { reason: String },
    #[error("the cache server would refuse its settings: {reason}")]
    RefusedSettings { reason: String },
    #[error(
        "the cluster has no Certificate (cert-manager.io/v1); install cert-manager, or name a Secret in tls.secretRef instead of tls.issuerRef; an installation is noticed within a minute"
    )]
    NoCertificates,
}

impl Problem {
    /// The reason that stands in conditions.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Spec { .. } | Self::RefusedSettings { .. } => Reason::InvalidSpec,
            Self::NoCertificates => Reason::ApiMissing,
            Self::SecretMissing { .. }
            | Self::SecretKeyMissing { .. }
            | Self::MountedSecretMissing { .. }
            | Self::MountedSecretKeys { .. } => Reason::SecretNotFound,
            Self::PolicyMissing { .. } => Reason::PolicyNotFound,
            Self::PolicyMalformed { .. } | Self::Rule { .. } | Self::Refused { .. } => {
                Reason::PolicyInvalid
            }
        }
    }
}

/// A field that can't be used.
pub(super) fn spec_problem(field: &str, reason: &dyn std::fmt::Display) -> Problem {
    Problem::Spec {
        field: field.to_owned(),
        reason: reason.to_string(),
    }
}

/// Problems that are said in full: a person wants to mend them in one go, and a message has to stay short.
const IN_FULL: usize = 3;

/// The first problems in full, and how many more there are.
pub fn sentence(problems: &[Problem]) -> String {
    let full: Vec<String> = problems
        .iter()
        .take(IN_FULL)
        .map(ToString::to_string)
        .collect();
    let mut text = full.join(". ");
    let more = problems.len().saturating_sub(IN_FULL);
    if more > 0 {
        let plural = if more == 1 { "problem" } else { "problems" };
        let _ = write!(text, " (and {more} more {plural})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_problems_are_said_and_the_rest_counted() {
        let problems: Vec<Problem> = (0..5)
            .map(|position| Problem::PolicyMissing {
                namespace: "team-a".to_owned(),
                name: format!("p{position}"),
                position,
            })
            .collect();
        let text = sentence(&problems);
        assert!(
            text.contains("p0") && text.contains("p2") && !text.contains("p3"),
            "{text}"
        );
        assert!(text.ends_with("(and 2 more problems)"), "{text}");
    }
}
