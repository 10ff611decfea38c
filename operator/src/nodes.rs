//! The nodes of this cluster: hands the mirror files of caches to the agents on them ([`wiring`]), and asks the agents how far
//! they are ([`count`]).
//!
//! One task for all caches (`round`), beside the reconciles: they say what is to be wired, and are woken when what the nodes say of a cache
//! changes. The agents mount one `ConfigMap`, and one Secret for what holds credentials. Both belong to their `DaemonSet`, so
//! that none outlives the other.

pub mod count;
mod hand_over;
mod round;
pub mod wiring;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crds::node_agent::WiredCache;
use tokio::sync::Notify;

use crate::args::NodesArguments;
use crate::render::MirrorObject;
use crate::render::names::Owner;
use wiring::CacheKey;

pub use count::{NodesSeen, Sighting};
pub use round::{Error, run};

/// Where the agents are, and what they may wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub namespace: String,
    pub name: String,
    pub port: u16,
    pub mirror: String,
    pub namespaces: Vec<String>,
}

impl Settings {
    /// `None`: there are no agents.
    pub fn new(arguments: &NodesArguments) -> Option<Self> {
        Some(Self {
            namespace: arguments.node_agent_namespace.clone()?,
            name: arguments.node_agent_name.clone(),
            port: arguments.node_agent_port,
            mirror: arguments.node_agent_mirror.clone(),
            namespaces: arguments.wire_namespaces.clone(),
        })
    }
}

/// What reconciles and the task of the nodes tell each other.
#[derive(Debug, Default)]
pub struct Nodes {
    settings: Option<Settings>,
    /// What each cache that was looked at wants to be wired.
    declared: Mutex<BTreeMap<CacheKey, Option<WiredCache>>>,
    seen: Mutex<BTreeMap<CacheKey, Sight>>,
    changed: Notify,
}

/// What nodes say of a cache.
#[derive(Debug, Clone, Default)]
struct Sight {
    /// What stands in the status.
    told: Option<NodesSeen>,
    /// What the last round saw.
    last: NodesSeen,
    /// Whether the agents were asked about what is declared now.
    current: bool,
}

impl Nodes {
    /// `None`: there are no agents, and nothing is wired.
    pub fn new(settings: Option<Settings>) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Says what a cache wants to be wired, out of its mirror configurations. Of those with the names in `kept` nothing is known now,
    /// and the nodes stay as they are.
    pub fn declare(&self, owner: &Owner, mirrors: &[(&str, &MirrorObject)], kept: &[&str]) {
        let Some(settings) = &self.settings else {
            return;
        };
        let wired = wiring::wired(settings, owner, mirrors);
        let key = (owner.namespace.clone(), owner.name.clone());
        if settings.namespaces.contains(&owner.namespace)
            && kept.contains(&settings.mirror.as_str())
        {
            lock(&self.declared).remove(&key);
            return;
        }
        self.put(key, wired);
    }

    fn put(&self, key: CacheKey, wired: Option<WiredCache>) {
        let mut declared = lock(&self.declared);
        if declared.get(&key) == Some(&wired) {
            return;
        }
        if let Some(sight) = lock(&self.seen).get_mut(&key) {
            sight.current = false;
        }
        declared.insert(key, wired);
        self.changed.notify_one();
    }

    /// Says that a cache is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        lock(&self.seen).remove(&key);
        if lock(&self.declared).remove(&key).is_some() {
            self.changed.notify_one();
        }
    }

    /// What the nodes say of a cache.
    pub fn seen(&self, namespace: &str, name: &str) -> Sighting {
        if self.settings.is_none() {
            return Sighting::NotWired;
        }
        let key = (namespace.to_owned(), name.to_owned());
        match lock(&self.declared).get(&key) {
            None => Sighting::Unknown,
            Some(None) => Sighting::NotWired,
            Some(Some(_)) => lock(&self.seen)
                .get(&key)
                .and_then(|sight| sight.told.clone())
                .map_or(Sighting::Unknown, Sighting::Seen),
        }
    }

    /// Whether a node that an agent wires may lack what the cache declared last. Where all of them have trouble, none is waited for.
    pub fn may_lack(&self, namespace: &str, name: &str) -> bool {
        let Some(settings) = &self.settings else {
            return false;
        };
        let key = (namespace.to_owned(), name.to_owned());
        match lock(&self.declared).get(&key) {
            None => settings.namespaces.iter().any(|one| one == namespace),
            Some(None) => false,
            Some(Some(_)) => !lock(&self.seen).get(&key).is_some_and(|sight| {
                let last = &sight.last;
                sight.current && (last.trouble.is_some() || last.ready == last.total)
            }),
        }
    }

    /// Takes what a round saw that began with `declared`, and returns the caches whose status has to tell something new.
    ///
    /// Nodes that come and go all the time must not make a status that is written all the time: a count that is not full is
    /// told only when two rounds agree.
    fn take(
        &self,
        declared: &BTreeMap<CacheKey, Option<WiredCache>>,
        round: BTreeMap<CacheKey, NodesSeen>,
    ) -> Vec<CacheKey> {
        let declared_now = lock(&self.declared);
        let mut seen = lock(&self.seen);
        let mut changed: Vec<CacheKey> = Vec::new();
        seen.retain(|key, _| {
            let stays = round.contains_key(key);
            if !stays {
                changed.push(key.clone());
            }
            stays
        });
        for (key, now) in round {
            let sight = seen.entry(key.clone()).or_default();
            let steady = now.complete() || sight.told.is_none() || sight.last.tells_the_same(&now);
            let news = sight
                .told
                .as_ref()
                .is_none_or(|told| !told.tells_the_same(&now));
            sight.last = now.clone();
            sight.current = declared.get(&key) == declared_now.get(&key);
            if steady && news {
                sight.told = Some(now);
                changed.push(key);
            }
        }
        changed
    }
}

