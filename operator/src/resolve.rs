//! Step 2: checks what was observed and merges it into the one input of the next step. Pure.
//!
//! A policy that can't be resolved never turns into "allow all": the last policy that could stays in force, and where
//! there is none, nothing is rendered.

mod capacity;
mod last_good;
pub(crate) mod object_storage;
mod policies;
mod problem;
mod secrets;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crds::policy::{self, Policy};
use crds::registry_cache::{
    ImageSpec, MonitoringSpec, RegistryCache, RegistryCacheSpec, SecretKeyRef, ServiceSpec,
    VolumeSpec,
};
use crds::static_config::{LogFormat, StaticConfig};
use crds::values::{Endpoint, RegistryHost};
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::ResourceExt as _;

use crate::monitoring_api::MonitoringApi;
use crate::observe::Observed;
use crate::render::names::Owner;
use object_storage::Bucket;
use upstreams::Upstreams;

pub use policies::{RuleProblem, freshness, rules};
pub use problem::{Problem, sentence};
pub use secrets::{MountedSecret, Purpose};
pub use upstreams::{CaSecret, SECRETS_DIRECTORY};

/// Where the server's volume is mounted.
pub const STORE_DIRECTORY: &str = "/var/lib/larder";
/// Port for clients, in the pod.
pub const DATA_PORT: u16 = 5000;
/// Port for health, metrics and `/configz`, in the pod.
pub const ADMIN_PORT: u16 = 5001;

/// What the operator was started with, as far as rendering depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub cache_server_image: String,
    pub cache_server_pull_policy: Option<String>,
}

/// Why nothing can be rendered: what people have to mend, all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to resolve the RegistryCache: {}", sentence(.problems))]
pub struct Error {
    pub problems: Vec<Problem>,
}

/// A cache with every value checked. Only [`resolve`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedCache {
    pub(crate) owner: Owner,
    pub(crate) replicas: i32,
    pub(crate) volume: VolumeSpec,
    pub(crate) service: ServiceSpec,
    pub(crate) image: ImageSpec,
    pub(crate) resources: Option<ResourceRequirements>,
    pub(crate) node_selector: BTreeMap<String, String>,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) static_config: StaticConfig,
    pub(crate) policy: ResolvedPolicy,
    pub(crate) ca_secrets: Vec<CaSecret>,
    pub(crate) secrets: Vec<MountedSecret>,
    /// Of the bucket's certificate.
    pub(crate) bucket_authorities: Option<SecretKeyRef>,
    /// Where clients in the cluster reach the cache, once the Service has an address.
    pub(crate) endpoint: Option<String>,
    pub(crate) mirrors: Vec<Mirror>,
    pub(crate) monitoring: MonitoringSpec,
    pub(crate) monitoring_api: MonitoringApi,
}

/// The policy that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPolicy {
    pub(crate) text: String,
    pub(crate) hash: String,
    /// Why it is not the declared one, but the last good one. Empty: it is the declared one.
    pub(crate) problems: Vec<Problem>,
}

/// A mirror configuration that can be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    /// Each upstream with the address that a client falls back to.
    pub(crate) upstreams: Vec<(RegistryHost, Endpoint)>,
}

/// Checks and merges.
pub fn resolve(observed: &Observed, settings: &Settings) -> Result<ResolvedCache, Error> {
    let spec = &observed.cache.spec;
    let owner = owner(&observed.cache);
    let upstreams =
        upstreams::upstreams(spec, &observed.secrets).map_err(|problems| Error { problems })?;
    let bucket = object_storage::bucket(spec, &owner).map_err(|problem| Error {
        problems: vec![problem],
    })?;
    let volume = volume(spec)?;
    let static_config = static_config(&bucket)?;
    let endpoint = observed
        .live
        .cluster_ip(&owner.name)
        .map(|ip| endpoint(ip, spec.service.port));
    let mirrors = mirrors(observed, &upstreams.checked, endpoint.as_deref())
        .map_err(|problems| Error { problems })?;
    let policy = match declared(observed, &owner, &upstreams, &bucket) {
        Ok(policy) => ResolvedPolicy {
            text: policy.to_yaml(),
            hash: policy.hash(),
            problems: Vec::new(),
        },
        Err(problems) => match last_good::policy(&observed.live, &owner) {
            Some((text, hash)) => ResolvedPolicy {
                text,
                hash,
                problems,
            },
            None => return Err(Error { problems }),
        },
    };
    Ok(ResolvedCache {
        replicas: spec.replicas,
        volume,
        service: spec.service.clone(),
        image: spec.image.clone().unwrap_or_else(|| ImageSpec {
            reference: settings.cache_server_image.clone(),
            pull_policy: settings.cache_server_pull_policy.clone(),
        }),
        resources: spec.resources.clone(),
        node_selector: spec.node_selector.clone(),
        tolerations: spec.tolerations.clone(),
        static_config,
        policy,
        secrets: secrets::volumes(upstreams.secrets.iter().chain(&bucket.secret)),
        bucket_authorities: bucket.authorities,
        ca_secrets: upstreams.ca_secrets,
        endpoint,
        mirrors,
        monitoring: spec.monitoring.clone(),
        monitoring_api: observed.monitoring,
        owner,
    })
}

