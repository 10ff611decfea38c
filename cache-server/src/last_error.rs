//! What went wrong last somewhere, for people. Leaf.

use std::fmt::Display;

use serde::Serialize;

use crate::clock::Moment;

/// An error, in the words of the log, and when it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// In the form of RFC 3339.
    pub at: String,
    pub error: String,
}

impl LastError {
    pub fn new(at: Moment, error: &dyn Display) -> Self {
        Self {
            at: at.to_rfc3339(),
            error: error.to_string(),
        }
    }
}

impl Display for LastError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at, self.error)
    }
}
