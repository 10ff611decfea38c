//! Step 1: reads what the API server has. Decides nothing.

mod children;
mod claims;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crds::cache_policy::CachePolicy;
use crds::registry_cache::{MirrorTargetKind, RegistryCache};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ApiResource, DynamicObject, GetParams, ListParams};
use kube::core::DeserializeGuard;
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;

use crate::confidential::Confidential;
use crate::figures::Told;
use crate::nodes::Sighting;
use crate::optional_apis::OptionalApis;
use crate::render::names;

pub use claims::{CacheClaim, FoundClass};
pub use secrets::{SecretKeys, rendered_keys, secret_names, tls_secret};

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
    /// The Secrets that the cache names.
    pub secrets: SecretKeys,
    /// What is rendered of Secrets into mirror configurations, by Secret and key.
    pub secret_values: BTreeMap<(String, String), Confidential>,
    pub live: Live,
    pub pods: Vec<CachePod>,
    /// Which kinds of others the cluster has.
    pub apis: OptionalApis,
    /// PEM text of the authorities that clients shall trust, where a Secret has one. No secret.
    pub authorities: Option<String>,
    /// When all this was read, in seconds since 1970.
    pub time: i64,
    pub claims: Vec<CacheClaim>,
    /// The storage classes of claims that have to grow.
    pub classes: BTreeMap<String, FoundClass>,
    /// What the nodes said last.
    pub nodes: Sighting,
    /// Whether nodes may lack what was handed to their agents last.
    pub nodes_behind: bool,
    /// What the cache servers said last.
    pub figures: Told,
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
pub struct Live {
    objects: BTreeMap<(String, String), DynamicObject>,
    absent: BTreeSet<(String, String)>,
}

impl Live {
    /// Collects children.
    pub fn new(objects: impl IntoIterator<Item = (ApiResource, DynamicObject)>) -> Self {
        Self {
            objects: objects
                .into_iter()
                .map(|(resource, object)| ((resource.kind, object.name_any()), object))
                .collect(),
            absent: BTreeSet::new(),
        }
    }

    /// One child.
    pub fn get(&self, kind: &str, name: &str) -> Option<&DynamicObject> {
        self.objects.get(&(kind.to_owned(), name.to_owned()))
    }

    /// Whether it was looked for by its name and is not there. Of what is neither here nor absent, only the cache's own was looked for.
    pub fn is_absent(&self, kind: &str, name: &str) -> bool {
        self.absent.contains(&(kind.to_owned(), name.to_owned()))
    }

    /// All children with their kinds.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &DynamicObject)> {
        self.objects
            .iter()
            .map(|((kind, _), object)| (kind.as_str(), object))
    }

    /// Names and addresses that a load balancer gave to the clients' Service.
    pub fn balancer_names(&self, cache: &str) -> Vec<&str> {
        let balancers = self
            .get("Service", cache)
            .and_then(|service| service.data.pointer("/status/loadBalancer/ingress"))
            .and_then(|list| list.as_array());
        balancers
            .into_iter()
            .flatten()
            .flat_map(|one| [one["hostname"].as_str(), one["ip"].as_str()])
            .flatten()
            .collect()
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
    /// When somebody asked for its restart.
    pub restarted_at: Option<String>,
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
            restarted_at: pod.annotations().get(names::RESTARTED_AT).cloned(),
        }
    }
}

/// The kinds of children that every cluster has.
pub fn core_children() -> [ApiResource; 7] {
    [
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<StatefulSet>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<NetworkPolicy>(&()),
        ApiResource::erase::<Ingress>(&()),
    ]
}

/// What every look at a cache reads and every cluster has, and is therefore watched as a whole.
pub fn watched() -> Vec<ApiResource> {
    let mut all = core_children().to_vec();
    all.push(ApiResource::erase::<CachePolicy>(&()));
    all.push(ApiResource::erase::<Pod>(&()));
    all.push(ApiResource::erase::<PersistentVolumeClaim>(&()));
    all
}

/// Reads the cache and all that it refers to or owns. `None`: the cache is gone, or going.
pub async fn observe(
    client: &Client,
    namespace: &str,
    name: &str,
    apis: OptionalApis,
) -> Result<Option<Observed>, Error> {
    let caches: Api<RegistryCache> = Api::namespaced(client.clone(), namespace);
    let found = get(&caches, name)
        .await
        .map_err(failed(|| format!("RegistryCache {namespace}/{name}")))?;
    let Some(cache) = found.filter(|cache| cache.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let (policies, secrets, live, pods, claims) = tokio::try_join!(
        policies(client, namespace, &cache),
        secrets::secrets(client, namespace, &cache),
        children::children(client, namespace, &cache, &apis),
        pods(client, namespace, name),
        claims::claims(client, namespace, name),
    )?;
    let volume = cache.spec.storage.local_volume();
    let classes = match volume {
        Some((volume, _)) => claims::classes(client, &claims, &volume.size.0).await?,
        None => BTreeMap::new(),
    };
    Ok(Some(Observed {
        cache,
        policies,
        secrets: secrets.keys,
        secret_values: secrets.values,
        live,
        pods,
        claims,
        apis,
        authorities: secrets.authorities,
        time: Timestamp::now().as_second(),
        classes,
        nodes: Sighting::default(),
        nodes_behind: false,
        figures: Told::default(),
    }))
}

async fn policies(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
) -> Result<BTreeMap<String, FoundPolicy>, Error> {
    let api: &Api<DeserializeGuard<CachePolicy>> = &Api::namespaced(client.clone(), namespace);
    let reads = cache.spec.policy_refs.iter().map(|reference| async move {
        let found = get(api, &reference.name).await.map_err(failed(|| {
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

/// The kind of object that holds a mirror configuration.
pub fn mirror_resource(kind: MirrorTargetKind) -> ApiResource {
    match kind {
        MirrorTargetKind::ConfigMap => ApiResource::erase::<ConfigMap>(&()),
        MirrorTargetKind::Secret => ApiResource::erase::<Secret>(&()),
    }
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

/// A list of what watches have shown, or from the API server's cache. It may be a moment old; whatever it lacks comes as an event, which wakes the cache again.
fn cached(selector: &str) -> ListParams {
    ListParams::default().labels(selector).match_any()
}

/// An object in a version that a watch has shown, or in the latest one if none has ([`crate::memory`]).
pub async fn get<K>(api: &Api<K>, name: &str) -> Result<Option<K>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    match api.get_with(name, &GetParams::any()).await {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

fn failed(what: impl FnOnce() -> String) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Read {
        what: what(),
        source: Box::new(source),
    }
}
