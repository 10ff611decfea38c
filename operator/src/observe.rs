//! Step 1: reads what the API server has. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use crds::cache_policy::CachePolicy;
use crds::registry_cache::RegistryCache;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service};
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::{Api, Client, ResourceExt as _};

use crate::monitoring_api::{self, MonitoringApi};
use crate::render::names;

/// Why the cluster could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {what}")]
    Read {
        what: String,
        source: Box<kube::Error>,
    },
}

/// Everything that the next steps look at.
#[derive(Debug, Clone)]
pub struct Observed {
    pub cache: RegistryCache,
    /// The policies that the cache names.
    pub policies: BTreeMap<String, FoundPolicy>,
    /// Keys of the Secrets that the cache names; `None`: there is no such Secret.
    pub secrets: BTreeMap<String, Option<BTreeSet<String>>>,
    pub live: Live,
    pub pods: Vec<CachePod>,
    pub claims: Vec<PartialObjectMeta<PersistentVolumeClaim>>,
    pub monitoring: MonitoringApi,
}

/// What a reference to a policy leads to.
#[derive(Debug, Clone)]
pub enum FoundPolicy {
    Found(Box<CachePolicy>),
    Missing,
    /// It was stored under another version of the schema, and can't be read.
    Malformed(String),
}

/// Children as they are, by kind and name.
#[derive(Debug, Clone, Default)]
pub struct Live(BTreeMap<(String, String), DynamicObject>);

impl Live {
    /// Collects children.
    pub fn new(objects: impl IntoIterator<Item = (ApiResource, DynamicObject)>) -> Self {
        Self(
            objects
                .into_iter()
                .map(|(resource, object)| ((resource.kind, object.name_any()), object))
                .collect(),
        )
    }

    /// One child.
    pub fn get(&self, kind: &str, name: &str) -> Option<&DynamicObject> {
        self.0.get(&(kind.to_owned(), name.to_owned()))
    }

    /// All children with their kinds.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DynamicObject)> {
        self.0
            .iter()
            .map(|((kind, _), object)| (kind.as_str(), object))
    }

    /// Address of the clients' Service, once it has one.
    pub fn cluster_ip(&self, cache: &str) -> Option<&str> {
        self.get("Service", cache)?
            .data
            .pointer("/spec/clusterIP")?
            .as_str()
            .filter(|ip| !ip.is_empty() && *ip != "None")
    }
}

/// A pod of the cache, as far as the policy's way to it matters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CachePod {
    pub name: String,
    /// Its address, once its container runs.
    pub running_at: Option<String>,
    pub ready: bool,
    pub deleting: bool,
}

