//! What leads to the Service from outside.

use crds::registry_cache::IngressSpec as Wanted;
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule,
    IngressServiceBackend, IngressSpec, IngressTLS, ServiceBackendPort,
};

use super::names::Component;
use super::service::DATA;
use crate::resolve::ResolvedCache;

/// `None`: none is declared.
pub(super) fn ingress(cache: &ResolvedCache) -> Option<Ingress> {
    cache
        .exposure
        .ingress
        .as_ref()
        .map(|wanted| to_service(cache, wanted))
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
