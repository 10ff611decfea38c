//! Adds to the pods what the cache says beside its own fields; `resolve` has checked it.

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};

use crate::resolve::{CONTAINER, Pods};

/// Adds.
pub(super) fn add(template: &mut PodTemplateSpec, pods: &Pods) {
    let metadata = template.metadata.get_or_insert_default();
    let labels = metadata.labels.get_or_insert_default();
    labels.extend(pods.labels.clone());
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(pods.annotations.clone());
    let spec = template.spec.get_or_insert_default();
    let PodSpec {
        init_containers,
        containers,
        volumes,
        host_aliases,
        dns_policy,
        dns_config,
        runtime_class_name,
        scheduler_name,
        termination_grace_period_seconds,
        // Refused by `resolve`.
        ..
    } = pods.additions.clone();
    spec.init_containers = init_containers;
    spec.host_aliases = host_aliases;
    spec.dns_policy = dns_policy;
    spec.dns_config = dns_config;
    spec.runtime_class_name = runtime_class_name;
    spec.scheduler_name = scheduler_name;
    spec.termination_grace_period_seconds =
        termination_grace_period_seconds.or(spec.termination_grace_period_seconds);
    append(&mut spec.volumes, volumes);
    for container in containers {
        if container.name == CONTAINER {
            for server in &mut spec.containers {
                if server.name == CONTAINER {
                    extend(server, container.clone());
                }
            }
        } else {
            spec.containers.push(container);
        }
    }
}

fn extend(server: &mut Container, additions: Container) {
    append(&mut server.env, additions.env);
    append(&mut server.env_from, additions.env_from);
    append(&mut server.volume_mounts, additions.volume_mounts);
    server.lifecycle = additions.lifecycle;
}

fn append<T>(list: &mut Option<Vec<T>>, more: Option<Vec<T>>) {
    if let Some(more) = more.filter(|more| !more.is_empty()) {
        list.get_or_insert_default().extend(more);
    }
}
