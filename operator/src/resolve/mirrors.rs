//! Mirror configurations: how each reaches the cache, and what its runtime can be told. Pure.
//!
//! One that can't be rendered as declared is a problem that names the field, and leaves the others alone: what was rendered of it
//! before stays, because nodes use it.

mod refusals;
mod runtime;

use std::collections::{BTreeMap, BTreeSet};

use crds::policy::Upstream;
use crds::registry_cache::{Capability, Fallback, MirrorSpec, RegistryCacheSpec};
use crds::values::{Endpoint, RegistryHost, RepositoryPrefix};

use super::{Problem, secrets};
use crate::confidential::Confidential;
use crate::observe::Observed;
use crate::render::names::{self, MirrorTarget, Owner};

pub use runtime::{Containerd, Runtime, TalosForm};

/// How nodes reach the cache where their mirror does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorAccess {
    /// With scheme and port; `None`: not known yet.
    pub endpoint: Option<String>,
    /// PEM of the authorities by which the cache is known; `None`: those that nodes trust anyway.
    pub certificate_authority: Option<String>,
}

/// A mirror configuration that can be rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub(crate) name: String,
    pub(crate) target: MirrorTarget,
    pub(crate) runtime: Runtime,
    pub(crate) endpoint: CacheEndpoint,
    pub(crate) upstreams: Vec<MirroredUpstream>,
    pub(crate) fallback: Fallback,
    /// Whether tags are resolved at the upstream.
    pub(crate) digest_only: bool,
    pub(crate) credentials: Option<Credentials>,
    /// PEM.
    pub(crate) certificate_authority: Option<String>,
}

/// The cache, as nodes reach it. Holds no quote, space or control character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheEndpoint {
    pub(crate) secure: bool,
    /// `host[:port]`
    pub(crate) authority: String,
}

/// An upstream, and where nodes go when the cache gives them nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirroredUpstream {
    pub(crate) host: RegistryHost,
    pub(crate) endpoint: Endpoint,
    pub(crate) repository_prefix: Option<RepositoryPrefix>,
}

/// What nodes show to the cache. Neither holds a control character, and the name no colon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    username: Confidential,
    password: Confidential,
}

/// A mirror that can't be rendered now: what there is of it stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptMirror {
    pub(crate) name: String,
    pub(crate) target: MirrorTarget,
}

/// All mirrors of a cache.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    pub(super) resolved: Vec<Mirror>,
    pub(super) kept: Vec<KeptMirror>,
    pub(super) problems: Vec<Problem>,
}

impl CacheEndpoint {
    fn new(text: &str) -> Self {
        let (scheme, authority) = text.split_once("://").unwrap_or(("http", text));
        Self {
            secure: scheme == "https",
            authority: authority.to_owned(),
        }
    }

    /// With the scheme.
    pub(crate) fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.authority)
    }
}

impl MirroredUpstream {
    /// Whether it is asked where its name says, as a runtime does that is told nothing.
    pub(crate) fn is_usual(&self) -> bool {
        self.repository_prefix.is_none() && self.endpoint == Endpoint::default_for(&self.host)
    }

    /// Root of its API: `https://mirror.example/v2/proxy/docker-hub`.
    pub(crate) fn api(&self) -> String {
        let prefix = self.repository_prefix.as_ref();
        let prefix = prefix.map(|prefix| format!("/{}", prefix.as_str()));
        format!("{}/v2{}", self.endpoint, prefix.unwrap_or_default())
    }

    /// The same, without a path where the usual one is meant.
    pub(crate) fn url(&self) -> String {
        match self.repository_prefix {
            Some(_) => self.api(),
            None => self.endpoint.to_string(),
        }
    }
}

impl Credentials {
    #[cfg(test)]
    pub(crate) fn new(username: &str, password: &str) -> Self {
        let [username, password] =
            [username, password].map(|text| Confidential::new(text.as_bytes().to_vec()));
        Self { username, password }
    }

    /// `name:password`, as basic authentication has it.
    pub(crate) fn pair(&self) -> String {
        let [username, password] =
            [&self.username, &self.password].map(|one| one.reveal().unwrap_or_default());
        format!("{username}:{password}")
    }
}

/// Checks all mirrors. Those without an endpoint yet are kept without a problem.
pub(super) fn mirrors(
    observed: &Observed,
    owner: &Owner,
    upstreams: &[Upstream],
    access: &MirrorAccess,
) -> Mirrors {
    let spec = &observed.cache.spec;
    let mut all = Mirrors::default();
    let mut taken = BTreeMap::from([(
        (names::CONFIG_MAP, names::config_map(&owner.name)),
        "the cache's own configuration".to_owned(),
    )]);
    for (number, mirror) in spec.mirrors.iter().enumerate() {
        let target = names::mirror_target(&owner.name, mirror);
        let key = (target.kind.as_str(), target.name.clone());
        if let Some(other) = taken.get(&key) {
            all.problems.push(Problem::Spec {
                field: format!("mirrors[{number}].target.name"),
                reason: format!("{} holds {other}; write another name", target.name),
            });
            continue;
        }
        taken.insert(key, format!("mirror {}", mirror.name));
        let one = One {
            observed,
            owner,
            spec,
            number,
            mirror,
        };
        let kept = KeptMirror {
            name: mirror.name.clone(),
            target: target.clone(),
        };
        match one.resolve(target, upstreams, access) {
            Ok(Some(mirror)) => all.resolved.push(mirror),
            Ok(None) => all.kept.push(kept),
            Err(problems) => {
                all.problems.extend(problems);
                all.kept.push(kept);
            }
        }
    }
    all
}

struct One<'a> {
    observed: &'a Observed,
    owner: &'a Owner,
    spec: &'a RegistryCacheSpec,
    number: usize,
    mirror: &'a MirrorSpec,
}

