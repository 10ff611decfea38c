//! Upstreams, and the Secrets that they trust. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crds::policy::{Limits, Upstream};
use crds::registry_cache::{LimitsSpec, RegistryCacheSpec, SecretKeyRef, UpstreamSpec};
use crds::values::{Endpoint, RegistryHost};

use super::Problem;
use super::identity::{self, PodToken};
use super::policies;
use super::secrets::{self, MountedSecret};
use crate::observe::{Observed, SecretKeys};
use crate::render::names::Owner;

/// Directory of the pods with one directory for each upstream that has a Secret.
pub const SECRETS_DIRECTORY: &str = "/etc/larder/secrets";

/// A Secret to mount for an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSecret {
    pub(crate) host: RegistryHost,
    /// Position in `spec.upstreams`, for messages.
    pub(crate) position: usize,
    pub(crate) secret: String,
    pub(crate) key: String,
}

impl CaSecret {
    /// Directory in which the pods find it.
    pub(crate) fn directory(&self) -> PathBuf {
        PathBuf::from(SECRETS_DIRECTORY).join(self.host.hosts_directory())
    }
}

/// Checked upstreams, and the Secrets to mount for them.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    pub(super) checked: Vec<Upstream>,
    pub(super) ca_secrets: Vec<CaSecret>,
    pub(super) secrets: Vec<MountedSecret>,
    pub(super) tokens: BTreeSet<PodToken>,
    pub(super) accounts: BTreeMap<String, String>,
}

/// Checks the upstreams.
pub(super) fn upstreams(
    spec: &RegistryCacheSpec,
    keys: &SecretKeys,
) -> Result<Upstreams, Vec<Problem>> {
    let mut all = Upstreams::default();
    let mut problems = Vec::new();
    for (position, upstream) in spec.upstreams.iter().enumerate() {
        if let Err(problem) = resolve(position, upstream, keys, &mut all) {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        Ok(all)
    } else {
        Err(problems)
    }
}

fn resolve(
    position: usize,
    spec: &UpstreamSpec,
    keys: &SecretKeys,
    all: &mut Upstreams,
) -> Result<(), Problem> {
    let prefix = format!("upstreams[{position}]");
    let invalid = |field: &str, error: &dyn std::fmt::Display| Problem::Spec {
        field: format!("{prefix}.{field}"),
        reason: error.to_string(),
    };
    let endpoints = |field: &str, texts: &[String]| -> Result<Vec<Endpoint>, Problem> {
        let parse = |(number, text): (usize, &String)| {
            text.parse()
                .map_err(|error| invalid(&format!("{field}[{number}]"), &error))
        };
        texts.iter().enumerate().map(parse).collect()
    };
    let redirect_hosts = spec.redirect_hosts.iter().enumerate();
    let host: RegistryHost = spec.host.parse().map_err(|e| invalid("host", &e))?;
    let mut upstream = Upstream {
        endpoints: endpoints("endpoints", &spec.endpoints)?,
        repository_prefix: spec
            .repository_prefix
            .as_ref()
            .map(|text| text.parse().map_err(|e| invalid("repositoryPrefix", &e)))
            .transpose()?,
        auth_realms: endpoints("authRealms", &spec.auth_realms)?,
        redirect_hosts: redirect_hosts
            .map(|(number, text)| {
                text.parse()
                    .map_err(|error| invalid(&format!("redirectHosts[{number}]"), &error))
            })
            .collect::<Result<_, _>>()?,
        proxy: spec
            .proxy
            .as_ref()
            .map(|text| text.parse().map_err(|error| invalid("proxy", &error)))
            .transpose()?,
        limits: spec.limits.as_ref().map(limits).unwrap_or_default(),
        header_timeout: spec
            .header_timeout
            .as_ref()
            .map(|text| {
                text.parse()
                    .map_err(|error| invalid("headerTimeout", &error))
            })
            .transpose()?,
        freshness: spec
            .freshness
            .as_ref()
            .map(|spec| {
                policies::freshness(spec)
                    .map_err(|(field, reason)| invalid(&format!("freshness.{field}"), &reason))
            })
            .transpose()?,
        ..Upstream::named(host.clone())
    };
    if let Some(reference) = &spec.ca_secret_ref {
        let secret = CaSecret {
            host,
            position,
            secret: reference.name.clone(),
            key: reference.key.clone(),
        };
        upstream.ca_file = Some(secret.directory().join(&secret.key));
        all.ca_secrets.push(secret);
    }
    if let Some(certificate) = &spec.client_certificate {
        let field = format!("{prefix}.clientCertificate");
        let (certificate, secret) = secrets::client_certificate(&field, certificate);
        upstream.client_certificate = Some(certificate);
        all.secrets.push(secret);
    }
    for (number, credential) in spec.credentials.iter().enumerate() {
        let field = format!("{prefix}.credentials[{number}]");
        match (&credential.secret_ref, &credential.identity) {
            (Some(reference), None) => {
                let found = secrets::credential(&field, credential, reference, keys)?;
                upstream.credentials.push(found.0);
                all.secrets.push(found.1);
            }
            (None, Some(identity)) => {
                let found = identity::credential(&field, credential, identity)?;
                upstream.credentials.push(found.credential);
                all.tokens.extend(found.token);
                all.accounts.extend(found.account);
            }
            _ => {
                let reason = "write exactly one of secretRef and identity";
                return Err(super::spec_problem(&field, &reason));
            }
        }
    }
    all.checked.push(upstream);
    Ok(())
}

/// A number that does not fit becomes one that the policy's own check refuses.
fn limits(spec: &LimitsSpec) -> Limits {
    Limits {
        concurrency: spec.concurrency.map(|n| n.try_into().unwrap_or(0)),
        bytes_per_second: spec.bytes_per_second.map(|n| n.try_into().unwrap_or(0)),
    }
}

/// Secrets and keys that are named and do not exist.
pub(super) fn missing_secrets(
    observed: &Observed,
    owner: &Owner,
    secrets: &[CaSecret],
) -> Vec<Problem> {
    let missing = |secret: &CaSecret| {
        let field = format!("upstreams[{}].caSecretRef", secret.position);
        let reference = SecretKeyRef {
            name: secret.secret.clone(),
            key: secret.key.clone(),
        };
        secrets::missing_key(observed, owner, &reference, field)
    };
    secrets.iter().filter_map(missing).collect()
}

/// The upstream of requests that name none: the one that is said, or the only one.
pub(super) fn default_upstream(
    spec: &RegistryCacheSpec,
    upstreams: &[Upstream],
) -> Result<Option<RegistryHost>, Problem> {
    let invalid = |reason: String| Problem::Spec {
        field: "defaultUpstream".to_owned(),
        reason,
    };
    match (&spec.default_upstream, upstreams) {
        (Some(text), _) => {
            let host: RegistryHost = text.parse().map_err(|error| invalid(format!("{error}")))?;
            if upstreams.iter().any(|upstream| upstream.host == host) {
                Ok(Some(host))
            } else {
                Err(invalid(format!(
                    "{host} is not the host of one of the upstreams"
                )))
            }
        }
        (None, [only]) => Ok(Some(only.host.clone())),
        (None, _) => Ok(None),
    }
}
