//! What the status says about the way through Gateways. Pure.

use crds::conditions::Reason;
use serde_json::Value;

use super::{Failure, State, messages};
use crate::apply::Applied;
use crate::optional_apis::OptionalKind;
use crate::resolve::ResolvedCache;

/// `None`: no way through a Gateway is declared.
pub(super) fn state(cache: &ResolvedCache, applied: &Applied) -> Option<State> {
    let declared = cache.exposure.gateway.as_ref()?;
    if !cache.apis.has(OptionalKind::HttpRoute) {
        return Some(State::new(
            false,
            Reason::ApiMissing,
            messages::GATEWAY_API_MISSING,
        ));
    }
    let name = &cache.owner.name;
    if let Some(error) = applied
        .failures
        .iter()
        .find(|one| one.is_of(OptionalKind::HttpRoute.name(), name))
    {
        let failure = Failure::of_apply(error);
        return Some(State::new(false, failure.reason, &failure.message));
    }
    let said = applied.route.as_ref();
    let said = said.and_then(|route| route.data.pointer("/status/parents")?.as_array());
    let parents: Vec<&Value> = said.into_iter().flatten().collect();
    if let Some(refusal) = parents.iter().find_map(|parent| refusal(parent)) {
        return Some(State::new(false, Reason::NotAccepted, &refusal));
    }
    let wanted = declared.parent_refs.len();
    let accepted = parents.iter().filter(|parent| holds(parent, "Accepted"));
    let accepted = accepted.count().min(wanted);
    Some(if accepted == wanted {
        let message = format!("HTTPRoute {name} is accepted.");
        State::new(true, Reason::Succeeded, &message)
    } else {
        let message = format!(
            "{accepted} of {wanted} Gateways accept HTTPRoute {name} so far; the others say nothing of it. Look whether they exist, and whether their controller runs."
        );
        State::new(false, Reason::Progressing, &message)
    })
}

fn condition<'a>(parent: &'a Value, type_: &str) -> Option<&'a Value> {
    let all = parent["conditions"].as_array()?;
    all.iter().find(|one| one["type"] == type_)
}

fn holds(parent: &Value, type_: &str) -> bool {
    condition(parent, type_).is_some_and(|one| one["status"] == "True")
}

/// What a Gateway has against the route.
fn refusal(parent: &Value) -> Option<String> {
    let conditions = ["Accepted", "ResolvedRefs"].map(|type_| condition(parent, type_));
    let mut refused = conditions.into_iter().flatten();
    let refused = refused.rfind(|one| one["status"] == "False")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (reason, message) = (text(&refused["reason"]), text(&refused["message"]));
    Some(format!(
        "Gateway {} does not take the route ({reason}): {}.",
        text(&parent["parentRef"]["name"]),
        message.trim_end_matches('.')
    ))
}
