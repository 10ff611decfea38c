//! Which generations of which policies the hash in the status was made from. Pure.

use crds::registry_cache::{PolicyGeneration, RegistryCacheStatus};

use crate::observe::{FoundPolicy, Observed};
use crate::resolve::ResolvedCache;

/// Those that were observed; while the last good policy stays in force, those that it was made from.
pub(super) fn policies(
    observed: &Observed,
    cache: &ResolvedCache,
    previous: &RegistryCacheStatus,
) -> Vec<PolicyGeneration> {
    if !cache.policy.problems.is_empty() {
        let previous = previous.policy.as_ref();
        return previous.map_or_else(Vec::new, |policy| policy.policies.clone());
    }
    let generation = |(name, found): (&String, &FoundPolicy)| match found {
        FoundPolicy::Found(policy) => Some(PolicyGeneration {
            name: name.clone(),
            generation: policy.metadata.generation?,
        }),
        FoundPolicy::Missing | FoundPolicy::Malformed(_) => None,
    };
    observed.policies.iter().filter_map(generation).collect()
}
