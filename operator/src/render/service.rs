//! The two Services: one for clients, one that gives the pods their names and Prometheus its targets.

use crds::registry_cache::ServiceType;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names::{self, Component};
use crate::resolve::{ADMIN_PORT, DATA_PORT, ResolvedCache};

/// Name of the port for clients.
pub(super) const DATA: &str = "data";
/// Name of the port for health and metrics.
pub(super) const ADMIN: &str = "admin";

pub(super) fn clients(cache: &ResolvedCache) -> Service {
    let mut metadata = cache
        .owner
        .child(cache.owner.name.clone(), Component::CacheServer);
    if !cache.service.annotations.is_empty() {
        metadata.annotations = Some(cache.service.annotations.clone());
    }
    let service_type = match cache.service.service_type {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    };
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service_type.to_owned()),
            load_balancer_class: cache.service.load_balancer_class.clone(),
            selector: Some(names::pod_labels(&cache.owner.name)),
            ports: Some(vec![ServicePort {
                node_port: cache.service.node_port,
                ..port(DATA, cache.service.port)
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

pub(super) fn pods(cache: &ResolvedCache) -> Service {
    Service {
        metadata: cache.owner.child(
            names::pods_service(&cache.owner.name),
            Component::CacheServer,
        ),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            // A pod that is not ready is the one whose metrics matter most.
            publish_not_ready_addresses: Some(true),
            selector: Some(names::pod_labels(&cache.owner.name)),
            ports: Some(vec![
                port(DATA, DATA_PORT.into()),
                port(ADMIN, ADMIN_PORT.into()),
            ]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
