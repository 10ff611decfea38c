//! Rules that can't match anything in the caches that follow a policy. Pure.
//!
//! Only what is certain is told: a rule that no single earlier rule covers may still be covered by several together. The work is bounded, and what is
//! not looked at counts as fine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crds::policy::Rule;
use crds::registry_cache::RegistryCache;
use crds::values::RegistryHost;

use super::coverage::{Budget, covers};
use crate::resolve::narrow;

/// Why a rule has no effect, or less than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// Wherever it could match, an earlier rule matches before it.
    Shadowed {
        rule: String,
        /// The earlier rule, in the first cache by name.
        by: String,
    },
    /// It names an upstream that none of the caches has.
    UnknownUpstream { rule: String, host: RegistryHost },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadowed { rule, by } => write!(
                f,
                "rule {rule} never decides, because rule {by} before it matches all that it matches: move it up, or remove it"
            ),
            Self::UnknownUpstream { rule, host } => write!(
                f,
                "rule {rule} names {host}, which is an upstream of none of the caches that follow this policy"
            ),
        }
    }
}

/// A cache, as far as conflicts depend on it. Caches that are alike are looked at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Its upstreams. Empty: not known, as for a policy that no cache follows.
    hosts: BTreeSet<RegistryHost>,
    /// The policies before this one.
    earlier: Vec<String>,
}

/// All conflicts of a policy's rules, in the order of the rules. `others` has the rules of the other policies that can be used.
pub fn conflicts(
    policy: &str,
    rules: &[Rule],
    followers: &[&RegistryCache],
    others: &BTreeMap<String, Vec<Rule>>,
) -> Vec<Conflict> {
    let mut budget = Budget::new();
    let mut places: Vec<Place> = Vec::new();
    for cache in followers {
        let place = place(policy, cache);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() {
        places.push(Place {
            hosts: BTreeSet::new(),
            earlier: Vec::new(),
        });
    }
    let before: Vec<Vec<Rule>> = places.iter().map(|place| earlier(place, others)).collect();
    let mut found = Vec::new();
    for (position, rule) in rules.iter().enumerate() {
        let everywhere: Vec<(&Place, &[Rule])> = places
            .iter()
            .zip(before.iter().map(Vec::as_slice))
            .collect();
        if let Some(by) = shadow(rule, &rules[..position], &everywhere, &mut budget) {
            found.push(Conflict::Shadowed {
                rule: rule.name.clone(),
                by,
            });
        }
        let unknown = rule.upstreams.iter().filter(|host| {
            !followers.is_empty() && !places.iter().any(|place| place.hosts.contains(host))
        });
        found.extend(unknown.map(|host| Conflict::UnknownUpstream {
            rule: rule.name.clone(),
            host: host.clone(),
        }));
    }
    found
}

fn place(policy: &str, cache: &RegistryCache) -> Place {
    let references = cache.spec.policy_refs.iter().map(|one| &one.name);
    Place {
        hosts: cache
            .spec
            .upstreams
            .iter()
            .filter_map(|upstream| upstream.host.parse().ok())
            .collect(),
        earlier: references
            .take_while(|name| *name != policy)
            .cloned()
            .collect(),
    }
}

/// Rules that are tried before the policy's own. A policy that can't be used has none, as long as it can't.
fn earlier(place: &Place, others: &BTreeMap<String, Vec<Rule>>) -> Vec<Rule> {
    let rules = place.earlier.iter().filter_map(|name| others.get(name));
    rules
        .flatten()
        .filter_map(|rule| seen_at(place, rule))
        .collect()
}

/// The rule as it stands in the cache, if it can match anything there.
fn seen_at(place: &Place, rule: &Rule) -> Option<Rule> {
    if place.hosts.is_empty() {
        return Some(rule.clone());
    }
    narrow(rule.clone(), &place.hosts.iter().collect())
}

/// The rule that hides this one in the first place, if it is hidden in each place where it could match.
fn shadow(
    rule: &Rule,
    own: &[Rule],
    places: &[(&Place, &[Rule])],
    budget: &mut Budget,
) -> Option<String> {
    let mut first = None;
    for (place, before) in places {
        let Some(here) = seen_at(place, rule) else {
            continue;
        };
        let own = own.iter().filter_map(|rule| seen_at(place, rule));
        let hides = before
            .iter()
            .cloned()
            .chain(own)
            .find(|earlier| covers(earlier, &here, &place.hosts, budget))?;
        first.get_or_insert(hides.name);
    }
    first
}