/// No code panics while it holds a lock, so that what is behind it is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CacheKey {
        ("a".to_owned(), "images".to_owned())
    }

    fn round(nodes: &Nodes, ready: i32) -> usize {
        let behind = (ready..3).map(|number| (format!("n{number}"), "no answer".to_owned()));
        let seen = NodesSeen {
            ready,
            total: 3,
            behind: behind.collect(),
            trouble: None,
        };
        let declared = lock(&nodes.declared).clone();
        nodes.take(&declared, [(key(), seen)].into()).len()
    }

    /// Agents that may wire namespace `a`.
    fn with_agents() -> Nodes {
        Nodes::new(Some(Settings {
            namespace: "agents".to_owned(),
            name: "larder-node-agent".to_owned(),
            port: 5009,
            mirror: "nodes".to_owned(),
            namespaces: vec!["a".to_owned()],
        }))
    }

    fn owner(namespace: &str) -> Owner {
        Owner {
            name: "images".to_owned(),
            namespace: namespace.to_owned(),
            uid: "1".to_owned(),
        }
    }

    #[test]
    fn nodes_may_lack_what_their_agents_have_not_said_that_they_have() {
        let nodes = with_agents();
        let may_lack = || nodes.may_lack("a", "images");
        let declare = |directory: &str| {
            let wired = WiredCache {
                format: crds::node_agent::FORMAT,
                namespace: "a".to_owned(),
                cache: "images".to_owned(),
                salt: None,
                directories: [(directory.to_owned(), BTreeMap::new())].into(),
            };
            nodes.put(key(), Some(wired));
        };
        assert!(may_lack(), "nobody was asked since the start");
        assert!(!nodes.may_lack("b", "images"), "no agent may wire it");
        nodes.declare(&owner("a"), &[], &[]);
        assert!(!may_lack(), "nothing is to be wired");

        declare("docker.io");
        round(&nodes, 2);
        assert!(may_lack());
        round(&nodes, 3);
        assert!(!may_lack());
        let before = lock(&nodes.declared).clone();
        declare("quay.io");
        assert!(may_lack(), "nobody was asked since");
        let seen = NodesSeen {
            ready: 3,
            total: 3,
            ..NodesSeen::default()
        };
        nodes.take(&before, [(key(), seen)].into());
        assert!(may_lack(), "they spoke of what was declared before");
        round(&nodes, 3);
        assert!(!may_lack());
    }

    #[test]
    fn a_mirror_that_can_not_be_rendered_now_leaves_the_nodes_as_they_are() {
        let nodes = with_agents();
        nodes.declare(&owner("a"), &[], &[]);
        assert!(matches!(nodes.seen("a", "images"), Sighting::NotWired));
        nodes.declare(&owner("a"), &[], &["edge", "nodes"]);
        assert!(matches!(nodes.seen("a", "images"), Sighting::Unknown));
        nodes.declare(&owner("b"), &[], &["nodes"]);
        assert!(matches!(nodes.seen("b", "images"), Sighting::NotWired));
    }

    #[test]
    fn a_status_is_written_only_for_what_lasts() {
        let nodes = Nodes::default();
        assert_eq!(round(&nodes, 1), 1, "the first count is told at once");
        assert_eq!(round(&nodes, 1), 0);
        assert_eq!(round(&nodes, 2), 0, "the next one only when it lasts");
        assert_eq!(round(&nodes, 2), 1);
        assert_eq!(round(&nodes, 3), 1, "a full count is told at once");
        for _ in 0..3 {
            assert_eq!(round(&nodes, 2), 0);
            assert_eq!(round(&nodes, 3), 0, "a node that blinks is not told");
        }
        assert_eq!(nodes.take(&BTreeMap::new(), BTreeMap::new()), [key()]);
    }
}
