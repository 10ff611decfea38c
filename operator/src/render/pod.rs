//! The pods of the `StatefulSet`. A change of anything here restarts them.

mod container;
mod patch;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    TopologySpreadConstraint, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use super::names::{self, Component};
use super::{secrets, service_account, tokens};
use crate::resolve::ResolvedCache;

const USER: i64 = 65_532;

pub(super) fn template(cache: &ResolvedCache) -> PodTemplateSpec {
    // Never the policy's hash: an edit of it must not roll the pods.
    let mut annotations =
        BTreeMap::from([(names::STATIC_HASH.to_owned(), cache.static_config.hash())]);
    if let Some(time) = &cache.pods.restarted_at {
        annotations.insert(names::RESTARTED_AT.to_owned(), time.clone());
    }
    let mut template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(cache)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(cache)),
    };
    patch::add(&mut template, &cache.pods);
    template
}

/// Azure's webhook looks at pods with its label only.
fn labels(cache: &ResolvedCache) -> BTreeMap<String, String> {
    let mut labels = names::labels(&cache.owner.name, Component::CacheServer);
    let accounts = cache.service_account.iter();
    let mut annotations = accounts.flat_map(|one| one.annotations.keys());
    if annotations.any(|key| key.starts_with("azure.workload.identity/")) {
        labels.insert("azure.workload.identity/use".to_owned(), "true".to_owned());
    }
    labels
}

fn pod(cache: &ResolvedCache) -> PodSpec {
    let drain = i64::try_from(cache.static_config.drain_timeout.as_secs()).unwrap_or(i64::MAX);
    PodSpec {
        service_account_name: service_account::name(cache),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            // A full store has many files: don't walk them at each start.
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        termination_grace_period_seconds: Some(drain.saturating_add(15)),
        node_selector: Some(cache.node_selector.clone()).filter(|map| !map.is_empty()),
        tolerations: Some(cache.tolerations.clone()).filter(|list| !list.is_empty()),
        affinity: cache.pods.affinity.clone(),
        topology_spread_constraints: Some(spread(cache)),
        priority_class_name: cache.pods.priority_class.clone(),
        image_pull_secrets: Some(cache.pods.pull_secrets.clone()).filter(|list| !list.is_empty()),
        containers: vec![container::container(cache)],
        volumes: Some(
            std::iter::once(Volume {
                name: "config".to_owned(),
                config_map: Some(ConfigMapVolumeSource {
                    name: names::config_map(&cache.owner.name),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            })
            .chain(secrets::volumes(cache))
            .chain(tokens::volumes(cache))
            .collect(),
        ),
        ..PodSpec::default()
    }
}

/// What is declared, about the cache's own pods unless it is said otherwise; or apart if possible, together if not.
fn spread(cache: &ResolvedCache) -> Vec<TopologySpreadConstraint> {
    let own_pods = || LabelSelector {
        match_labels: Some(names::pod_labels(&cache.owner.name)),
        ..LabelSelector::default()
    };
    match &cache.pods.spread {
        Some(declared) => declared
            .iter()
            .cloned()
            .map(|mut one| {
                one.label_selector.get_or_insert_with(own_pods);
                one
            })
            .collect(),
        None => ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            .map(|key| TopologySpreadConstraint {
                max_skew: 1,
                topology_key: key.to_owned(),
                when_unsatisfiable: "ScheduleAnyway".to_owned(),
                label_selector: Some(own_pods()),
                ..TopologySpreadConstraint::default()
            })
            .into(),
    }
}
