//! The volumes of a cache: their claims, and whether their classes can make them larger.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::ObjectMeta;
use kube::{Api, Client};

use super::{Error, cached, failed};
use crate::quantity;
use crate::render::names;

/// A volume claim that the `StatefulSet`'s controller has made.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheClaim {
    pub metadata: ObjectMeta,
    /// Empty: it was made without a class.
    pub storage_class: String,
    /// Size that it asks for, as a quantity.
    pub requested: String,
    /// Size that its volume has; `None`: it has no volume yet.
    pub capacity: Option<String>,
    /// What Kubernetes says about a growth that fails.
    pub complaint: Option<String>,
}

impl CacheClaim {
    /// The parts of a claim that matter.
    pub fn new(claim: PersistentVolumeClaim) -> Self {
        let spec = claim.spec.unwrap_or_default();
        let status = claim.status.unwrap_or_default();
        let storage = |map: Option<BTreeMap<String, Quantity>>| {
            map.and_then(|mut map| map.remove("storage"))
                .map(|size| size.0)
        };
        let bound = status.phase.as_deref() == Some("Bound");
        let complaint = status.conditions.into_iter().flatten().find(|condition| {
            condition.status == "True" && condition.type_.ends_with("ResizeError")
        });
        Self {
            metadata: claim.metadata,
            storage_class: spec.storage_class_name.unwrap_or_default(),
            requested: storage(spec.resources.and_then(|one| one.requests)).unwrap_or_default(),
            capacity: storage(status.capacity).filter(|_| bound),
            complaint: complaint.and_then(|one| one.message.or(one.reason)),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it asks for less than this quantity.
    pub fn asks_for_less_than(&self, size: &str) -> bool {
        is_less(&self.requested, size)
    }

    /// Whether its volume is smaller than this quantity.
    pub fn has_less_than(&self, size: &str) -> bool {
        let capacity = self.capacity.as_deref();
        capacity.is_some_and(|capacity| is_less(capacity, size))
    }
}

fn is_less(left: &str, right: &str) -> bool {
    matches!((quantity::bytes(left), quantity::bytes(right)), (Some(l), Some(r)) if l < r)
}

/// What is known of a storage class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundClass {
    /// Its volumes can grow.
    Expandable,
    /// They can't.
    Fixed,
    Missing,
    /// The operator may not read classes, since its rights end with one namespace.
    Unreadable,
}

pub(super) async fn claims(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Vec<CacheClaim>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let list = api
        .list(&cached(&names::selector(name)))
        .await
        .map_err(failed(|| {
            format!("the volume claims of RegistryCache {namespace}/{name}")
        }))?;
    Ok(list.items.into_iter().map(CacheClaim::new).collect())
}

/// Reads the classes of claims that ask for less than `size`: at rest, none.
pub(super) async fn classes(
    client: &Client,
    claims: &[CacheClaim],
    size: &str,
) -> Result<BTreeMap<String, FoundClass>, Error> {
    let api: &Api<StorageClass> = &Api::all(client.clone());
    let names: BTreeSet<&str> = claims
        .iter()
        .filter(|claim| claim.asks_for_less_than(size) && !claim.storage_class.is_empty())
        .map(|claim| claim.storage_class.as_str())
        .collect();
    let reads = names.into_iter().map(|name| async move {
        let found = match api.get_opt(name).await {
            Ok(Some(class)) if class.allow_volume_expansion == Some(true) => FoundClass::Expandable,
            Ok(Some(_)) => FoundClass::Fixed,
            Ok(None) => FoundClass::Missing,
            Err(kube::Error::Api(status)) if status.code == 403 => FoundClass::Unreadable,
            Err(error) => return Err(failed(|| format!("StorageClass {name}"))(error)),
        };
        Ok((name.to_owned(), found))
    });
    Ok(try_join_all(reads).await?.into_iter().collect())
}
