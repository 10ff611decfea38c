//! Step 3: a checked cache becomes the objects that make it up. Pure.

mod alerts;
mod budget;
mod certificate;
mod config_map;
mod exposure;
mod mirror;
pub mod names;
mod network_policy;
mod pod;
mod secrets;
mod service;
mod service_account;
mod service_monitor;
mod stateful_set;
mod tokens;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ApiResource;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::optional_apis::OptionalKind;
use crate::resolve::ResolvedCache;
use names::MirrorTarget;

pub use alerts::{ALERTS, unknown as unknown_alerts};
pub use mirror::{MirrorObject, formats, secret_data, secret_texts};

/// Everything that a cache is made of, one field an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    pub config_map: ConfigMap,
    pub service: Service,
    pub pods_service: Service,
    pub stateful_set: StatefulSet,
    pub mirrors: Vec<MirrorObject>,
    /// Objects that are not rendered now, and must not be removed.
    pub kept: Vec<MirrorTarget>,
    /// `None`: switched off, or its API is missing.
    pub service_monitor: Option<Value>,
    pub prometheus_rule: Option<Value>,
    /// `None`: nobody has to issue one, or it can't be asked for yet.
    pub certificate: Option<Value>,
    /// `None`: clients need to be told of no authority.
    pub authorities: Option<ConfigMap>,
    /// `None`: the pods have one that exists.
    pub service_account: Option<ServiceAccount>,
    /// `None`: there is a single replica.
    pub budget: Option<PodDisruptionBudget>,
    /// `None`: none is declared.
    pub network_policy: Option<NetworkPolicy>,
    /// `None`: none is declared.
    pub ingress: Option<Ingress>,
    /// `None`: none is declared, or there is no such kind.
    pub http_route: Option<Value>,
}

/// An object in the form in which it is compared and applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    pub resource: ApiResource,
    pub name: String,
    pub body: Value,
    /// Whether the cache serves without it: a failure then does not stop the rest.
    pub optional: bool,
}

/// Why a rendered object can't be written. Not expected: what is rendered is plain data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to write the {kind} as JSON")]
    Json {
        kind: String,
        source: serde_json::Error,
    },
}

/// Renders.
pub fn render(cache: &ResolvedCache) -> Rendered {
    let monitoring = &cache.monitoring;
    Rendered {
        config_map: config_map::config_map(cache),
        service: service::clients(cache),
        pods_service: service::pods(cache),
        stateful_set: stateful_set::stateful_set(cache),
        mirrors: mirror::objects(cache),
        kept: cache
            .kept_mirrors
            .iter()
            .map(|one| one.target.clone())
            .collect(),
        service_monitor: (monitoring.service_monitor.enabled
            && cache.apis.has(OptionalKind::ServiceMonitor))
        .then(|| service_monitor::service_monitor(cache)),
        prometheus_rule: (monitoring.alerts.enabled
            && cache.apis.has(OptionalKind::PrometheusRule))
        .then(|| alerts::prometheus_rule(cache)),
        certificate: certificate::certificate(cache),
        authorities: certificate::authorities(cache),
        service_account: service_account::service_account(cache),
        budget: budget::budget(cache),
        network_policy: network_policy::network_policy(cache),
        ingress: exposure::ingress(cache),
        http_route: exposure::http_route(cache),
    }
}

impl Rendered {
    /// The `StatefulSet` alone.
    pub fn stateful_set(&self) -> Result<Manifest, Error> {
        typed(&self.stateful_set)
    }

    /// All objects, in the order in which they must appear: what pods mount before the pods.
    pub fn into_apply_order(self) -> Result<Vec<Manifest>, Error> {
        let Self {
            config_map,
            service,
            pods_service,
            stateful_set,
            mirrors,
            kept: _,
            service_monitor,
            prometheus_rule,
            certificate,
            authorities,
            service_account,
            budget,
            network_policy,
            ingress,
            http_route,
        } = self;
        let mut manifests = vec![typed(&config_map)?, typed(&service)?, typed(&pods_service)?];
        if let Some(service_account) = &service_account {
            manifests.push(typed(service_account)?);
        }
        manifests.extend(certificate.map(|body| untyped(OptionalKind::Certificate, body)));
        // Before the pods, so that none is ever reachable for longer than it should be.
        if let Some(policy) = &network_policy {
            manifests.push(typed(policy)?);
        }
        manifests.push(typed(&stateful_set)?);
        if let Some(budget) = &budget {
            manifests.push(typed(budget)?);
        }
        if let Some(ingress) = &ingress {
            manifests.push(typed(ingress)?);
        }
        manifests.extend(http_route.map(|body| untyped(OptionalKind::HttpRoute, body)));
        for mirror in &mirrors {
            manifests.push(match mirror {
                MirrorObject::ConfigMap(object) => typed(object)?,
                MirrorObject::Secret(object) => typed(object)?,
            });
        }
        // After the mirrors, because the time at which nodes may have them is counted from what this one says.
        if let Some(authorities) = &authorities {
            manifests.push(typed(authorities)?);
        }
        manifests.extend(service_monitor.map(|body| untyped(OptionalKind::ServiceMonitor, body)));
        manifests.extend(prometheus_rule.map(|body| untyped(OptionalKind::PrometheusRule, body)));
        Ok(manifests)
    }

    /// What a certificate needs to be issued. The rest waits for it, and what runs stays as it is.
    pub fn before_certificate(self) -> Result<Vec<Manifest>, Error> {
        let mut manifests = vec![typed(&self.service)?, typed(&self.pods_service)?];
        let certificate = self.certificate;
        manifests.extend(certificate.map(|body| untyped(OptionalKind::Certificate, body)));
        Ok(manifests)
    }
}

fn typed<K: Resource<DynamicType = ()> + Serialize>(object: &K) -> Result<Manifest, Error> {
    let resource = ApiResource::erase::<K>(&());
    let body = serde_json::to_value(object).map_err(|source| Error::Json {
        kind: resource.kind.clone(),
        source,
    })?;
    Ok(Manifest {
        name: object.name_any(),
        body: with_hash(body),
        resource,
        optional: false,
    })
}

fn untyped(kind: OptionalKind, body: Value) -> Manifest {
    let name = body
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Manifest {
        resource: kind.resource(),
        name,
        body: with_hash(body),
        optional: matches!(
            kind,
            OptionalKind::ServiceMonitor | OptionalKind::PrometheusRule
        ),
    }
}

/// Adds the annotation that tells a later run whether it would render the same.
fn with_hash(mut body: Value) -> Value {
    let mut hashed = body.clone();
    // An annotation must not help to guess what a Secret holds; its values are compared themselves.
    if hashed["kind"] == "Secret"
        && let Some(data) = hashed["data"].as_object_mut()
    {
        data.values_mut().for_each(|value| *value = Value::Null);
    }
    let digest = Sha256::digest(hashed.to_string());
    let hash = digest
        .iter()
        .take(16)
        .fold(String::new(), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
    body["metadata"]["annotations"][names::RENDERED_HASH] = Value::String(hash);
    body
}
