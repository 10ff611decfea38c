//! Since when the pods of a cache have disagreed with its policy. Lives as long as the process: a new one starts to count again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// After that long, a pod that disagrees is reported.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// The policies on their way, by UID of the cache.
#[derive(Debug, Default)]
pub struct Propagations(Mutex<HashMap<String, Propagation>>);

#[derive(Debug, Clone)]
struct Propagation {
    hash: String,
    since: Instant,
    /// Whether it began with a change, and not with a pod or an operator that starts.
    changed: bool,
}

impl Propagations {
    /// Notes that a cache wants a policy, and returns for how long its pods have disagreed.
    pub fn wants(&self, uid: &str, hash: &str, changed: bool) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Propagation {
            hash: hash.to_owned(),
            since: Instant::now(),
            changed,
        };
        let propagation = all.entry(uid.to_owned()).or_insert_with(new);
        if propagation.hash != hash {
            *propagation = new();
        }
        propagation.since.elapsed()
    }

    /// Notes that no pod disagrees, and returns how long a changed policy was on its way.
    pub fn agreed(&self, uid: &str) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid)
            .filter(|propagation| propagation.changed)
            .map(|propagation| propagation.since.elapsed())
    }

    /// For how long the pods of a cache have disagreed.
    pub fn elapsed(&self, uid: &str) -> Duration {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(uid)
            .map_or(Duration::ZERO, |propagation| propagation.since.elapsed())
    }
}
