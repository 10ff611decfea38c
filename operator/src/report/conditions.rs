//! A list of conditions whose times change only when the conditions do. Pure.

use crds::conditions::{
    EXPOSURE_READY, MIRRORS_READY, MONITORING_READY, NODES_WIRED, NOT_ENFORCEABLE, NOT_PULLABLE,
    POLICY_APPLIED, READY, RECONCILING, RISKY, Reason, STALLED, STORAGE_READY, SUSPENDED,
    UPSTREAMS_REACHABLE,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::messages::truncate;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Order in the status.
const ORDER: [&str; 14] = [
    READY,
    RECONCILING,
    STALLED,
    SUSPENDED,
    POLICY_APPLIED,
    UPSTREAMS_REACHABLE,
    MONITORING_READY,
    STORAGE_READY,
    EXPOSURE_READY,
    MIRRORS_READY,
    NODES_WIRED,
    NOT_ENFORCEABLE,
    NOT_PULLABLE,
    RISKY,
];
const MAXIMUM_MESSAGE: usize = 2_048;

/// What a condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub holds: bool,
    pub reason: Reason,
    pub message: String,
}

impl State {
    /// A state.
    pub fn new(holds: bool, reason: Reason, message: &str) -> Self {
        Self {
            holds,
            reason,
            message: truncate(message, MAXIMUM_MESSAGE),
        }
    }
}

/// Conditions under construction.
#[derive(Debug)]
pub struct Conditions<'a> {
    previous: &'a [Condition],
    generation: Option<i64>,
    now: &'a Time,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// An empty list that remembers the previous one.
    pub fn new(previous: &'a [Condition], generation: Option<i64>, now: &'a Time) -> Self {
        Self {
            previous,
            generation,
            now,
            list: Vec::new(),
        }
    }

    /// Adds a condition. It keeps its time of transition if its status is what it was.
    pub fn set(&mut self, type_: &str, state: State) {
        let status = if state.holds { "True" } else { "False" };
        let since = self
            .previous
            .iter()
            .find(|condition| condition.type_ == type_ && condition.status == status)
            .map_or(self.now, |condition| &condition.last_transition_time);
        self.list.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: state.reason.as_str().to_owned(),
            message: state.message,
            observed_generation: self.generation,
            last_transition_time: since.clone(),
        });
    }

    /// Adds what the condition was, if there was one.
    pub fn keep(&mut self, type_: &str) {
        let condition = self.previous.iter().find(|one| one.type_ == type_);
        self.list.extend(condition.cloned());
    }

    /// The list.
    pub fn finish(mut self) -> Vec<Condition> {
        let rank = |type_: &str| ORDER.iter().position(|name| *name == type_);
        self.list.sort_by_key(|condition| rank(&condition.type_));
        self.list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_most_stands_first() {
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut conditions = Conditions::new(&[], None, &now);
        for type_ in [RISKY, UPSTREAMS_REACHABLE, POLICY_APPLIED, READY] {
            conditions.set(type_, State::new(true, Reason::Progressing, ""));
        }
        let types = conditions.finish().into_iter().map(|one| one.type_);
        assert_eq!(
            types.collect::<Vec<_>>(),
            [READY, POLICY_APPLIED, UPSTREAMS_REACHABLE, RISKY]
        );
    }
}
