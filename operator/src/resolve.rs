//! Step 2: checks what was observed and merges it into the one input of the next step. Pure.
//!
//! A policy that can't be resolved never turns into "allow all": the last policy that could stays in force, and where
//! there is none, nothing is rendered.

mod authorities;
mod capacity;
mod choices;
mod enforcement;
mod growth;
mod identity;
mod last_good;
mod mirrors;
mod network;
pub(crate) mod object_storage;
mod pods;
mod policies;
mod problem;
mod secrets;
mod settings;
mod tls;
mod upstreams;

use std::collections::{BTreeMap, BTreeSet};

use crds::policy::{self, Policy};
use crds::registry_cache::{
    AccessSpec, ExposureSpec, ImageSpec, MonitoringSpec, NetworkPolicySpec, RegistryCache,
    RegistryCacheSpec, SecretKeyRef, ServiceAccountSpec, ServiceSpec, VolumeSpec,
};
use crds::static_config::StaticConfig;
use crds::values::RegistryHost;
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use kube::ResourceExt as _;

use crate::observe::Observed;
use crate::optional_apis::OptionalApis;
use crate::render::names::{self, Owner};
use object_storage::Bucket;
use problem::spec_problem;
use settings::Mounted;
use upstreams::Upstreams;

pub use authorities::Authorities;
pub use enforcement::{Conflict, Enforcement};
pub use growth::{Growth, SmallClaim, Stuck, Waiting};
pub use identity::{PodToken, TOKEN_FILE};
pub use mirrors::{
    CacheEndpoint, Containerd, Credentials, KeptMirror, Mirror, MirrorAccess, MirroredUpstream,
    Runtime, TalosForm,
};
pub use pods::{CONTAINER, Pods};
pub use policies::{RuleProblem, freshness, narrow, rules};
pub use problem::{Problem, sentence};
pub use secrets::{MountedSecret, Purpose};
pub use settings::KNOWN_AUTHORITIES_FILE;
pub use tls::{Request, Tls};
pub use upstreams::{CaSecret, SECRETS_DIRECTORY};

/// Where the server's files from the operator are mounted.
pub const CONFIG_DIRECTORY: &str = "/etc/larder/config";
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
    /// Where the operator's own pods are; `None`: it does not run in the cluster.
    pub namespace: Option<String>,
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
    /// Mirrors that can't be rendered now: what nodes use is not taken from them.
    pub(crate) kept_mirrors: Vec<KeptMirror>,
    pub(crate) mirror_problems: Vec<Problem>,
    pub(crate) enforcement: Enforcement,
    pub(crate) monitoring: MonitoringSpec,
    pub(crate) apis: OptionalApis,
    pub(crate) tls: Option<Tls>,
    /// What clients must show, as it is declared.
    pub(crate) access: AccessSpec,
    pub(crate) service_account: Option<ServiceAccountSpec>,
    pub(crate) pod_tokens: BTreeSet<PodToken>,
    /// Further files beside `policy.yaml`, which it names.
    pub(crate) accounts: BTreeMap<String, String>,
    /// Sentences about what people regret later. Nothing is refused for it.
    pub(crate) risks: Vec<String>,
    pub(crate) pods: Pods,
    pub(crate) growth: Growth,
    /// Size that the `StatefulSet` must ask for now, which is not the declared one while volumes grow.
    pub(crate) claim_size: String,
    pub(crate) network_policy: Option<NetworkPolicySpec>,
    /// TCP ports that the pods must reach, beside DNS.
    pub(crate) egress_ports: BTreeSet<u16>,
    pub(crate) operator_namespace: Option<String>,
    pub(crate) exposure: ExposureSpec,
}

