//! What stands in the Lease. Pure.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;

/// Who holds it. Kubernetes' own controllers leave an empty name when they give a Lease back.
pub(super) fn holder(spec: &LeaseSpec) -> Option<&String> {
    spec.holder_identity
        .as_ref()
        .filter(|holder| !holder.is_empty())
}

/// How long the holder may go without a renewal, by its own word.
pub(super) fn duration(spec: &LeaseSpec, default: Duration) -> Duration {
    spec.lease_duration_seconds
        .and_then(|seconds| u64::try_from(seconds).ok())
        .map_or(default, Duration::from_secs)
}

/// Renews the record if it is `identity`'s, and takes it otherwise. Times are for people: nobody compares them with a clock.
pub(super) fn claim(spec: &mut LeaseSpec, identity: &str, duration: Duration, now: Timestamp) {
    if holder(spec).is_none_or(|holder| holder != identity) {
        spec.lease_transitions = Some(match spec.lease_transitions {
            Some(transitions) => transitions.saturating_add(1),
            None => 0,
        });
        spec.acquire_time = Some(MicroTime(now));
        spec.holder_identity = Some(identity.to_owned());
    }
    spec.renew_time = Some(MicroTime(now));
    spec.lease_duration_seconds = i32::try_from(duration.as_secs()).ok();
}

/// Gives the record back. The number of transitions stays.
pub(super) fn release(spec: &mut LeaseSpec) {
    *spec = LeaseSpec {
        holder_identity: Some(String::new()),
        lease_transitions: spec.lease_transitions,
        ..LeaseSpec::default()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIFTEEN: Duration = Duration::from_secs(15);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn renewal_keeps_the_time_of_the_taking() {
        let mut spec = LeaseSpec::default();
        claim(&mut spec, "a", FIFTEEN, at(1));
        claim(&mut spec, "a", FIFTEEN, at(5));
        assert_eq!(spec.acquire_time, Some(MicroTime(at(1))));
        assert_eq!(spec.renew_time, Some(MicroTime(at(5))));
        assert_eq!(spec.lease_transitions, Some(0));
    }

    #[test]
    fn transitions_are_counted_over_a_release() {
        let mut spec = LeaseSpec::default();
        claim(&mut spec, "a", FIFTEEN, at(1));
        release(&mut spec);
        assert_eq!(holder(&spec), None);
        claim(&mut spec, "b", FIFTEEN, at(2));
        assert_eq!(holder(&spec).unwrap(), "b");
        assert_eq!(spec.lease_transitions, Some(1));
    }

    #[test]
    fn holders_own_word_counts() {
        let mut spec = LeaseSpec::default();
        assert_eq!(duration(&spec, FIFTEEN), FIFTEEN);
        spec.lease_duration_seconds = Some(1);
        assert_eq!(duration(&spec, FIFTEEN), Duration::from_secs(1));
        spec.lease_duration_seconds = Some(-1);
        assert_eq!(duration(&spec, FIFTEEN), FIFTEEN);
    }
}