/// Who the children of a cache belong to.
pub fn owner(cache: &RegistryCache) -> Owner {
    Owner {
        name: cache.name_any(),
        namespace: cache.namespace().unwrap_or_default(),
        uid: cache.uid().unwrap_or_default(),
    }
}

/// The policy that is declared, checked by the function that the server calls.
fn declared(
    observed: &Observed,
    owner: &Owner,
    resolved: &Upstreams,
    bucket: &Bucket,
) -> Result<Policy, Vec<Problem>> {
    let spec = &observed.cache.spec;
    let upstreams = &resolved.checked;
    let mut problems = upstreams::missing_secrets(observed, owner, &resolved.ca_secrets);
    problems.extend(secrets::missing(observed, owner, &resolved.secrets));
    problems.extend(object_storage::missing(observed, owner, bucket));
    let hosts: BTreeSet<&RegistryHost> = upstreams.iter().map(|upstream| &upstream.host).collect();
    let merged = policies::merge(observed, owner, &hosts).unwrap_or_else(|more| {
        problems.extend(more);
        Vec::new()
    });
    let freshness = freshness(&spec.freshness).unwrap_or_else(|(field, reason)| {
        problems.push(Problem::Spec {
            field: format!("freshness.{field}"),
            reason,
        });
        policy::Freshness::default()
    });
    let capacity = capacity::capacity(spec).unwrap_or_else(|more| {
        problems.extend(more);
        policy::Capacity::default()
    });
    let default_upstream = upstreams::default_upstream(spec, upstreams).unwrap_or_else(|problem| {
        problems.push(problem);
        None
    });
    if !problems.is_empty() {
        return Err(problems);
    }
    let policy = Policy {
        format: policy::FORMAT,
        upstreams: upstreams.clone(),
        default_upstream,
        access: policy::Access::default(),
        allow_anonymous_private: spec.allow_anonymous_private,
        rules: merged,
        default_action: spec.default_action,
        freshness,
        capacity,
    };
    // The server reads the text, so the text is what is checked.
    Policy::parse(&policy.to_yaml()).map_err(|error| {
        vec![Problem::Refused {
            reason: error.to_string(),
        }]
    })
}

/// The volume of each replica.
fn volume(spec: &RegistryCacheSpec) -> Result<VolumeSpec, Error> {
    let volume = spec.storage.local_volume();
    volume
        .map(|(volume, _)| volume.clone())
        .ok_or_else(|| Error {
            problems: vec![Problem::Spec {
                field: "storage".to_owned(),
                reason: "write exactly one of volume and objectStorage".to_owned(),
            }],
        })
}

fn static_config(bucket: &Bucket) -> Result<StaticConfig, Error> {
    let mut config = StaticConfig {
        store: PathBuf::from(STORE_DIRECTORY),
        log_format: LogFormat::Json,
        object_storage: bucket.config.clone(),
        ..StaticConfig::default()
    };
    config.data_listen.set_port(DATA_PORT);
    config.admin_listen.set_port(ADMIN_PORT);
    // Nothing else in it comes from a person.
    config.check().map_err(|error| Error {
        problems: vec![Problem::Spec {
            field: "storage.objectStorage".to_owned(),
            reason: error.to_string(),
        }],
    })?;
    Ok(config)
}

fn endpoint(ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("http://[{ip}]:{port}")
    } else {
        format!("http://{ip}:{port}")
    }
}

/// The mirrors whose endpoint is known.
fn mirrors(
    observed: &Observed,
    upstreams: &[policy::Upstream],
    cluster_endpoint: Option<&str>,
) -> Result<Vec<Mirror>, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut mirrors = Vec::new();
    for (number, mirror) in observed.cache.spec.mirrors.iter().enumerate() {
        let selected: BTreeSet<String> = mirror
            .upstreams
            .iter()
            .map(|host| {
                host.parse::<RegistryHost>()
                    .map_or_else(|_| host.clone(), String::from)
            })
            .collect();
        for host in &selected {
            if !upstreams.iter().any(|one| one.host.as_str() == host) {
                problems.push(Problem::Spec {
                    field: format!("mirrors[{number}].upstreams"),
                    reason: format!("{host} is not the host of one of the upstreams"),
                });
            }
        }
        let endpoint = match &mirror.endpoint {
            Some(text) => match text.parse::<Endpoint>() {
                Ok(endpoint) => Some(endpoint.to_string()),
                Err(error) => {
                    problems.push(Problem::Spec {
                        field: format!("mirrors[{number}].endpoint"),
                        reason: error.to_string(),
                    });
                    None
                }
            },
            None => cluster_endpoint.map(str::to_owned),
        };
        if let Some(endpoint) = endpoint {
            mirrors.push(Mirror {
                name: mirror.name.clone(),
                endpoint,
                upstreams: upstreams
                    .iter()
                    .filter(|one| selected.is_empty() || selected.contains(one.host.as_str()))
                    .filter_map(|one| {
                        let first = one.effective_endpoints().into_iter().next()?;
                        Some((one.host.clone(), first))
                    })
                    .collect(),
            });
        }
    }
    if problems.is_empty() {
        Ok(mirrors)
    } else {
        Err(problems)
    }
}
