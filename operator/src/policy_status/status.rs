//! What stands in the status of a policy. Pure.

use std::collections::BTreeMap;

use crds::cache_policy::{CachePolicy, CachePolicyStatus, MAXIMUM_BINDINGS, PolicyBinding};
use crds::conditions::{ACCEPTED, APPLIED, EFFECTIVE, REFERENCED, Reason};
use crds::policy::Rule;
use crds::registry_cache::RegistryCache;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use kube::api::ObjectMeta;

use super::conflicts::{Conflict, conflicts};
use crate::report::{Conditions, State};
use crate::resolve;

/// Caches, rules or conflicts that a message names; more are counted.
const NAMED: usize = 8;

/// The caches and policies of a policy's namespace.
#[derive(Debug)]
pub struct Neighbours<'a> {
    /// By name, without those that are being deleted.
    caches: BTreeMap<String, &'a RegistryCache>,
    /// Rules of the policies that can be used.
    rules: BTreeMap<String, Vec<Rule>>,
}

impl<'a> Neighbours<'a> {
    /// Puts them in order.
    pub fn new<'b>(
        caches: impl Iterator<Item = &'a RegistryCache>,
        policies: impl Iterator<Item = &'b CachePolicy>,
    ) -> Self {
        let there = |cache: &&RegistryCache| cache.metadata.deletion_timestamp.is_none();
        let rules = policies.filter_map(|policy| {
            let name = policy.name_any();
            let rules = resolve::rules(&name, &policy.spec).ok()?;
            Some((name, rules))
        });
        Self {
            caches: caches
                .filter(there)
                .map(|cache| (cache.name_any(), cache))
                .collect(),
            rules: rules.collect(),
        }
    }

    fn followers(&self, policy: &str) -> Vec<&'a RegistryCache> {
        let follows =
            |cache: &&RegistryCache| cache.spec.policy_refs.iter().any(|one| one.name == policy);
        self.caches.values().copied().filter(follows).collect()
    }
}

/// The status of a policy among its neighbours.
pub fn status(policy: &CachePolicy, neighbours: &Neighbours<'_>, now: &Time) -> CachePolicyStatus {
    let rules = resolve::rules(&policy.name_any(), &policy.spec).map_err(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        texts.join("; ")
    });
    let previous = policy.status.clone().unwrap_or_default();
    with_rules(&policy.metadata, &previous, &rules, neighbours, now)
}

/// The status of a policy that was stored under another definition, and can't be read.
pub fn of_malformed(
    metadata: &ObjectMeta,
    previous: &CachePolicyStatus,
    reason: &str,
    neighbours: &Neighbours<'_>,
    now: &Time,
) -> CachePolicyStatus {
    let reason = format!(
        "The object can't be read: {reason}. Apply it again in a form that fits the installed definition"
    );
    with_rules(metadata, previous, &Err(reason), neighbours, now)
}

fn with_rules(
    metadata: &ObjectMeta,
    previous: &CachePolicyStatus,
    rules: &Result<Vec<Rule>, String>,
    neighbours: &Neighbours<'_>,
    now: &Time,
) -> CachePolicyStatus {
    let name = metadata.name.as_deref().unwrap_or_default();
    let generation = metadata.generation;
    let followers = neighbours.followers(name);
    let bindings: Vec<PolicyBinding> = followers
        .iter()
        .map(|cache| binding(name, generation, cache))
        .collect();
    let mut conditions = Conditions::new(&previous.conditions, generation, now);
    conditions.set(ACCEPTED, accepted(rules));
    conditions.set(REFERENCED, referenced(&bindings));
    match rules {
        Ok(rules) => {
            let found = conflicts(name, rules, &followers, &neighbours.rules);
            conditions.set(EFFECTIVE, effective(&found, rules.len()));
        }
        // Nothing is known of rules that can't be read.
        Err(_) => conditions.keep(EFFECTIVE),
    }
    conditions.set(APPLIED, applied(rules.is_ok(), generation, &bindings));
    let (confirmed, all) = sum(&bindings);
    CachePolicyStatus {
        observed_generation: generation,
        cache_count: i32::try_from(bindings.len()).unwrap_or(i32::MAX),
        applied: (!bindings.is_empty()).then(|| format!("{confirmed}/{all}")),
        bindings: bindings.into_iter().take(MAXIMUM_BINDINGS).collect(),
        conditions: conditions.finish(),
    }
}

