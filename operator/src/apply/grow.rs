//! Carries out the next step of a growth. Each can be repeated: what it does is seen in the cluster, and nowhere else remembered.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::json;

use super::{Error, claims};
use crate::FIELD_MANAGER;
use crate::render::names::{self, Owner};
use crate::resolve::{Growth, SmallClaim};
use crds::registry_cache::OnDelete;

/// Does what can be done now.
pub async fn carry_out(
    client: &Client,
    owner: &Owner,
    growth: &Growth,
    size: &str,
) -> Result<(), Error> {
    match growth {
        Growth::Claims(all) => {
            for claim in all {
                raise(client, owner, claim, size).await?;
            }
            Ok(())
        }
        Growth::Replace { uid } => {
            keep_pods(client, owner).await?;
            release(client, owner, uid).await
        }
        Growth::Done | Growth::Removal | Growth::Volumes(_) | Growth::Stuck(_) => Ok(()),
    }
}

async fn raise(
    client: &Client,
    owner: &Owner,
    claim: &SmallClaim,
    size: &str,
) -> Result<(), Error> {
    let (namespace, name) = (&owner.namespace, &claim.name);
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    // With the UID: not another claim that took the name meanwhile.
    let patch = json!({
        "metadata": {"uid": claim.uid},
        "spec": {"resources": {"requests": {"storage": size}}},
    });
    tracing::info!(%namespace, %name, %size, "growing PersistentVolumeClaim {namespace}/{name}");
    match api.patch(name, &merge(), &Patch::Merge(patch)).await {
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Grow {
            namespace: namespace.clone(),
            name: name.clone(),
            class: claim.storage_class.clone(),
            hint: if claim.known {
                ""
            } else {
                ", about which the operator can't know more, since it may not read storage classes"
            },
            source: Box::new(source),
        }),
    }
}

/// While the set is away, its pods would have no owner, and would outlive a cache that is deleted at that moment. So they get the cache as one more.
async fn keep_pods(client: &Client, owner: &Owner) -> Result<(), Error> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &owner.namespace);
    let selector = ListParams::default().labels(&names::selector(&owner.name));
    let pods = api
        .list_metadata(&selector)
        .await
        .map_err(|source| failed(owner, "Pods of", &owner.name, source))?;
    for pod in &pods.items {
        let present = pod.owner_references();
        let Some(references) = claims::references(present, owner, OnDelete::Delete) else {
            continue;
        };
        let name = pod.name_any();
        let patch = json!({"metadata": {
            "resourceVersion": pod.resource_version(),
            "ownerReferences": references,
        }});
        match api
            .patch_metadata(&name, &merge(), &Patch::Merge(patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(source) => return Err(failed(owner, "Pod", &name, source)),
        }
    }
    Ok(())
}

/// Removes the set and leaves its pods.
async fn release(client: &Client, owner: &Owner, uid: &str) -> Result<(), Error> {
    let (namespace, name) = (&owner.namespace, &owner.name);
    let api: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    }
    .preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    tracing::info!(%namespace, %name, "replacing StatefulSet {namespace}/{name} under its pods, because its claims grow");
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(source) => Err(failed(owner, &StatefulSet::kind(&()), name, source)),
    }
}

fn merge() -> PatchParams {
    PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn failed(owner: &Owner, kind: &str, name: &str, source: kube::Error) -> Error {
    Error::Write {
        kind: kind.to_owned(),
        namespace: owner.namespace.clone(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}
