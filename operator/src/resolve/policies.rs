//! `CachePolicy` objects become the rules of one policy. Pure.
//!
//! A policy may be shared by caches with different upstreams. So a rule that names upstreams is narrowed to those that
//! the cache has, and dropped if none remains: it could not match any request of this cache.

use std::collections::BTreeSet;
use std::fmt;

use crds::cache_policy::{CachePolicySpec, FreshnessSpec, RetentionSpec, RuleSpec};
use crds::policy::{Freshness, Retention, Rule};
use crds::values::{InvalidValue, RegistryHost};

use super::Problem;
use crate::observe::{FoundPolicy, Observed};
use crate::render::names::Owner;

/// A value in a rule that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleProblem {
    /// The rule's name, or its number from 1.
    pub rule: String,
    /// `rules[2].match.tags[0]`
    pub field: String,
    pub reason: String,
}

impl fmt::Display for RuleProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}, {}: {}", self.rule, self.field, self.reason)
    }
}

/// Rules of all policies, in the order of the references.
pub(super) fn merge(
    observed: &Observed,
    owner: &Owner,
    hosts: &BTreeSet<&RegistryHost>,
) -> Result<Vec<Rule>, Vec<Problem>> {
    let mut merged = Vec::new();
    let mut problems = Vec::new();
    for (position, reference) in observed.cache.spec.policy_refs.iter().enumerate() {
        let (namespace, name) = (owner.namespace.clone(), reference.name.clone());
        match observed.policies.get(&reference.name) {
            Some(FoundPolicy::Found(policy)) => match rules(&reference.name, &policy.spec) {
                Ok(rules) => merged.extend(rules.into_iter().filter_map(|r| narrow(r, hosts))),
                Err(found) => problems.extend(found.into_iter().map(|problem| Problem::Rule {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    problem,
                })),
            },
            Some(FoundPolicy::Malformed(reason)) => problems.push(Problem::PolicyMalformed {
                namespace,
                name,
                reason: reason.clone(),
            }),
            Some(FoundPolicy::Missing) | None => problems.push(Problem::PolicyMissing {
                namespace,
                name,
                position,
            }),
        }
    }
    if problems.is_empty() {
        Ok(merged)
    } else {
        Err(problems)
    }
}

/// The rules of one policy, named `<policy>/<rule>`, or every reason why they can't be used.
pub fn rules(policy: &str, spec: &CachePolicySpec) -> Result<Vec<Rule>, Vec<RuleProblem>> {
    let mut rules = Vec::new();
    let mut problems = Vec::new();
    let mut names = BTreeSet::new();
    for (position, spec) in spec.rules.iter().enumerate() {
        let name = spec
            .name
            .clone()
            .unwrap_or_else(|| (position + 1).to_string());
        let problem = |(field, reason): (String, String)| RuleProblem {
            rule: name.clone(),
            field: format!("rules[{position}].{field}"),
            reason,
        };
        match rule(format!("{policy}/{name}"), spec) {
            Ok(rule) => rules.push(rule),
            Err(error) => problems.push(problem(error)),
        }
        if !names.insert(name.clone()) {
            problems.push(problem((
                "name".to_owned(),
                "another rule has this name; give each a name of its own".to_owned(),
            )));
        }
    }
    if problems.is_empty() {
        Ok(rules)
    } else {
        Err(problems)
    }
}

fn rule(name: String, spec: &RuleSpec) -> Result<Rule, (String, String)> {
    Ok(Rule {
        name,
        upstreams: values("match.upstreams", &spec.matches.upstreams)?,
        repositories: values("match.repositories", &spec.matches.repositories)?,
        tags: values("match.tags", &spec.matches.tags)?,
        action: spec.action,
        freshness: spec
            .freshness
            .as_ref()
            .map(|spec| {
                freshness(spec).map_err(|(field, reason)| (format!("freshness.{field}"), reason))
            })
            .transpose()?,
        retention: spec.retention.as_ref().map(retention).transpose()?,
    })
}

fn retention(spec: &RetentionSpec) -> Result<Retention, (String, String)> {
    let unused_for = spec
        .unused_for
        .as_ref()
        .map(|text| {
            text.parse().map_err(|error: InvalidValue| {
                ("retention.unusedFor".to_owned(), error.to_string())
            })
        })
        .transpose()?;
    Ok(Retention {
        unused_for,
        keep_newest: spec.keep_newest,
        pin: spec.pin,
    })
}

/// Checked freshness, or the field that can't be used and why.
pub fn freshness(spec: &FreshnessSpec) -> Result<Freshness, (String, String)> {
    let value = |field: &str, text: &str| {
        text.parse()
            .map_err(|error: InvalidValue| (field.to_owned(), error.to_string()))
    };
    Ok(Freshness {
        refresh_after: value("refreshAfter", &spec.refresh_after)?,
        serve_stale_for: value("serveStaleFor", &spec.serve_stale_for)?,
        immutable_tags: values("immutableTags", &spec.immutable_tags)?,
    })
}

fn values<T: std::str::FromStr<Err = InvalidValue>>(
    field: &str,
    texts: &[String],
) -> Result<Vec<T>, (String, String)> {
    texts
        .iter()
        .enumerate()
        .map(|(position, text)| {
            text.parse()
                .map_err(|error| (format!("{field}[{position}]"), format!("{error}")))
        })
        .collect()
}

/// The rule as it stands in a cache with these upstreams. `None`: it can't match there.
pub fn narrow(mut rule: Rule, hosts: &BTreeSet<&RegistryHost>) -> Option<Rule> {
    if rule.upstreams.is_empty() {
        return Some(rule);
    }
    rule.upstreams.retain(|host| hosts.contains(host));
    (!rule.upstreams.is_empty()).then_some(rule)
}
