//! Whether one rule matches all that another one matches. Pure. "No" also means "not certain".

use std::collections::BTreeSet;

use crds::policy::Rule;
use crds::values::RegistryHost;

/// Bounds the work for one policy, whatever people write: comparisons of two globs.
const COMPARISONS: u32 = 100_000;
/// What compiling a glob counts for.
const COMPILATION: u32 = 64;

/// How many comparisons may still be made. Without any left, nothing is certain.
#[derive(Debug)]
pub(super) struct Budget(u32);

impl Budget {
    pub(super) fn new() -> Self {
        Self(COMPARISONS)
    }

    fn spend(&mut self, amount: u32) -> bool {
        match self.0.checked_sub(amount) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }
}

/// Whether `earlier` decides each request that `later` could decide, in a cache with these upstreams; none: they are not known.
pub(super) fn covers(
    earlier: &Rule,
    later: &Rule,
    hosts: &BTreeSet<RegistryHost>,
    budget: &mut Budget,
) -> bool {
    budget.spend(1)
        && upstreams(earlier, later, hosts)
        && tags(earlier, later, budget)
        && repositories(earlier, later, budget)
}

fn upstreams(earlier: &Rule, later: &Rule, hosts: &BTreeSet<RegistryHost>) -> bool {
    if earlier.upstreams.is_empty() {
        return true;
    }
    let has = |host: &RegistryHost| earlier.upstreams.contains(host);
    if later.upstreams.is_empty() {
        !hosts.is_empty() && hosts.iter().all(has)
    } else {
        later.upstreams.iter().all(has)
    }
}

fn repositories(earlier: &Rule, later: &Rule, budget: &mut Budget) -> bool {
    if earlier.repositories.is_empty() {
        return true;
    }
    if later.repositories.is_empty() {
        return earlier
            .repositories
            .iter()
            .any(|glob| glob.as_str() == "**");
    }
    later.repositories.iter().all(|later| {
        earlier.repositories.iter().any(|earlier| {
            let matches = |name: &str| earlier.matcher().is_match(name);
            glob_covers(earlier.as_str(), later.as_str(), matches, budget)
        })
    })
}

/// A rule with tags speaks of requests by tag, and of those by digest if it serves (`Decisions::decide`).
fn tags(earlier: &Rule, later: &Rule, budget: &mut Budget) -> bool {
    if earlier.tags.is_empty() {
        return true;
    }
    if later.tags.is_empty() || (later.action.serves() && !earlier.action.serves()) {
        return false;
    }
    later.tags.iter().all(|later| {
        earlier.tags.iter().any(|earlier| {
            let matches = |name: &str| earlier.matcher().is_match(name);
            glob_covers(earlier.as_str(), later.as_str(), matches, budget)
        })
    })
}

/// Whether all names that match `narrow` match `wide`. `matches` tells whether a name matches `wide`.
fn glob_covers(
    wide: &str,
    narrow: &str,
    matches: impl FnOnce(&str) -> bool,
    budget: &mut Budget,
) -> bool {
    if !budget.spend(1) {
        return false;
    }
    if wide == narrow || wide == "**" {
        return true;
    }
    if is_literal(narrow) {
        return !is_literal(wide) && budget.spend(COMPILATION) && matches(narrow);
    }
    // `ours/**` takes all below `ours/`; `v1.*` all that begins with `v1.` and stays in one component.
    if let Some(prefix) = wide.strip_suffix("**") {
        return prefix.ends_with('/') && is_literal(prefix) && narrow.starts_with(prefix);
    }
    wide.strip_suffix('*').is_some_and(|prefix| {
        is_literal(prefix) && narrow.strip_prefix(prefix).is_some_and(is_one_component)
    })
}

fn is_literal(glob: &str) -> bool {
    !glob.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// Whether what the glob matches has no slash, as far as that is plain.
fn is_one_component(glob: &str) -> bool {
    !glob.contains(['/', '[', ']', '{', '}', '\\']) && !glob.contains("**")
}

#[cfg(test)]
mod tests;