impl CachePod {
    /// The parts of a pod that matter.
    pub fn new(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let container_runs = status
            .and_then(|status| status.container_statuses.as_ref())
            .is_some_and(|all| {
                all.iter()
                    .any(|one| one.state.as_ref().is_some_and(|s| s.running.is_some()))
            });
        let ready = status
            .and_then(|status| status.conditions.as_ref())
            .is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"));
        Self {
            name: pod.name_any(),
            running_at: status
                .and_then(|status| status.pod_ip.clone())
                .filter(|_| container_runs),
            ready,
            deleting: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// The kinds of children that every cluster has.
pub fn core_children() -> [ApiResource; 3] {
    [
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<StatefulSet>(&()),
    ]
}

/// Reads the cache and all that it refers to or owns. `None`: the cache is gone, or going.
pub async fn observe(
    client: &Client,
    namespace: &str,
    name: &str,
    monitoring: MonitoringApi,
) -> Result<Option<Observed>, Error> {
    let caches: Api<RegistryCache> = Api::namespaced(client.clone(), namespace);
    let found = caches
        .get_opt(name)
        .await
        .map_err(failed(|| format!("RegistryCache {namespace}/{name}")))?;
    let Some(cache) = found.filter(|cache| cache.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let (policies, secrets, children, mirrors, pods, claims) = tokio::try_join!(
        policies(client, namespace, &cache),
        secrets(client, namespace, &cache),
        children(client, namespace, &cache, monitoring),
        mirrors(client, namespace, name),
        pods(client, namespace, name),
        claims(client, namespace, name),
    )?;
    Ok(Some(Observed {
        cache,
        policies,
        secrets,
        // What was read by name is newer than what was listed, so it comes last.
        live: Live::new(mirrors.into_iter().chain(children)),
        pods,
        claims,
        monitoring,
    }))
}

async fn policies(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
) -> Result<BTreeMap<String, FoundPolicy>, Error> {
    let api: &Api<DeserializeGuard<CachePolicy>> = &Api::namespaced(client.clone(), namespace);
    let reads = cache.spec.policy_refs.iter().map(|reference| async move {
        let found = api.get_opt(&reference.name).await.map_err(failed(|| {
            format!("CachePolicy {namespace}/{}", reference.name)
        }))?;
        let found = match found {
            Some(DeserializeGuard(Ok(policy))) => FoundPolicy::Found(Box::new(policy)),
            Some(DeserializeGuard(Err(invalid))) => FoundPolicy::Malformed(invalid.error),
            None => FoundPolicy::Missing,
        };
        Ok((reference.name.clone(), found))
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}

/// Only the names of the keys leave this function.
async fn secrets(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
) -> Result<BTreeMap<String, Option<BTreeSet<String>>>, Error> {
    let api: &Api<Secret> = &Api::namespaced(client.clone(), namespace);
    let names: BTreeSet<&str> = secret_names(cache).collect();
    let reads = names.into_iter().map(|name| async move {
        let secret = api
            .get_opt(name)
            .await
            .map_err(failed(|| format!("Secret {namespace}/{name}")))?;
        let keys = secret.map(|secret| secret.data.unwrap_or_default().into_keys().collect());
        Ok((name.to_owned(), keys))
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}

/// Names of the Secrets that a cache refers to.
pub fn secret_names(cache: &RegistryCache) -> impl Iterator<Item = &str> {
    let bucket = cache.spec.storage.object_storage.iter().flat_map(|bucket| {
        let credentials = bucket.credentials_secret_ref.iter().map(|one| &one.name);
        credentials
            .chain(bucket.ca_secret_ref.iter().map(|one| &one.name))
            .map(String::as_str)
    });
    let upstreams = cache.spec.upstreams.iter().flat_map(|upstream| {
        let authorities = upstream.ca_secret_ref.iter().map(|one| &one.name);
        let credentials = upstream.credentials.iter().map(|one| &one.secret_ref.name);
        let certificate = upstream.client_certificate.iter();
        authorities
            .chain(credentials)
            .chain(certificate.map(|one| &one.secret_ref.name))
            .map(String::as_str)
    });
    upstreams.chain(bucket)
}

/// Reads each child that the cache may have by its name: cheap for the API server, and never an old state of it.
async fn children(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
    monitoring: MonitoringApi,
) -> Result<Vec<(ApiResource, DynamicObject)>, Error> {
    let name = cache.name_any();
    let [config_map, service, stateful_set] = core_children();
    let mirrors = cache
        .spec
        .mirrors
        .iter()
        .map(|mirror| (config_map.clone(), names::mirror(&name, &mirror.name)));
    let monitoring = monitoring_api::resources(monitoring).map(|kind| (kind, name.clone()));
    let children = [
        (config_map.clone(), names::config_map(&name)),
        (service.clone(), name.clone()),
        (service, names::pods_service(&name)),
        (stateful_set, name.clone()),
    ];
    let reads =
        children
            .into_iter()
            .chain(mirrors)
            .chain(monitoring)
            .map(|(resource, name)| async move {
                let api: Api<DynamicObject> =
                    Api::namespaced_with(client.clone(), namespace, &resource);
                let found = api
                    .get_opt(&name)
                    .await
                    .map_err(failed(|| format!("{} {namespace}/{name}", resource.kind)))?;
                Ok(found.map(|object| (resource, object)))
            });
    Ok(try_join_all(reads).await?.into_iter().flatten().collect())
}

/// Lists the mirror configurations that exist, for those that are no longer declared.
async fn mirrors(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Vec<(ApiResource, DynamicObject)>, Error> {
    let [resource, ..] = core_children();
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let list = api
        .list(&cached(&names::mirror_selector(name)))
        .await
        .map_err(failed(|| {
            format!("the mirrors of RegistryCache {namespace}/{name}")
        }))?;
    Ok(list
        .items
        .into_iter()
        .map(|object| (resource.clone(), object))
        .collect())
}

async fn pods(client: &Client, namespace: &str, name: &str) -> Result<Vec<CachePod>, Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list(&cached(&names::selector(name)))
        .await
        .map_err(failed(|| {
            format!("the pods of RegistryCache {namespace}/{name}")
        }))?;
    Ok(list.items.iter().map(CachePod::new).collect())
}

/// Lists the volume claims that the `StatefulSet`'s controller has made, without their specifications.
async fn claims(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Vec<PartialObjectMeta<PersistentVolumeClaim>>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list_metadata(&cached(&names::selector(name)))
        .await
        .map_err(failed(|| {
            format!("the volume claims of RegistryCache {namespace}/{name}")
        }))?;
    Ok(list.items)
}

/// A list from the API server's cache. It may be a moment old; whatever it lacks comes as an event, which wakes the cache again.
fn cached(selector: &str) -> ListParams {
    ListParams::default().labels(selector).match_any()
}

fn failed(what: impl FnOnce() -> String) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Read {
        what: what(),
        source: Box::new(source),
    }
}
