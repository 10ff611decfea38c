//! What leads to the Service from outside.

use crds::registry_cache::{GatewayRef, IngressSpec as Wanted};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};

use serde_json::{Value, json};

use super::names::Component;
use super::service::DATA;
use crate::optional_apis::OptionalKind;
use crate::resolve::ResolvedCache;

/// The group of Gateways and routes.
const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// `None`: none is declared.
pub(super) fn ingress(cache: &ResolvedCache) -> Option<Ingress> {
    cache
        .exposure
        .ingress
        .as_ref()
        .map(|wanted| to_service(cache, wanted))
}

/// `None`: none is declared, or there is no such kind. What the API server would add is written out, or it would count as a difference.
pub(super) fn http_route(cache: &ResolvedCache) -> Option<Value> {
    let wanted = cache.exposure.gateway.as_ref()?;
    if !cache.apis.has(OptionalKind::HttpRoute) {
        return None;
    }
    let name = &cache.owner.name;
    let mut spec = json!({
        "parentRefs": wanted.parent_refs.iter().map(parent).collect::<Vec<_>>(),
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"group": "", "kind": "Service", "name": name, "port": cache.service.port, "weight": 1}],
        }],
    });
    if !wanted.hostnames.is_empty() {
        spec["hostnames"] = json!(wanted.hostnames);
    }
    let resource = OptionalKind::HttpRoute.resource();
    Some(json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": cache.owner.child(name.clone(), Component::CacheServer),
        "spec": spec,
    }))
}

fn parent(gateway: &GatewayRef) -> Value {
    let mut reference = json!({"group": GATEWAY_API, "kind": "Gateway", "name": gateway.name});
    if let Some(namespace) = &gateway.namespace {
        reference["namespace"] = json!(namespace);
    }
    if let Some(section) = &gateway.section_name {
        reference["sectionName"] = json!(section);
    }
    reference
}

fn to_service(cache: &ResolvedCache, wanted: &Wanted) -> Ingress {
    let name = &cache.owner.name;
    let mut metadata = cache.owner.child(name.clone(), Component::CacheServer);
    metadata.annotations = Some(wanted.annotations.clone()).filter(|map| !map.is_empty());
    Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            tls: wanted.tls_secret_name.as_ref().map(|secret| {
                vec![IngressTLS {
                    hosts: Some(vec![wanted.host.clone()]),
                    secret_name: Some(secret.clone()),
                }]
            }),
            rules: Some(vec![IngressRule {
                host: Some(wanted.host.clone()),
                http: Some(HTTPIngressRuleValue {
                    paths: vec![HTTPIngressPath {
                        path: Some("/".to_owned()),
                        path_type: "Prefix".to_owned(),
                        backend: IngressBackend {
                            service: Some(IngressServiceBackend {
                                name: name.clone(),
                                port: Some(ServiceBackendPort {
                                    name: Some(DATA.to_owned()),
                                    ..ServiceBackendPort::default()
                                }),
                            }),
                            ..IngressBackend::default()
                        },
                    }],
                }),
            }]),
            ..IngressSpec::default()
        }),
        ..Ingress::default()
    }
}
