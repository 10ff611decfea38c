//! What else wakes a cache: its children and their pods and claims, the policies and Secrets it depends on, and kinds of others,
//! which may be installed later. What the watches show is kept in [`crate::memory`]; of Secrets, the metadata of our own.
//!
//! These watches run beside the controller's own, so that a failure of one, such as a kind that is uninstalled, does not slow down the others.

mod seen;

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hasher as _};

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use futures::StreamExt as _;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use kube::api::{ApiResource, DynamicObject};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::memory::{self, Memory};
use crate::observe::{CachePod, core_children, secret_names};
use crate::optional_apis::OptionalApis;
use crate::render::names;
use seen::Seen;

/// A stored object that may not be readable.
pub type GuardedCache = DeserializeGuard<RegistryCache>;
/// Likewise.
pub type GuardedPolicy = DeserializeGuard<CachePolicy>;
/// A cache to wake.
pub type CacheRef = ObjectRef<GuardedCache>;

/// Objects in one answer of a list: what the parsed ones take at a time is more than what is kept of them.
const PAGE: u32 = 100;

/// The caches of one namespace, or of all, as they are known, and the way to wake one.
#[derive(Clone)]
pub struct Scope {
    pub caches: Store<GuardedCache>,
    pub wake: mpsc::UnboundedSender<CacheRef>,
}

impl Scope {
    /// Wakes a cache in whichever of the namespaces it is.
    pub fn wake_one(scopes: &[Self], cache: CacheRef) {
        let mut knowing = scopes.iter();
        if let Some(scope) = knowing.find(|one| one.caches.get(&cache).is_some()) {
            // The receiver is gone only when the operator ends.
            let _ = scope.wake.send(cache);
        }
    }
}

/// The parts that all watches need.
#[derive(Clone)]
pub struct Wake {
    pub client: Client,
    /// `None`: all.
    pub namespace: Option<String>,
    pub caches: Store<GuardedCache>,
    pub memory: Memory,
    pub sender: mpsc::UnboundedSender<CacheRef>,
}

impl Wake {
    /// Runs all watches until dropped.
    pub async fn run(self, apis: watch::Receiver<OptionalApis>) {
        let policies = self.clone();
        let secrets = self.clone();
        let children = core_children();
        let mut policy_feed = self.feed(&ApiResource::erase::<CachePolicy>(&()), None);
        let mut pod_feed = self.feed(&ApiResource::erase::<Pod>(&()), OURS);
        let mut claim_feed = self.feed(&ApiResource::erase::<PersistentVolumeClaim>(&()), OURS);
        let secret = ApiResource::erase::<Secret>(&());
        let mut secret_feed = self.feed(&secret, OURS).bare();
        tokio::join!(
            self.watch(
                scoped::<GuardedPolicy>(&self.client, self.namespace.as_deref()),
                watcher::Config::default(),
                |event| policy_feed.take(event, memory::text_if_readable),
                // Its status is ours; only the rest wakes.
                |policy| hash(&(policy.meta().generation, policy.meta().uid.as_deref())),
                |policy| policies.caches_that(policy, |cache, name| {
                    cache.spec.policy_refs.iter().any(|one| one.name == name)
                }),
            ),
            self.watch(
                scoped::<PartialObjectMeta<Secret>>(&self.client, self.namespace.as_deref()),
                watcher::Config::default(),
                |event| {
                    secret_feed.take(event, |secret| {
                        ours(secret).then(|| memory::text(secret))?
                    });
                },
                version,
                |secret| {
                    let named = secrets.caches_that(secret, |cache, name| {
                        secret_names(cache).any(|one| one == name)
                    });
                    // Those that hold mirror configurations are the operator's own.
                    let owned = if ours(secret) {
                        belongs_to(secret)
                    } else {
                        Vec::new()
                    };
                    named.into_iter().chain(owned).collect()
                },
            ),
            self.watch(
                scoped::<Pod>(&self.client, self.namespace.as_deref()),
                managed(),
                |event| pod_feed.take(event, memory::text),
                // Not the annotations: the operator itself changes one.
                |pod| hash(&(CachePod::new(pod), pod.meta().uid.as_deref())),
                belongs_to,
            ),
            self.watch(
                scoped::<PersistentVolumeClaim>(&self.client, self.namespace.as_deref()),
                managed(),
                |event| claim_feed.take(event, memory::text),
                version,
                belongs_to,
            ),
            join_all(children.iter().map(|kind| self.children(kind))),
            self.optional_kinds(apis),
        );
    }

