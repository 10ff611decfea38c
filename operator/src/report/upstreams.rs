//! How much the cache is used, and how its upstreams are.

use crds::conditions::Reason;
use crds::registry_cache::{RegistryCacheStatus, UpstreamStatus, UsageStatus};

use super::conditions::State;
use super::messages::truncate;
use crate::figures::Usage;
use crate::observe::Observed;
use crate::quantity;

/// Bytes of an upstream's message: there may be 64 of them.
const MAXIMUM_MESSAGE: usize = 512;

pub(super) fn usage(usage: &Usage) -> UsageStatus {
    UsageStatus {
        hit_ratio: usage.hit_ratio().map(|percent| format!("{percent}%")),
        stored: format!(
            "{}/{}",
            quantity::rounded(usage.used),
            quantity::rounded(usage.maximum)
        ),
    }
}

/// Those that are declared, in the order of their names.
pub(super) fn statuses(observed: &Observed, previous: &RegistryCacheStatus) -> Vec<UpstreamStatus> {
    let mut all = match &observed.figures.upstreams {
        None => previous.upstreams.clone(),
        Some(told) => told
            .iter()
            .map(|(host, away)| UpstreamStatus {
                host: host.clone(),
                reachable: away.is_none(),
                message: away.as_deref().map(|why| truncate(why, MAXIMUM_MESSAGE)),
            })
            .collect(),
    };
    let declared = &observed.cache.spec.upstreams;
    all.retain(|one| declared.iter().any(|upstream| upstream.host == one.host));
    all
}

/// `None`: nothing is known yet.
pub(super) fn state(upstreams: &[UpstreamStatus]) -> Option<State> {
    if upstreams.is_empty() {
        return None;
    }
    let away = upstreams.iter().filter(|one| !one.reachable);
    let away: Vec<String> = away
        .map(|one| match &one.message {
            Some(why) => format!("{} ({why})", one.host),
            None => one.host.clone(),
        })
        .collect();
    if away.is_empty() {
        let message = "No upstream failed again and again when it was asked last.";
        return Some(State::new(true, Reason::Succeeded, message));
    }
    let message = format!(
        "Away: {}. What is stored is served; for the rest, nodes ask the upstream themselves where their mirror allows it.",
        away.join("; ")
    );
    Some(State::new(false, Reason::UpstreamAway, &message))
}
