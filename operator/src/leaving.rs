//! Namespaces on their way out. Kubernetes takes what is in them in an order of its own and lets nobody make it anew, so whatever
//! fails there is no trouble of anybody's.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a refusal is remembered: another namespace may get the name.
pub const MEMORY: Duration = Duration::from_mins(1);

/// The cause by which the API server refuses to make anything in such a namespace.
const CAUSE: &str = "NamespaceTerminating";

/// When the API server said last that a namespace goes.
#[derive(Debug, Default)]
pub struct Leaving(Mutex<HashMap<String, Instant>>);

impl Leaving {
    /// Whether the namespace goes, by this failure in it or by one before.
    pub fn is_why(&self, namespace: &str, failure: &(dyn Error + 'static), now: Instant) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, said| now.duration_since(*said) < MEMORY);
        if says_so(failure) {
            all.insert(namespace.to_owned(), now);
        }
        all.contains_key(namespace)
    }
}

/// Whether the failure, or what led to it, is such a refusal.
fn says_so(failure: &(dyn Error + 'static)) -> bool {
    let mut link = Some(failure);
    while let Some(error) = link {
        let of_api = error.downcast_ref::<kube::Error>();
        let boxed = || error.downcast_ref::<Box<kube::Error>>().map(|one| &**one);
        if let Some(kube::Error::Api(status)) = of_api.or_else(boxed) {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            return causes.into_iter().any(|cause| cause.reason == CAUSE);
        }
        link = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to apply")]
    struct Outer {
        source: Box<kube::Error>,
    }

    fn failure(cause: &str) -> Outer {
        let status = json!({
            "kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
            "details": {"causes": [{"reason": cause, "message": "namespace team-a is being terminated"}]},
        });
        let status = serde_json::from_value(status).expect("it is a Status");
        Outer {
            source: Box::new(kube::Error::Api(status)),
        }
    }

    #[test]
    fn a_refusal_explains_what_fails_in_its_namespace_for_a_minute() {
        let (leaving, now) = (Leaving::default(), Instant::now());
        let other = failure("FieldManagerConflict");
        assert!(!leaving.is_why("team-a", &other, now));
        assert!(leaving.is_why("team-a", &failure(CAUSE), now));
        assert!(leaving.is_why("team-a", &other, now + MEMORY / 2));
        assert!(!leaving.is_why("team-b", &other, now));
        assert!(!leaving.is_why("team-a", &other, now + MEMORY));
    }
}
