//! Step 3: a checked cache becomes the objects that make it up. Pure.

mod alerts;
mod config_map;
mod mirror;
pub mod names;
mod secrets;
mod service;
mod service_monitor;
mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::ApiResource;
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::monitoring_api;
use crate::resolve::ResolvedCache;
use names::MirrorTarget;

pub use alerts::ALERTS;
pub use mirror::{MirrorObject, formats};

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
        kept: cache.kept_mirrors.clone(),
        service_monitor: (monitoring.service_monitor.enabled
            && cache.monitoring_api.service_monitor)
            .then(|| service_monitor::service_monitor(cache)),
        prometheus_rule: (monitoring.alerts.enabled && cache.monitoring_api.prometheus_rule)
            .then(|| alerts::prometheus_rule(cache)),
    }
}

impl Rendered {
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
        } = self;
        let mut manifests = vec![
            typed(&config_map)?,
            typed(&service)?,
            typed(&pods_service)?,
            typed(&stateful_set)?,
        ];
        for mirror in &mirrors {
            manifests.push(match mirror {
                MirrorObject::ConfigMap(object) => typed(object)?,
                MirrorObject::Secret(object) => typed(object)?,
            });
        }
        manifests
            .extend(service_monitor.map(|body| untyped(monitoring_api::service_monitor(), body)));
        manifests
            .extend(prometheus_rule.map(|body| untyped(monitoring_api::prometheus_rule(), body)));
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

fn untyped(resource: ApiResource, body: Value) -> Manifest {
    let name = body
        .pointer("/metadata/name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    Manifest {
        resource,
        name,
        body: with_hash(body),
        optional: true,
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
