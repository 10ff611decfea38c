//! The `StatefulSet`: the cache servers and their volumes.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;

use super::names::{self, Component};
use super::pod;
use crate::resolve::ResolvedCache;

pub(super) fn stateful_set(cache: &ResolvedCache) -> StatefulSet {
    let name = &cache.owner.name;
    StatefulSet {
        metadata: cache.owner.child(name.clone(), Component::CacheServer),
        spec: Some(StatefulSetSpec {
            replicas: Some(cache.replicas),
            service_name: Some(names::pods_service(name)),
            // The replicas don't wait for each other: each is a cache by itself.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector {
                match_labels: Some(names::pod_labels(name)),
                ..LabelSelector::default()
            },
            persistent_volume_claim_retention_policy: Some(
                StatefulSetPersistentVolumeClaimRetentionPolicy {
                    // Whether claims go with the cache is not the StatefulSet's to decide: see `apply::claims`.
                    when_deleted: Some("Retain".to_owned()),
                    when_scaled: Some("Retain".to_owned()),
                },
            ),
            template: pod::template(cache),
            volume_claim_templates: Some(vec![claim(cache)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Nothing in it can be changed later, so it has only the labels that never change.
fn claim(cache: &ResolvedCache) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("store".to_owned()),
            labels: Some(names::pod_labels(&cache.owner.name)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: cache.volume.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(BTreeMap::from([(
                    "storage".to_owned(),
                    Quantity(cache.claim_size.clone()),
                )])),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
