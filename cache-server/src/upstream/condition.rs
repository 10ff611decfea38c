//! How an upstream's endpoints are, for people.

use serde::Serialize;

use super::client::Upstream;
use super::health::Standing;
use crate::last_error::LastError;

/// Bytes of a reason that is passed on: enough for what went wrong at one endpoint.
const LONGEST: usize = 400;

/// How one endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCondition {
    pub endpoint: String,
    /// `good`, `doubtful` (asked after the others) or `closed`.
    pub standing: &'static str,
    /// Whether it asked for the pause itself.
    pub paused: bool,
    /// Until it is asked again, if it is closed.
    pub seconds: u64,
    /// Other than that something is not there; it may be over.
    pub last_error: Option<LastError>,
}

impl EndpointCondition {
    /// Whether it is asked in its turn.
    pub fn is_good(&self) -> bool {
        self.standing == "good"
    }

    /// In words.
    pub fn text(&self) -> String {
        match (self.standing, self.paused) {
            ("good", _) => "good".to_owned(),
            ("doubtful", _) => "failed lately".to_owned(),
            (_, true) => format!("asked for a pause, of which {} s are left", self.seconds),
            (_, false) => format!("failed again and again, left alone for {} s", self.seconds),
        }
    }
}

impl Upstream {
    /// Why nothing can be had of it, if each of its endpoints failed again and again the last times, or asked for a pause. One that nobody asked is
    /// not away.
    pub fn away(&self) -> Option<String> {
        let now = self.clock.now();
        let mut reasons = Vec::new();
        for endpoint in &self.endpoints {
            let health = endpoint.health();
            if !health.is_open() && !health.is_paused(now) {
                return None;
            }
            let last = health.last_error.as_ref();
            let error = last.map_or("it failed", |last| last.error.as_str());
            reasons.push(format!("{}: {error}", endpoint.name));
        }
        let mut text = reasons.join("; ");
        text.truncate(text.floor_char_boundary(LONGEST));
        Some(text)
    }

    /// Of each endpoint, in their order.
    pub fn conditions(&self) -> Vec<EndpointCondition> {
        let now = self.clock.now();
        let endpoints = self.endpoints.iter();
        endpoints
            .map(|endpoint| {
                let health = endpoint.health();
                let (standing, left) = match health.standing(now) {
                    Standing::Good => ("good", None),
                    Standing::Doubtful => ("doubtful", None),
                    Standing::Closed(left) => ("closed", Some(left)),
                };
                EndpointCondition {
                    endpoint: endpoint.name.clone(),
                    standing,
                    paused: health.is_paused(now),
                    seconds: left.map_or(0, |left| left.as_secs() + 1),
                    last_error: health.last_error.clone(),
                }
            })
            .collect()
    }
}
