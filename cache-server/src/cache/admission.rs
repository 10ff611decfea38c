//! The policy in force, with its upstreams ready to be asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crds::policy::{Action, Capacity, Decisions, Kept, Policy, Subject};
use crds::values::RegistryHost;

use super::freshness::Lifetime;
use super::{Error, Place};
use crate::oci::{Repository, Tag};
use crate::upstream::Upstream;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Which registries may be asked, and what is done with each request.
#[derive(Debug)]
pub struct Rules {
    decisions: Decisions,
    upstreams: HashMap<RegistryHost, Arc<Upstream>>,
    hosts: Hosts,
    capacity: Capacity,
    /// Tells these rules from all others of this process.
    number: u64,
}

/// The names that a request can mean.
#[derive(Debug, Default)]
pub struct Hosts {
    pub known: HashSet<RegistryHost>,
    pub default: Option<RegistryHost>,
}

/// What may be done with a request.
#[derive(Debug, Clone)]
pub struct Admission {
    pub action: Action,
    /// For messages of an action that stops the request: the rule's name, or what stands for it. Else empty.
    pub rule: String,
    pub lifetime: Lifetime,
}

impl Rules {
    pub fn new(policy: &Policy, upstreams: Vec<Arc<Upstream>>) -> Self {
        let upstreams: HashMap<_, _> = upstreams
            .into_iter()
            .map(|upstream| (upstream.host().clone(), upstream))
            .collect();
        Self {
            decisions: Decisions::new(policy),
            hosts: Hosts {
                known: upstreams.keys().cloned().collect(),
                default: policy.default_upstream.clone(),
            },
            upstreams,
            capacity: policy.capacity.clone(),
            number: COUNTER.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub fn upstream(&self, host: &RegistryHost) -> Option<&Arc<Upstream>> {
        self.upstreams.get(host)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Bytes that the store may hold, on a filesystem of that size.
    pub fn maximum(&self, filesystem: u64) -> u64 {
        let tenths = filesystem / 10 * 9;
        self.capacity
            .max_size
            .map_or(tenths, crds::values::ByteSize::as_bytes)
    }

    /// Bytes that must stay free on the filesystem.
    pub fn minimum_free(&self) -> u64 {
        self.capacity
            .min_free
            .map_or(0, crds::values::ByteSize::as_bytes)
    }

    /// Whether any rule says what is kept.
    pub fn retain(&self) -> bool {
        self.decisions.retain()
    }

    /// What is kept of content in the store; `None`: no rule speaks of it.
    pub fn kept(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        tag: Option<&Tag>,
    ) -> Option<Kept<'_>> {
        self.decisions.kept(Subject {
            upstream: host,
            repository: repository.as_str(),
            tag: tag.map(Tag::as_str),
        })
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
    }

    /// The upstream that may be asked, and what may be done with the request.
    pub(super) fn admit(
        &self,
        Place { host, repository }: Place<'_>,
        tag: Option<&Tag>,
    ) -> Result<(&Arc<Upstream>, Admission), Error> {
        let upstream = self
            .upstream(host)
            .ok_or_else(|| Error::UnknownUpstream(host.clone()))?;
        let admission = self.decide(host, repository, tag);
        let rule = || Arc::from(admission.rule.as_str());
        match admission.action {
            Action::Refuse => Err(Error::Refused(rule())),
            Action::Deny => Err(Error::Denied(rule())),
            Action::Cache | Action::Forward => Ok((upstream, admission)),
        }
    }

    pub fn decide(
        &self,
        host: &RegistryHost,
        repository: &Repository,
        tag: Option<&Tag>,
    ) -> Admission {
        let decision = self.decisions.decide(Subject {
            upstream: host,
            repository: repository.as_str(),
            tag: tag.map(Tag::as_str),
        });
        Admission {
            action: decision.action,
            rule: match (decision.action, decision.rule) {
                (Action::Cache | Action::Forward, _) => String::new(),
                (_, None) => "the default action".to_owned(),
                (_, Some(rule)) => format!("the rule {rule:?}"),
            },
            lifetime: Lifetime {
                refresh_after: decision.freshness.refresh_after.into(),
                serve_stale_for: decision.freshness.serve_stale_for.into(),
                immutable: decision.immutable,
            },
        }
    }
}
