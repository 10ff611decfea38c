//! Upstreams, and the Secrets that they trust. Pure.

use std::path::PathBuf;

use crds::policy::Upstream;
use crds::registry_cache::{RegistryCacheSpec, UpstreamSpec};
use crds::values::{Endpoint, RegistryHost};

use super::Problem;
use crate::observe::Observed;
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
pub(super) fn upstreams(
    spec: &RegistryCacheSpec,
) -> Result<(Vec<Upstream>, Vec<CaSecret>), Vec<Problem>> {
    let mut upstreams = Vec::new();
    let mut secrets = Vec::new();
    let mut problems = Vec::new();
    for (position, upstream) in spec.upstreams.iter().enumerate() {
        match resolve(position, upstream) {
            Ok((upstream, secret)) => {
                upstreams.push(upstream);
                secrets.extend(secret);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() {
        Ok((upstreams, secrets))
    } else {
        Err(problems)
    }
}

fn resolve(position: usize, spec: &UpstreamSpec) -> Result<(Upstream, Option<CaSecret>), Problem> {
    let invalid = |field: &str, error: &dyn std::fmt::Display| Problem::Spec {
        field: format!("upstreams[{position}].{field}"),
        reason: error.to_string(),
    };
    let host: RegistryHost = spec.host.parse().map_err(|e| invalid("host", &e))?;
    let endpoints = spec
        .endpoints
        .iter()
        .enumerate()
        .map(|(number, text)| {
            text.parse::<Endpoint>()
                .map_err(|e| invalid(&format!("endpoints[{number}]"), &e))
        })
        .collect::<Result<_, _>>()?;
    let repository_prefix = spec
        .repository_prefix
        .as_ref()
        .map(|text| text.parse().map_err(|e| invalid("repositoryPrefix", &e)))
        .transpose()?;
    let secret = spec.ca_secret_ref.as_ref().map(|reference| CaSecret {
        host: host.clone(),
        position,
        secret: reference.name.clone(),
        key: reference.key.clone(),
    });
    let upstream = Upstream {
        host,
        endpoints,
        repository_prefix,
        ca_file: secret
            .as_ref()
            .map(|secret| secret.directory().join(&secret.key)),
    };
    Ok((upstream, secret))
}

/// Secrets and keys that are named and do not exist.
pub(super) fn missing_secrets(
    observed: &Observed,
    owner: &Owner,
    secrets: &[CaSecret],
) -> Vec<Problem> {
    let missing = |secret: &CaSecret| {
        let field = format!("upstreams[{}].caSecretRef", secret.position);
        let namespace = owner.namespace.clone();
        let (name, key) = (secret.secret.clone(), secret.key.clone());
        match observed.secrets.get(&secret.secret) {
            Some(Some(keys)) if keys.contains(&secret.key) => None,
            Some(Some(_)) => Some(Problem::SecretKeyMissing {
                namespace,
                name,
                key,
                field,
            }),
            Some(None) | None => Some(Problem::SecretMissing {
                namespace,
                name,
                key,
                field,
            }),
        }
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
