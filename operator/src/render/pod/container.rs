//! The container with the cache server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, Probe, ResourceRequirements,
    SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::service::{ADMIN, DATA};
use super::super::{secrets, tokens};
use crate::resolve::{
    ADMIN_PORT, CONFIG_DIRECTORY, CONTAINER, DATA_PORT, ResolvedCache, STORE_DIRECTORY,
};

pub(super) fn container(cache: &ResolvedCache) -> Container {
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
        name: CONTAINER.to_owned(),
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
