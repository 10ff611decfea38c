//! The wall clock, passed in so that tests set it. Leaf.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the time. Copies of one clock agree.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    #[default]
    System,
    /// Milliseconds since 1970, set by whoever holds the other copy.
    Manual(Arc<AtomicI64>),
}

/// Milliseconds since 1970.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Moment(pub i64);

impl Clock {
    pub fn now(&self) -> Moment {
        match self {
            Self::System => Moment(jiff::Timestamp::now().as_millisecond()),
            Self::Manual(milliseconds) => Moment(milliseconds.load(Ordering::SeqCst)),
        }
    }
}

impl Moment {
    /// Time from `earlier` to this moment; `None` if the clock went backwards.
    pub fn since(self, earlier: Self) -> Option<std::time::Duration> {
        u64::try_from(self.0 - earlier.0)
            .ok()
            .map(std::time::Duration::from_millis)
    }

    /// The form of RFC 3339.
    pub fn to_rfc3339(self) -> String {
        jiff::Timestamp::from_millisecond(self.0)
            .map_or_else(|_| String::new(), |time| time.to_string())
    }
}
