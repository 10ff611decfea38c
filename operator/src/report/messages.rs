//! Sentences of the status. Pure.

use std::error::Error;
use std::fmt::Write as _;

use crate::confirm::{Confirmation, PodPolicy, PodState};
use crate::resolve::{self, Problem};

/// Pods that are named in a message; more are counted.
const NAMED_PODS: usize = 5;

pub(super) fn ready(replicas: i32, hash: &str) -> String {
    match replicas {
        1 => format!("The replica is ready and follows policy {}.", short(hash)),
        _ => format!(
            "All {replicas} replicas are ready and follow policy {}.",
            short(hash)
        ),
    }
}

pub(super) const GATEWAY_API_MISSING: &str = "The cluster has no HTTPRoute (gateway.networking.k8s.io/v1). Install the Gateway API, or remove exposure.gateway; an installation is noticed within a minute.";

pub(super) const SUSPENDED: &str = "The operator changes nothing for this cache until spec.suspend is false. The cache itself runs on.";

/// Objects of a suspended cache that are not as declared.
pub(super) fn pending(objects: &[String]) -> String {
    let named = objects.iter().take(NAMED_PODS).cloned();
    let more = objects.len().saturating_sub(NAMED_PODS);
    let more = (more > 0).then(|| format!("{more} more"));
    format!(
        "Not as declared, while the cache is suspended: {}. Set spec.suspend to false to go on.",
        named.chain(more).collect::<Vec<_>>().join(", ")
    )
}

/// What restarts, and why.
pub fn restarts(changes: &[String], replicas: i32) -> String {
    let changes = changes.join(", ");
    match replicas {
        1 => format!("The pod restarts, because these change: {changes}."),
        _ => format!(
            "{replicas} pods restart, one after the other, because these change: {changes}."
        ),
    }
}

pub(super) fn applied(total: usize, hash: &str) -> String {
    format!(
        "{total} of {total} replicas confirmed policy {}.",
        short(hash)
    )
}

pub(super) fn propagating(confirmation: &Confirmation, hash: &str) -> String {
    format!(
        "{} of {} replicas confirmed policy {}. {}",
        confirmation.confirmed(),
        confirmation.pods.len(),
        short(hash),
        waiting_for(confirmation)
    )
}

pub(super) fn not_confirmed(confirmation: &Confirmation) -> String {
    format!(
        "{} of {} replicas confirmed the policy within {} s. {} Look at the logs of these pods.",
        confirmation.confirmed(),
        confirmation.pods.len(),
        crate::confirm::DEADLINE.as_secs(),
        waiting_for(confirmation)
    )
}

pub(super) fn last_good(
    problems: &[Problem],
    hash: &str,
    confirmed: usize,
    total: usize,
) -> String {
    let text = resolve::sentence(problems);
    format!(
        "{text}. Until then the last valid policy {} stays in force, in {confirmed} of {total} replicas.",
        short(hash)
    )
}

pub(super) fn api_missing(kinds: &[&str]) -> String {
    format!(
        "The cluster has no {} (monitoring.coreos.com/v1). Install the Prometheus operator, or switch monitoring off; an installation is noticed within a minute.",
        kinds.join(" and ")
    )
}

/// An error with its sources. What the API server answered is said in its own words.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let client_error = error.downcast_ref::<kube::Error>().or_else(|| {
        error
            .downcast_ref::<Box<kube::Error>>()
            .map(|boxed| &**boxed)
    });
    match client_error {
        Some(kube::Error::Api(status)) => return status.message.trim_end_matches('.').to_owned(),
        // The client's errors name their own sources.
        Some(other) => return other.to_string(),
        None => {}
    }
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// At most so many bytes, cut between characters.
pub fn truncate(text: &str, maximum: usize) -> String {
    if text.len() <= maximum {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(maximum.saturating_sub('…'.len_utf8()));
    format!("{}…", &text[..end])
}

fn waiting_for(confirmation: &Confirmation) -> String {
    let behind: Vec<&PodPolicy> = confirmation
        .pods
        .iter()
        .filter(|pod| pod.state != PodState::Confirmed)
        .collect();
    let mut text = behind
        .iter()
        .take(NAMED_PODS)
        .map(|pod| one(pod))
        .collect::<Vec<_>>()
        .join("; ");
    if behind.len() > NAMED_PODS {
        let _ = write!(text, "; and {} more", behind.len() - NAMED_PODS);
    }
    text + "."
}

fn one(pod: &PodPolicy) -> String {
    let name = &pod.name;
    match &pod.state {
        PodState::Confirmed => format!("{name} follows it"),
        PodState::Differs {
            last_error: None, ..
        } => format!("{name} follows another policy"),
        PodState::Differs {
            last_error: Some(error),
            ..
        } => format!(
            "{name} refused it: {}",
            truncate(error, 300).trim_end_matches('.')
        ),
        PodState::Silent { reason } => format!("{name} gives no answer: {}", truncate(reason, 300)),
        PodState::NotRunning => format!("{name} does not run"),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
