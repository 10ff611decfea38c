//! The policy in force, with its upstreams ready to be asked.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crds::policy::{Action, Decisions, Policy, Subject};
use crds::values::RegistryHost;

use super::freshness::Lifetime;
use crate::oci::{Repository, Tag};
use crate::upstream::Upstream;

/// Which registries may be asked, and what is done with each request.
#[derive(Debug)]
pub struct Rules {
    decisions: Decisions,
    upstreams: HashMap<RegistryHost, Arc<Upstream>>,
    hosts: Arc<Hosts>,
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
    /// For messages: the rule's name, or what stands for it.
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
            hosts: Arc::new(Hosts {
                known: upstreams.keys().cloned().collect(),
                default: policy.default_upstream.clone(),
            }),
            upstreams,
        }
    }

    pub fn hosts(&self) -> Arc<Hosts> {
        self.hosts.clone()
    }

    pub fn upstream(&self, host: &RegistryHost) -> Option<Arc<Upstream>> {
        self.upstreams.get(host).cloned()
    }

    pub fn upstreams(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.upstreams.values()
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
            rule: decision.rule.map_or_else(
                || "the default action".to_owned(),
                |rule| format!("the rule {rule:?}"),
            ),
            lifetime: Lifetime {
                refresh_after: decision.freshness.refresh_after.into(),
                serve_stale_for: decision.freshness.serve_stale_for.into(),
                immutable: decision.immutable,
            },
        }
    }
}