impl One<'_> {
    fn resolve(
        &self,
        target: MirrorTarget,
        upstreams: &[Upstream],
        access: &MirrorAccess,
    ) -> Result<Option<Mirror>, Vec<Problem>> {
        let mirror = self.mirror;
        let mut problems: Vec<Problem> = refusals::refusals(self.spec, mirror)
            .into_iter()
            .map(|(field, reason)| self.problem(field, reason))
            .collect();
        let upstreams = self.upstreams(upstreams, &mut problems);
        let runtime = Runtime::new(&mirror.runtime, mirror.fallback)
            .map_err(|reason| problems.push(self.problem("runtime.version", reason)))
            .ok();
        let endpoint = match &mirror.endpoint {
            Some(text) => match text.parse::<Endpoint>() {
                Ok(endpoint) => Some(endpoint.to_string()),
                Err(error) => {
                    problems.push(self.problem("endpoint", error.to_string()));
                    None
                }
            },
            None => access.endpoint.clone(),
        };
        let credentials = self.credentials(&mut problems);
        let certificate_authority = match mirror.ca_secret_ref {
            Some(_) => self.certificate_authority(&mut problems),
            None => access.certificate_authority.clone(),
        };
        let endpoint = endpoint.as_deref().map(CacheEndpoint::new);
        let certificate_authority =
            certificate_authority.filter(|_| endpoint.as_ref().is_some_and(|one| one.secure));
        if mirror.ca_secret_ref.is_some() && endpoint.as_ref().is_some_and(|one| !one.secure) {
            let reason = "it is for TLS: use https:// in endpoint, or remove it".to_owned();
            problems.push(self.problem("caSecretRef", reason));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (Some(endpoint), Some(runtime)) = (endpoint, runtime) else {
            return Ok(None);
        };
        Ok(Some(Mirror {
            name: mirror.name.clone(),
            target,
            runtime,
            upstreams,
            fallback: mirror.fallback,
            digest_only: !mirror.capabilities.contains(&Capability::Resolve),
            credentials,
            certificate_authority: certificate_authority.filter(|_| endpoint.secure),
            endpoint,
        }))
    }

    fn problem(&self, field: &str, reason: String) -> Problem {
        Problem::Spec {
            field: format!("mirrors[{}].{field}", self.number),
            reason,
        }
    }

    fn upstreams(
        &self,
        upstreams: &[Upstream],
        problems: &mut Vec<Problem>,
    ) -> Vec<MirroredUpstream> {
        let host = |text: &String| {
            text.parse::<RegistryHost>()
                .map_or_else(|_| text.clone(), String::from)
        };
        let selected: BTreeSet<String> = self.mirror.upstreams.iter().map(host).collect();
        for host in &selected {
            if !upstreams.iter().any(|one| one.host.as_str() == host) {
                let reason = format!("{host} is not the host of one of the upstreams");
                problems.push(self.problem("upstreams", reason));
            }
        }
        upstreams
            .iter()
            .filter(|one| selected.is_empty() || selected.contains(one.host.as_str()))
            .filter_map(|one| {
                Some(MirroredUpstream {
                    host: one.host.clone(),
                    endpoint: one.effective_endpoints().into_iter().next()?,
                    repository_prefix: one.repository_prefix.clone(),
                })
            })
            .collect()
    }

    fn credentials(&self, problems: &mut Vec<Problem>) -> Option<Credentials> {
        let name = &self.mirror.credentials_secret_ref.as_ref()?.name;
        let field = format!("mirrors[{}].credentialsSecretRef", self.number);
        let value = |key: &str| self.value(name, key);
        let (Some(username), Some(password)) = (value("username"), value("password")) else {
            let expected =
                "with the type kubernetes.io/basic-auth and the keys username and password";
            let (namespace, name) = (self.owner.namespace.clone(), name.clone());
            problems.push(match self.observed.secrets.get(&name) {
                Some(Some(_)) => Problem::MountedSecretKeys {
                    namespace,
                    name,
                    expected,
                    field,
                },
                Some(None) | None => Problem::MountedSecretMissing {
                    namespace,
                    name,
                    expected,
                    field,
                },
            });
            return None;
        };
        let is_line = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        let fits = username
            .reveal()
            .is_some_and(|text| is_line(text) && !text.contains(':'))
            && password.reveal().is_some_and(is_line);
        if !fits {
            let reason = format!(
                "Secret {name} can't be shown to the cache: write a username without colon and a password, each in one line"
            );
            problems.push(self.problem("credentialsSecretRef", reason));
            return None;
        }
        Some(Credentials { username, password })
    }

    fn certificate_authority(&self, problems: &mut Vec<Problem>) -> Option<String> {
        let reference = self.mirror.ca_secret_ref.as_ref()?;
        let (name, key) = (&reference.name, &reference.key);
        let Some(value) = self.value(name, key) else {
            let field = format!("mirrors[{}].caSecretRef", self.number);
            let missing = secrets::missing_key(self.observed, self.owner, reference, field);
            problems.extend(missing);
            return None;
        };
        let text = value.reveal().unwrap_or_default();
        if !text.contains("-----BEGIN CERTIFICATE-----") || text.contains("PRIVATE KEY") {
            let reason = format!(
                "the key {key} of Secret {name} must hold certificates in PEM, and nothing else"
            );
            problems.push(self.problem("caSecretRef", reason));
            return None;
        }
        Some(format!("{text}\n"))
    }

    fn value(&self, secret: &str, key: &str) -> Option<Confidential> {
        let values = &self.observed.secret_values;
        values.get(&(secret.to_owned(), key.to_owned())).cloned()
    }
}