/// What the cache says of itself. Its count of replicas is about its whole policy, so it speaks of this one only if this generation is part of it.
fn binding(policy: &str, generation: Option<i64>, cache: &RegistryCache) -> PolicyBinding {
    let status = cache.status.as_ref().and_then(|one| one.policy.as_ref());
    let in_hash = status.and_then(|status| {
        let mut policies = status.policies.iter();
        policies.find(|one| one.name == policy)
    });
    let in_hash = in_hash.map(|one| one.generation);
    let current = in_hash.is_some() && in_hash == generation;
    PolicyBinding {
        cache: cache.name_any(),
        desired_hash: status.map(|status| status.desired_hash.clone()),
        generation: in_hash,
        applied_replicas: status
            .filter(|_| current)
            .map_or(0, |status| status.applied_replicas),
        replicas: cache.spec.replicas,
        behind: status.map_or_else(Vec::new, |status| status.behind.clone()),
    }
}

fn accepted(rules: &Result<Vec<Rule>, String>) -> State {
    match rules {
        Ok(rules) => State::new(
            true,
            Reason::Accepted,
            &format!("All {} rules can be used.", rules.len()),
        ),
        Err(reason) => State::new(
            false,
            Reason::PolicyInvalid,
            &format!("{reason}. Caches that follow this policy keep the last valid one."),
        ),
    }
}

fn referenced(bindings: &[PolicyBinding]) -> State {
    match bindings {
        [] => State::new(
            false,
            Reason::NotReferenced,
            "No RegistryCache of this namespace names this policy in policyRefs, so it has no effect.",
        ),
        [one] => State::new(
            true,
            Reason::Succeeded,
            &format!("RegistryCache {} follows this policy.", one.cache),
        ),
        all => State::new(
            true,
            Reason::Succeeded,
            &format!("{} RegistryCaches follow this policy.", all.len()),
        ),
    }
}

fn effective(conflicts: &[Conflict], rules: usize) -> State {
    let Some(first) = conflicts.first() else {
        return State::new(
            true,
            Reason::Succeeded,
            &format!("Nothing is known to keep any of the {rules} rules from matching."),
        );
    };
    let reason = match first {
        Conflict::Shadowed { .. } => Reason::RuleShadowed,
        Conflict::UnknownUpstream { .. } => Reason::UpstreamUnknown,
    };
    State::new(false, reason, &(sentence(conflicts) + "."))
}

fn applied(accepted: bool, generation: Option<i64>, bindings: &[PolicyBinding]) -> State {
    let generation = generation.unwrap_or_default();
    let (confirmed, all) = sum(bindings);
    if bindings.is_empty() {
        return State::new(
            false,
            Reason::NotReferenced,
            "There is no cache that could apply it.",
        );
    }
    let open: Vec<String> = bindings
        .iter()
        .filter(|one| one.applied_replicas < one.replicas)
        .map(|one| format!("{} {}/{}", one.cache, one.applied_replicas, one.replicas))
        .collect();
    if open.is_empty() {
        return State::new(
            true,
            Reason::Succeeded,
            &format!("All {all} replicas confirmed generation {generation}."),
        );
    }
    let text = format!(
        "{confirmed} of {all} replicas confirmed generation {generation}. Open: {}.",
        listed(&open)
    );
    if accepted {
        State::new(false, Reason::Propagating, &text)
    } else {
        State::new(
            false,
            Reason::PolicyInvalid,
            &(text + " It can't be applied until its rules are mended."),
        )
    }
}

fn sum(bindings: &[PolicyBinding]) -> (i64, i64) {
    let sum =
        |count: fn(&PolicyBinding) -> i32| bindings.iter().map(|one| i64::from(count(one))).sum();
    (
        sum(|one| one.applied_replicas.min(one.replicas)),
        sum(|one| one.replicas),
    )
}

fn sentence(conflicts: &[Conflict]) -> String {
    let texts: Vec<String> = conflicts.iter().map(ToString::to_string).collect();
    listed(&texts)
}

fn listed(texts: &[String]) -> String {
    let more = texts.len().saturating_sub(NAMED);
    let named = &texts[..texts.len() - more];
    if more == 0 {
        named.join("; ")
    } else {
        format!("{}; and {more} more", named.join("; "))
    }
}

#[cfg(test)]
mod tests;
