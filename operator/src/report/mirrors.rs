//! What is said of mirror configurations, and of policies that they don't go with. Pure.

use crds::conditions::{NOT_ENFORCEABLE, NOT_PULLABLE, Reason};
use crds::registry_cache::RenderedMirror;

use super::{Failure, State};
use crate::apply::Applied;
use crate::render::formats;
use crate::resolve::{self, Conflict, Enforcement, ResolvedCache};

/// Decisions that are named in a message; more are counted.
const NAMED: usize = 5;

/// The mirrors whose objects are in place.
pub(super) fn rendered(cache: &ResolvedCache, applied: &Applied) -> Vec<RenderedMirror> {
    let in_place = cache
        .mirrors
        .iter()
        .filter(|mirror| applied.mirrors.contains(&mirror.target));
    in_place
        .map(|mirror| RenderedMirror {
            name: mirror.name.clone(),
            kind: mirror.target.kind,
            object: mirror.target.name.clone(),
            formats: formats(&cache.owner, mirror),
        })
        .collect()
}

/// Whether every mirror is rendered as declared.
pub(super) fn state(cache: &ResolvedCache, applied: &Applied) -> State {
    if let Some(problem) = cache.mirror_problems.first() {
        let message = format!(
            "{}. Until then what was rendered before stays.",
            resolve::sentence(&cache.mirror_problems)
        );
        return State::new(false, problem.reason(), &message);
    }
    let missing = cache
        .mirrors
        .iter()
        .find(|mirror| !applied.mirrors.contains(&mirror.target));
    if let Some(mirror) = missing {
        let target = &mirror.target;
        let failure = applied
            .failures
            .iter()
            .find(|error| error.is_of(target.kind.as_str(), &target.name));
        let failure = failure.map(Failure::of_apply);
        return failure.map_or_else(
            || {
                let message = format!("Mirror {} is not written yet.", mirror.name);
                State::new(false, Reason::Progressing, &message)
            },
            |failure| State::new(false, failure.reason, &failure.message),
        );
    }
    if cache.kept_mirrors.is_empty() {
        let message = match cache.mirrors.len() {
            0 => "No mirrors are declared.".to_owned(),
            1 => "The mirror is rendered.".to_owned(),
            number => format!("All {number} mirrors are rendered."),
        };
        State::new(true, Reason::Succeeded, &message)
    } else {
        State::new(
            false,
            Reason::Progressing,
            "The Service has no address yet that mirrors could name.",
        )
    }
}

/// The conditions that are there only while there are conflicts: type, and what it says.
pub fn conflicts(enforcement: &Enforcement) -> Vec<(&'static str, State)> {
    let all = [
        (
            NOT_ENFORCEABLE,
            &enforcement.not_enforceable,
            Reason::FallbackAllowed,
            "What is denied there is pulled from the upstream: write fallback: Forbid in these mirrors, or Refuse instead of Deny.",
        ),
        (
            NOT_PULLABLE,
            &enforcement.not_pullable,
            Reason::FallbackForbidden,
            "What is refused there can't be pulled at all: write fallback: Allow in these mirrors, or Deny instead of Refuse.",
        ),
    ];
    all.into_iter()
        .filter(|(_, conflicts, ..)| !conflicts.is_empty())
        .map(|(type_, conflicts, reason, sentence)| {
            let message = format!("{}. {sentence}", listed(conflicts));
            (type_, State::new(true, reason, &message))
        })
        .collect()
}

/// `rule ours/latest (mirrors nodes, edge); defaultAction (mirror edge)`
fn listed(conflicts: &[Conflict]) -> String {
    let one = |conflict: &Conflict| {
        let plural = if conflict.mirrors.len() == 1 { "" } else { "s" };
        let mirrors = conflict.mirrors.join(", ");
        format!("{} (mirror{plural} {mirrors})", conflict.decision)
    };
    let mut texts: Vec<String> = conflicts.iter().take(NAMED).map(one).collect();
    if conflicts.len() > NAMED {
        texts.push(format!("and {} more", conflicts.len() - NAMED));
    }
    texts.join("; ")
}