    fn feed(&self, resource: &ApiResource, label: memory::Label) -> memory::Feed {
        self.memory.feed(resource, self.namespace.as_deref(), label)
    }

    /// Watches one kind of objects that caches are made of.
    async fn children(&self, resource: &ApiResource) {
        let api: Api<DynamicObject> = match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, resource),
            None => Api::all_with(self.client.clone(), resource),
        };
        let mut feed = self.feed(resource, OURS);
        let feed = |event: &Event<DynamicObject>| feed.take(event, memory::text);
        self.watch(api, managed(), feed, version, belongs_to).await;
    }

    /// Watches the kinds of others that exist, anew each time that others do.
    async fn optional_kinds(&self, mut known: watch::Receiver<OptionalApis>) {
        let mut watches = JoinSet::new();
        loop {
            let found = known.borrow_and_update().clone();
            watches.shutdown().await;
            for resource in found.resources() {
                let wake = self.clone();
                watches.spawn(async move { wake.children(&resource).await });
            }
            if known.changed().await.is_err() {
                // The operator ends.
                return;
            }
            for cache in self.caches.state() {
                self.send(ObjectRef::from_obj(&*cache));
            }
        }
    }

    /// Wakes the targets of each object whose property changed, after `feed` has seen it.
    async fn watch<K>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        mut feed: impl FnMut(&Event<K>),
        property: impl Fn(&K) -> u64,
        targets: impl Fn(&K) -> Vec<CacheRef>,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut seen = Seen::default();
        let events = watcher(api, config.page_size(PAGE))
            .modify(|object| object.managed_fields_mut().clear())
            .default_backoff();
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    feed(&event);
                    for target in seen.take(&event, &property, &targets) {
                        self.send(target);
                    }
                }
                Err(error) => tracing::warn!(%error, "a watch failed and starts anew"),
            }
        }
    }

    fn send(&self, target: CacheRef) {
        // The receiver is gone only when the operator ends.
        let _ = self.sender.send(target);
    }

    /// The caches of an object's namespace for which something holds.
    fn caches_that<K: Resource>(
        &self,
        object: &K,
        refers: impl Fn(&RegistryCache, &str) -> bool,
    ) -> Vec<CacheRef> {
        let name = object.name_any();
        let namespace = object.namespace();
        self.caches
            .state()
            .iter()
            .filter(|cache| cache.namespace() == namespace)
            .filter(|cache| cache.0.as_ref().is_ok_and(|cache| refers(cache, &name)))
            .map(|cache| ObjectRef::from_obj(&**cache))
            .collect()
    }
}

/// All objects of a kind that the operator looks after.
pub fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// What [`managed`] selects.
const OURS: memory::Label = Some(names::MANAGED_BY);

/// Only the operator's own objects.
pub fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1))
}

/// Whether [`managed`] selects it.
fn ours<K: Resource>(object: &K) -> bool {
    let value = object.labels().get(names::MANAGED_BY.0);
    value.is_some_and(|value| value == names::MANAGED_BY.1)
}

/// The cache of an object, by owner or by label: either may have been changed by hand.
fn belongs_to<K: Resource>(object: &K) -> Vec<CacheRef> {
    let namespace = object.namespace().unwrap_or_default();
    let owners = object.owner_references().iter();
    let mut names: Vec<&str> = owners
        .filter(|owner| owner.kind == RegistryCache::kind(&()))
        .map(|owner| owner.name.as_str())
        .chain(object.labels().get(names::INSTANCE).map(String::as_str))
        .collect();
    names.dedup();
    names
        .into_iter()
        .map(|name| ObjectRef::new(name).within(&namespace))
        .collect()
}

fn version<K: Resource>(object: &K) -> u64 {
    hash(&object.resource_version())
}

fn hash(value: &impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
