//! Whether volume claims go with their cache.
//!
//! The claims are the `StatefulSet`'s, but their fate is the cache's: a `StatefulSet` that was deleted by hand comes back and
//! finds its content again. So its own retention policy is always `Retain`, and `Delete` is an owner reference to the cache.

use crds::registry_cache::{OnDelete, RegistryCache};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource as _};
use serde_json::json;

use super::Error;
use crate::FIELD_MANAGER;
use crate::observe::CacheClaim;
use crate::render::names::Owner;

/// Writes the owner references that differ.
pub async fn own(
    client: &Client,
    owner: &Owner,
    on_delete: OnDelete,
    claims: &[CacheClaim],
) -> Result<(), Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &owner.namespace);
    for claim in claims {
        let present = claim.metadata.owner_references.as_deref();
        let Some(references) = references(present.unwrap_or_default(), owner, on_delete) else {
            continue;
        };
        let name = claim.name();
        // With the version that was read: a reference that somebody adds meanwhile must not be lost.
        let patch = json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version,
            "ownerReferences": references,
        }});
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch_metadata(name, &parameters, &Patch::Merge(patch))
            .await
            .map_err(|source| Error::Write {
                kind: "PersistentVolumeClaim".to_owned(),
                namespace: owner.namespace.clone(),
                name: name.to_owned(),
                source: Box::new(source),
            })?;
    }
    Ok(())
}

/// The references that the claim should have; `None`: it has them.
pub(super) fn references(
    present: &[OwnerReference],
    owner: &Owner,
    on_delete: OnDelete,
) -> Option<Vec<OwnerReference>> {
    let kind = RegistryCache::kind(&());
    let is_ours =
        |reference: &OwnerReference| reference.kind == kind && reference.name == owner.name;
    let mut wanted: Vec<OwnerReference> = present
        .iter()
        .filter(|reference| !is_ours(reference))
        .cloned()
        .collect();
    if on_delete == OnDelete::Delete {
        wanted.push(OwnerReference {
            api_version: RegistryCache::api_version(&()).into_owned(),
            kind: kind.into_owned(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        });
    }
    let same = wanted.len() == present.len()
        && wanted.iter().all(|reference| {
            present
                .iter()
                .any(|other| other.uid == reference.uid && other.name == reference.name)
        });
    (!same).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner {
            name: "cache".to_owned(),
            namespace: "team-a".to_owned(),
            uid: "1".to_owned(),
        }
    }

    fn foreign() -> OwnerReference {
        OwnerReference {
            kind: "Backup".to_owned(),
            name: "nightly".to_owned(),
            uid: "9".to_owned(),
            ..OwnerReference::default()
        }
    }

    #[test]
    fn claim_of_a_cache_that_deletes_goes_with_it() {
        let wanted = references(&[foreign()], &owner(), OnDelete::Delete).unwrap();
        assert_eq!(wanted.len(), 2);
        assert_eq!(wanted[1].uid, "1");
        assert_eq!(references(&wanted, &owner(), OnDelete::Delete), None);
    }

    #[test]
    fn claim_of_a_cache_that_retains_is_let_go() {
        let owned = references(&[foreign()], &owner(), OnDelete::Delete).unwrap();
        assert_eq!(
            references(&owned, &owner(), OnDelete::Retain),
            Some(vec![foreign()])
        );
        assert_eq!(references(&[foreign()], &owner(), OnDelete::Retain), None);
    }

    #[test]
    fn reference_to_an_earlier_cache_of_the_name_is_replaced() {
        let earlier = Owner {
            uid: "0".to_owned(),
            ..owner()
        };
        let old = references(&[], &earlier, OnDelete::Delete).unwrap();
        let new = references(&old, &owner(), OnDelete::Delete).unwrap();
        assert_eq!((new.len(), new[0].uid.as_str()), (1, "1"));
    }
}
