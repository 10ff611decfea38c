//! The `PodDisruptionBudget`: one cache server at a time may be moved.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use crate::resolve::ResolvedCache;

/// `None`: a single replica must never hold up the drain of its node.
pub(super) fn budget(cache: &ResolvedCache) -> Option<PodDisruptionBudget> {
    let name = &cache.owner.name;
    (cache.replicas > 1).then(|| PodDisruptionBudget {
        metadata: cache.owner.child(name.clone(), Component::CacheServer),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            // A pod that does not serve anyway must not keep its node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            selector: Some(LabelSelector {
                match_labels: Some(names::pod_labels(name)),
                ..LabelSelector::default()
            }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    })
}
