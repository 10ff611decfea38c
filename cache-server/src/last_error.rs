//! What went wrong last somewhere, for people. Leaf.

use std::fmt::Display;

use serde::{Serialize, Serializer};

use crate::clock::Moment;

/// An error, in the words of the log, and when it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastError {
    /// Shown in the form of RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    pub at: Moment,
    pub error: String,
}

impl LastError {
    pub fn new(at: Moment, error: &dyn Display) -> Self {
        Self {
            at,
            error: error.to_string(),
        }
    }
}

impl Display for LastError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.at.to_rfc3339(), self.error)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes what it writes by reference"
)]
fn rfc3339<S: Serializer>(at: &Moment, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&at.to_rfc3339())
}
