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
use super::secrets;
use super::service::{ADMIN, DATA};
use super::{service_account, tokens};
use crate::resolve::{ADMIN_PORT, CONFIG_DIRECTORY, DATA_PORT, ResolvedCache, STORE_DIRECTORY};

const USER: i64 = 65_532;
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
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels(cache)),
                    // Never the policy's hash: an edit of it must not roll the pods.
                    annotations: Some(BTreeMap::from([(
                        names::STATIC_HASH.to_owned(),
                        cache.static_config.hash(),
                    )])),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(cache)),
            },
            template: pod::template(cache),
            volume_claim_templates: Some(vec![claim(cache)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

/// Azure's webhook looks at pods with its label only.
fn pod_labels(cache: &ResolvedCache) -> BTreeMap<String, String> {
    let mut labels = names::labels(&cache.owner.name, Component::CacheServer);
    let annotations = cache
        .service_account
        .iter()
        .flat_map(|one| one.annotations.keys());
    if annotations
        .into_iter()
        .any(|key| key.starts_with("azure.workload.identity/"))
    {
        labels.insert("azure.workload.identity/use".to_owned(), "true".to_owned());
    }
    labels
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
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                .map(|key| spread(cache, key))
                .into(),
        ),
        containers: vec![container(cache)],
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

/// Apart if possible, together if not.
fn spread(cache: &ResolvedCache, key: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(names::pod_labels(&cache.owner.name)),
            ..LabelSelector::default()
        }),
        ..TopologySpreadConstraint::default()
    }
}

fn container(cache: &ResolvedCache) -> Container {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port.into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mount = |name: String, path: String, read_only: bool| VolumeMount {
        name,
        mount_path: path,
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let mut mounts = vec![
        // The directory, never a single file of it: only a directory is updated in a running pod.
        mount("config".to_owned(), CONFIG_DIRECTORY.to_owned(), true),
        mount("store".to_owned(), STORE_DIRECTORY.to_owned(), false),
    ];
    mounts.extend(
        secrets::directories(cache)
            .into_iter()
            .chain(tokens::directories(cache))
            .map(|(name, path)| mount(name, path, true)),
    );
    Container {
        name: "cache-server".to_owned(),
        image: Some(cache.image.reference.clone()),
        image_pull_policy: cache.image.pull_policy.clone(),
        args: Some(
            ["run", "--config", CONFIG_DIRECTORY]
                .map(str::to_owned)
                .into(),
        ),
        ports: Some(vec![port(DATA, DATA_PORT), port(ADMIN, ADMIN_PORT)]),
        resources: Some(cache.resources.clone().unwrap_or_else(default_resources)),
        volume_mounts: Some(mounts),
        startup_probe: Some(probe("/healthz", 1, 120)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        liveness_probe: Some(probe("/healthz", 10, 6)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn default_resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(BTreeMap::from([
            ("cpu".to_owned(), Quantity("50m".to_owned())),
            ("memory".to_owned(), Quantity("64Mi".to_owned())),
        ])),
        ..ResourceRequirements::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(ADMIN.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        timeout_seconds: Some(2),
        ..Probe::default()
    }
}
