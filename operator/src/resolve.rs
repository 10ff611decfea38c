//! Step 2: checks what was observed and merges it into the one input of the next step. Pure.
//!
//! A policy that can't be resolved never turns into "allow all": the last policy that could stays in force, and where
//! there is none, nothing is rendered.

mod capacity;
mod enforcement;
mod last_good;
mod mirrors;
mod policies;
mod problem;
mod secrets;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crds::policy::{self, Policy};
use crds::registry_cache::{ImageSpec, MonitoringSpec, RegistryCache, ServiceSpec, VolumeSpec};
use crds::static_config::{LogFormat, StaticConfig};
use crds::values::RegistryHost;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::ResourceExt as _;

use crate::monitoring_api::MonitoringApi;
use crate::observe::Observed;
use crate::render::names::{MirrorTarget, Owner};
use upstreams::Upstreams;

pub use enforcement::{Conflict, Enforcement};
pub use mirrors::{
    CacheEndpoint, Containerd, Credentials, Mirror, MirrorAccess, MirroredUpstream, Runtime,
    TalosForm,
};
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
    /// Where clients in the cluster reach the cache, once the Service has an address.
    pub(crate) endpoint: Option<String>,
    pub(crate) mirrors: Vec<Mirror>,
    /// Objects of mirrors that can't be rendered now: what nodes use is not taken from them.
    pub(crate) kept_mirrors: Vec<MirrorTarget>,
    pub(crate) mirror_problems: Vec<Problem>,
    pub(crate) enforcement: Enforcement,
    pub(crate) monitoring: MonitoringSpec,
    pub(crate) monitoring_api: MonitoringApi,
}

impl ResolvedCache {
    /// Why mirrors can't be rendered as declared.
    pub fn mirror_problems(&self) -> &[Problem] {
        &self.mirror_problems
    }
}

/// The policy that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPolicy {
    pub(crate) text: String,
    pub(crate) hash: String,
    /// Why it is not the declared one, but the last good one. Empty: it is the declared one.
    pub(crate) problems: Vec<Problem>,
}

/// Checks and merges.
pub fn resolve(observed: &Observed, settings: &Settings) -> Result<ResolvedCache, Error> {
    let spec = &observed.cache.spec;
    let owner = owner(&observed.cache);
    let upstreams =
        upstreams::upstreams(spec, &observed.secrets).map_err(|problems| Error { problems })?;
    let static_config = static_config();
    let endpoint = observed
        .live
        .cluster_ip(&owner.name)
        .map(|ip| endpoint(ip, spec.service.port));
    let access = MirrorAccess {
        endpoint: endpoint.clone(),
        certificate_authority: None,
    };
    let mirrors = mirrors::mirrors(observed, &owner, &upstreams.checked, &access);
    let policy = match declared(observed, &owner, &upstreams) {
        Ok(policy) => ResolvedPolicy {
            text: policy.to_yaml(),
            hash: policy.hash(),
            problems: Vec::new(),
        },
        Err(problems) => {
            let Some((text, hash)) = last_good::policy(&observed.live, &owner) else {
                let problems = problems.into_iter().chain(mirrors.problems).collect();
                return Err(Error { problems });
            };
            ResolvedPolicy {
                text,
                hash,
                problems,
            }
        }
    };
    let enforcement = enforcement::enforcement(&policy.text, &mirrors.resolved);
    Ok(ResolvedCache {
        replicas: spec.replicas,
        volume: spec.storage.volume.clone(),
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
        secrets: secrets::volumes(&upstreams.secrets),
        ca_secrets: upstreams.ca_secrets,
        endpoint,
        mirrors: mirrors.resolved,
        kept_mirrors: mirrors.kept,
        mirror_problems: mirrors.problems,
        enforcement,
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
) -> Result<Policy, Vec<Problem>> {
    let spec = &observed.cache.spec;
    let upstreams = &resolved.checked;
    let mut problems = upstreams::missing_secrets(observed, owner, &resolved.ca_secrets);
    problems.extend(secrets::missing(observed, owner, &resolved.secrets));
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

fn static_config() -> StaticConfig {
    let mut config = StaticConfig {
        store: PathBuf::from(STORE_DIRECTORY),
        log_format: LogFormat::Json,
        ..StaticConfig::default()
    };
    config.data_listen.set_port(DATA_PORT);
    config.admin_listen.set_port(ADMIN_PORT);
    config
}

fn endpoint(ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("http://[{ip}]:{port}")
    } else {
        format!("http://{ip}:{port}")
    }
}
