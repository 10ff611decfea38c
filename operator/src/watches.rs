//! What else wakes a cache: policies, Secrets and pods it depends on, and the monitoring kinds, which may be installed later.
//!
//! These watches run beside the controller's own, so that a failure of one, such as a kind that is uninstalled, does not slow down the others.

mod seen;

use std::fmt::Debug;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use futures::StreamExt as _;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::DynamicObject;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::monitoring_api::{self, MonitoringApi};
use crate::observe::{CachePod, secret_names};
use crate::render::names;
use seen::Seen;

/// A stored object that may not be readable.
pub type GuardedCache = DeserializeGuard<RegistryCache>;
/// Likewise.
pub type GuardedPolicy = DeserializeGuard<CachePolicy>;
/// A cache to wake.
pub type CacheRef = ObjectRef<GuardedCache>;

/// Time between two looks at which kinds exist.
const DISCOVERY: Duration = Duration::from_secs(30);

/// The parts that all watches need.
#[derive(Clone)]
pub struct Wake {
    pub client: Client,
    /// `None`: all.
    pub namespace: Option<String>,
    pub caches: Store<GuardedCache>,
    pub sender: mpsc::UnboundedSender<CacheRef>,
}

impl Wake {
    /// Runs all watches until dropped.
    pub async fn run(self, monitoring: watch::Sender<MonitoringApi>) {
        let policies = self.clone();
        let secrets = self.clone();
        tokio::join!(
            self.watch(
                scoped::<GuardedPolicy>(&self.client, self.namespace.as_deref()),
                watcher::Config::default(),
                // Its status is ours; only the rest wakes.
                |policy| hash(&(policy.meta().generation, policy.meta().uid.as_deref())),
                |policy| policies.caches_that(policy, |cache, name| {
                    cache.spec.policy_refs.iter().any(|one| one.name == name)
                }),
            ),
            self.watch(
                scoped::<PartialObjectMeta<Secret>>(&self.client, self.namespace.as_deref()),
                watcher::Config::default(),
                version,
                |secret| {
                    let named = secrets.caches_that(secret, |cache, name| {
                        secret_names(cache).any(|one| one == name)
                    });
                    // Those that hold mirror configurations are the operator's own.
                    let ours = secret.labels().get(names::MANAGED_BY.0).map(String::as_str)
                        == Some(names::MANAGED_BY.1);
                    let owned = if ours { instance(secret) } else { Vec::new() };
                    named.into_iter().chain(owned).collect()
                },
            ),
            self.watch(
                scoped::<Pod>(&self.client, self.namespace.as_deref()),
                managed(),
                // Not the annotations: the operator itself changes one.
                |pod| hash(&(CachePod::new(pod), pod.meta().uid.as_deref())),
                instance,
            ),
            self.monitoring(monitoring),
        );
    }

    /// Looks which monitoring kinds exist, and watches those that do.
    async fn monitoring(&self, sender: watch::Sender<MonitoringApi>) {
        let mut watches = JoinSet::new();
        loop {
            match monitoring_api::discover(&self.client).await {
                Ok(found) if found != *sender.borrow() => {
                    tracing::info!(?found, "the monitoring kinds of the cluster changed");
                    sender.send_replace(found);
                    watches.shutdown().await;
                    for resource in monitoring_api::resources(found) {
                        let wake = self.clone();
                        watches.spawn(async move {
                            let api: Api<DynamicObject> = match &wake.namespace {
                                Some(namespace) => {
                                    Api::namespaced_with(wake.client.clone(), namespace, &resource)
                                }
                                None => Api::all_with(wake.client.clone(), &resource),
                            };
                            wake.watch(api, managed(), version, instance).await;
                        });
                    }
                    for cache in self.caches.state() {
                        self.send(ObjectRef::from_obj(&*cache));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "failed to look which monitoring kinds exist");
                }
            }
            tokio::time::sleep(DISCOVERY).await;
        }
    }

    /// Wakes the targets of each object whose property changed.
    async fn watch<K>(
        &self,
        api: Api<K>,
        config: watcher::Config,
        property: impl Fn(&K) -> u64,
        targets: impl Fn(&K) -> Vec<CacheRef>,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut seen = Seen::default();
        let mut events = std::pin::pin!(watcher(api, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
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

/// Only the operator's own objects.
pub fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1))
}

fn instance<K: Resource>(object: &K) -> Vec<CacheRef> {
    let name = object.labels().get(names::INSTANCE);
    let namespace = object.namespace();
    name.zip(namespace)
        .map(|(name, namespace)| ObjectRef::new(name).within(&namespace))
        .into_iter()
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