impl ResolvedCache {
    /// Whom clients shall trust.
    pub(crate) fn authorities(&self) -> Option<&Authorities> {
        self.tls.as_ref()?.authorities.as_ref()
    }

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
    let tls = tls::tls(observed, &owner).map_err(|problems| Error { problems })?;
    let bucket = object_storage::bucket(spec, &owner).map_err(|problem| Error {
        problems: vec![problem],
    })?;
    let door =
        door(observed, &owner, tls.as_ref(), &bucket).map_err(|problems| Error { problems })?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let restarted_at = restarted_at(observed, &owner);
    let pods =
        pods::pods(spec, &owner.name, restarted_at).map_err(|problems| Error { problems })?;
    let volume = volume(spec)?;
    let endpoint = observed
        .live
        .cluster_ip(&owner.name)
        .map(|ip| endpoint(scheme, ip, spec.service.port));
    let access = MirrorAccess {
        endpoint: endpoint.clone(),
        certificate_authority: tls
            .as_ref()
            .and_then(|tls| Some(tls.authorities.as_ref()?.trusted.clone())),
    };
    let mirrors = mirrors::mirrors(observed, &owner, &upstreams.checked, &access);
    let policy = match declared(observed, &owner, &upstreams, &door, &bucket) {
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
    let accounts = if policy.problems.is_empty() {
        upstreams.accounts
    } else {
        last_good::accounts(&observed.live, &owner)
    };
    let size = volume.size.0.clone();
    let enforcement = enforcement::enforcement(&policy.text, &mirrors.resolved);
    let egress_ports = network::ports(&upstreams.checked)
        .into_iter()
        .chain(network::others(&door.static_config))
        .collect();
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
        static_config: door.static_config,
        secrets: secrets::volumes(
            upstreams
                .secrets
                .iter()
                .chain(&door.secrets)
                .chain(&bucket.secret),
        ),
        risks: choices::risks(spec, &policy.text),
        policy,
        bucket_authorities: bucket.authorities,
        ca_secrets: upstreams.ca_secrets,
        endpoint,
        mirrors: mirrors.resolved,
        kept_mirrors: mirrors.kept,
        mirror_problems: mirrors.problems,
        enforcement,
        monitoring: spec.monitoring.clone(),
        apis: observed.apis.clone(),
        tls,
        access: spec.access.clone(),
        service_account: spec.service_account.clone(),
        pod_tokens: upstreams.tokens,
        accounts,
        pods,
        growth: growth::next(observed, &owner, &size),
        claim_size: growth::template_size(observed, &owner, &size),
        network_policy: spec.network_policy.clone(),
        egress_ports,
        operator_namespace: settings.namespace.clone(),
        exposure: spec.exposure.clone(),
        owner,
    })
}

/// When a restart of the pods was asked for: by the live `StatefulSet`, or while there is none, by its pods. To forget it would restart them.
fn restarted_at(observed: &Observed, owner: &Owner) -> Option<String> {
    if let Some(set) = observed.live.get("StatefulSet", &owner.name) {
        let annotations = set.data.pointer("/spec/template/metadata/annotations")?;
        return Some(annotations.get(names::RESTARTED_AT)?.as_str()?.to_owned());
    }
    let pods = observed.pods.iter();
    pods.filter_map(|pod| pod.restarted_at.clone()).max()
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
    door: &Door,
    bucket: &Bucket,
) -> Result<Policy, Vec<Problem>> {
    let spec = &observed.cache.spec;
    let upstreams = &resolved.checked;
    let mut problems = upstreams::missing_secrets(observed, owner, &resolved.ca_secrets);
    let mounted = resolved.secrets.iter().chain(&door.secrets);
    let mounted = mounted.filter(|secret| !secret.purpose.is_essential());
    problems.extend(secrets::missing(observed, owner, mounted));
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
    let room = |declared| growth::room(observed, owner, declared);
    let capacity = capacity::capacity(spec, room).unwrap_or_else(|more| {
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
        access: door.access.clone(),
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

/// What stands between clients and the cache.
struct Door {
    access: policy::Access,
    static_config: StaticConfig,
    secrets: Vec<MountedSecret>,
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

fn door(
    observed: &Observed,
    owner: &Owner,
    tls: Option<&Tls>,
    bucket: &Bucket,
) -> Result<Door, Vec<Problem>> {
    let spec = &observed.cache.spec;
    let (access, passwords) = secrets::access(&spec.access, &observed.secrets);
    let authorities = spec.access.client_certificate.as_ref();
    if let Some(certificate) = authorities {
        let field = "access.clientCertificate.caSecretRef".to_owned();
        let missing = secrets::missing_key(observed, owner, &certificate.ca_secret_ref, field);
        if let Some(problem) = missing {
            return Err(vec![problem]);
        }
    }
    let authorities = authorities.map(|one| secrets::client_authorities(&one.ca_secret_ref));
    let admin_token = spec.admin_token_secret_ref.as_ref();
    let admin_token = admin_token.map(secrets::admin_token);
    let serving = tls.map(|tls| &tls.secret);
    let mounted = Mounted {
        serving,
        client_authorities: authorities.as_ref(),
        admin_token: admin_token.as_ref(),
    };
    let static_config = settings::static_config(spec, mounted, bucket)?;
    let secrets = [passwords, authorities, admin_token, serving.cloned()];
    Ok(Door {
        access,
        static_config,
        secrets: secrets.into_iter().flatten().collect(),
    })
}

fn endpoint(scheme: &str, ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("{scheme}://[{ip}]:{port}")
    } else {
        format!("{scheme}://{ip}:{port}")
    }
}
