//! Step 4: writes what was rendered where the cluster differs, and removes what is no longer rendered.

pub mod claims;
pub mod difference;
pub mod grow;
pub mod plan;

use std::collections::BTreeSet;

use crds::registry_cache::MirrorTargetKind;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::FIELD_MANAGER;
use crate::observe::{Live, core_children, mirror_resource};
use crate::optional_apis::{OptionalApis, OptionalKind};
use crate::render::names::{self, MirrorTarget, Owner};
use crate::render::{Manifest, MirrorObject, Rendered};

/// Why the cluster could not be brought in line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "failed to apply {kind} {namespace}/{name}: it exists and does not belong to this RegistryCache; delete it, or make the RegistryCache under another name"
    )]
    NotOwned {
        kind: String,
        namespace: String,
        name: String,
    },
    #[error(
        "failed to apply {kind} {namespace}/{name}: one of an earlier RegistryCache of this name is still being removed"
    )]
    Leftover {
        kind: String,
        namespace: String,
        name: String,
    },
    #[error("failed to apply {kind} {namespace}/{name}")]
    Write {
        kind: String,
        namespace: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error("failed to delete {kind} {namespace}/{name}, which is no longer wanted")]
    Prune {
        kind: String,
        namespace: String,
        name: String,
        source: Box<kube::Error>,
    },
    #[error(
        "failed to make the volume of PersistentVolumeClaim {namespace}/{name} larger, of StorageClass {class}{hint}"
    )]
    Grow {
        namespace: String,
        name: String,
        class: String,
        /// Empty, or a subordinate clause.
        hint: &'static str,
        source: Box<kube::Error>,
    },
    #[error("failed to render")]
    Render { source: crate::render::Error },
    #[error("failed to read the StatefulSet that the API server returned")]
    StatefulSet { source: serde_json::Error },
}

impl Error {
    /// Whether it is about that object.
    pub fn is_of(&self, object_kind: &str, object_name: &str) -> bool {
        match self {
            Self::NotOwned { kind, name, .. }
            | Self::Leftover { kind, name, .. }
            | Self::Write { kind, name, .. }
            | Self::Prune { kind, name, .. } => kind == object_kind && name == object_name,
            Self::Grow { .. } | Self::Render { .. } | Self::StatefulSet { .. } => false,
        }
    }
}

/// The cluster has what was rendered, but for the failures that are listed.
#[derive(Debug, Default)]
pub struct Applied {
    /// `None`: it is among the failures.
    pub stateful_set: Option<StatefulSet>,
    /// The route through the Gateways, with what they say of it.
    pub route: Option<DynamicObject>,
    /// Whether the policy that the pods must take is a new one.
    pub policy_changed: bool,
    /// The mirror configurations that exist as rendered.
    pub mirrors: Vec<MirrorTarget>,
    /// Failures that did not stop the rest: a Service that can't be written must not keep a policy from the pods.
    pub failures: Vec<Error>,
    /// Failures of objects without which the cache serves.
    pub optional_failures: Vec<Error>,
    /// The restart of the pods that this began.
    pub rollout: Option<plan::Plan>,
    /// Nothing was changed, because the cache is suspended: objects that are not as declared.
    pub suspended: Option<Vec<String>>,
}

/// Applies.
pub async fn apply(
    client: &Client,
    owner: &Owner,
    live: &Live,
    rendered: Rendered,
    apis: &OptionalApis,
) -> Result<Applied, Error> {
    let step = Step {
        client,
        owner,
        live,
    };
    let mirrors = mirror_targets(&rendered);
    let kept = rendered.kept.clone();
    let mut applied = Applied {
        policy_changed: policy_changed(&rendered, live),
        ..Applied::default()
    };
    let manifests = rendered
        .into_apply_order()
        .map_err(|source| Error::Render { source })?;
    let wanted: BTreeSet<(String, String)> = manifests
        .iter()
        .map(|manifest| (manifest.resource.kind.clone(), manifest.name.clone()))
        .chain(
            kept.into_iter()
                .map(|target| (target.kind.as_str().to_owned(), target.name)),
        )
        .collect();
    for manifest in manifests {
        match step.ensure(&manifest).await {
            Ok(object) => {
                if manifest.resource.kind == "StatefulSet" {
                    applied.stateful_set = Some(stateful_set(&object)?);
                }
                if manifest.resource.kind == OptionalKind::HttpRoute.name() {
                    applied.route = Some(object);
                }
                let (kind, name) = (&manifest.resource.kind, &manifest.name);
                let is_this = |one: &&MirrorTarget| one.kind.as_str() == kind && one.name == *name;
                applied
                    .mirrors
                    .extend(mirrors.iter().find(is_this).cloned());
            }
            // Without the files that they mount, nothing else makes sense.
            Err(error) if manifest.name == names::config_map(&owner.name) => return Err(error),
            Err(error) if manifest.optional => applied.optional_failures.push(error),
            Err(error) => applied.failures.push(error),
        }
    }
    let resources = core_children()
        .into_iter()
        .chain([mirror_resource(MirrorTargetKind::Secret)])
        .chain(apis.resources());
    for resource in resources {
        step.prune(&resource, &wanted, &mut applied.failures).await;
    }
    Ok(applied)
}

/// Changes nothing, and tells how what is live differs from what was rendered.
pub fn compare(owner: &Owner, live: &Live, rendered: Rendered) -> Result<Applied, Error> {
    let mut applied = Applied {
        mirrors: mirror_targets(&rendered),
        route: live
            .get(OptionalKind::HttpRoute.name(), &owner.name)
            .cloned(),
        ..Applied::default()
    };
    let kept = rendered.kept.clone();
    if let Some(object) = live.get("StatefulSet", &owner.name) {
        applied.stateful_set = Some(stateful_set(object)?);
    }
    let manifests = rendered
        .into_apply_order()
        .map_err(|source| Error::Render { source })?;
    let differs = |manifest: &&Manifest| {
        let object = live.get(&manifest.resource.kind, &manifest.name);
        object.is_none_or(|object| difference(manifest, object).is_some())
    };
    let to_write = manifests.iter().filter(differs);
    let to_write = to_write.map(|one| format!("{} {}", one.resource.kind, one.name));
    let to_remove = live.iter().filter(|(kind, object)| {
        let name = object.name_any();
        let wanted = |one: &Manifest| one.resource.kind == *kind && one.name == name;
        let is_kept = |one: &MirrorTarget| one.kind.as_str() == *kind && one.name == name;
        let stays = manifests.iter().any(wanted) || kept.iter().any(is_kept);
        is_ours(owner, kind, object) && !stays
    });
    let to_remove =
        to_remove.map(|(kind, one)| format!("{kind} {} (to be removed)", one.name_any()));
    applied.suspended = Some(to_write.chain(to_remove).collect());
    Ok(applied)
}

/// Applies what a certificate needs to be issued, up to the first failure, and removes nothing.
pub async fn before_certificate(
    client: &Client,
    owner: &Owner,
    live: &Live,
    rendered: Rendered,
) -> Result<(), Error> {
    let manifests = rendered
        .before_certificate()
        .map_err(|source| Error::Render { source })?;
    let step = Step {
        client,
        owner,
        live,
    };
    for manifest in manifests {
        step.ensure(&manifest).await?;
    }
    Ok(())
}

fn mirror_targets(rendered: &Rendered) -> Vec<MirrorTarget> {
    rendered.mirrors.iter().map(MirrorObject::target).collect()
}

fn stateful_set(object: &DynamicObject) -> Result<StatefulSet, Error> {
    serde_json::to_value(object)
        .and_then(serde_json::from_value)
        .map_err(|source| Error::StatefulSet { source })
}

fn policy_changed(rendered: &Rendered, live: &Live) -> bool {
    let hash = |annotations: &std::collections::BTreeMap<String, String>| {
        annotations.get(names::POLICY_HASH).cloned()
    };
    let before = live
        .get("ConfigMap", &rendered.config_map.name_any())
        .and_then(|object| hash(object.annotations()));
    before.is_some() && before != hash(rendered.config_map.annotations())
}

struct Step<'a> {
    client: &'a Client,
    owner: &'a Owner,
    live: &'a Live,
}

impl Step<'_> {
    fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.owner.namespace, resource)
    }

    /// The object as it is. Whether another has its name is found out before one is made.
    async fn look(&self, manifest: &Manifest) -> Result<Option<DynamicObject>, kube::Error> {
        let (kind, name) = (&manifest.resource.kind, &manifest.name);
        if let Some(live) = self.live.get(kind, name) {
            return Ok(Some(live.clone()));
        }
        if self.live.is_absent(kind, name) {
            return Ok(None);
        }
        self.api(&manifest.resource).get_opt(name).await
    }

    /// The object as it is afterwards.
    async fn ensure(&self, manifest: &Manifest) -> Result<DynamicObject, Error> {
        let kind = &manifest.resource.kind;
        let (namespace, name) = (&self.owner.namespace, &manifest.name);
        let failed = |source| Error::Write {
            kind: kind.clone(),
            namespace: namespace.clone(),
            name: name.clone(),
            source: Box::new(source),
        };
        let live = self.look(manifest).await.map_err(failed)?;
        let uid = live.as_ref().and_then(ResourceExt::uid);
        if let Some(live) = live {
            check_owner(self.owner, kind, &live)?;
            // What is on its way out can't be kept; it is made anew when it is gone.
            if live.metadata.deletion_timestamp.is_some() {
                return Ok(live);
            }
            let Some(difference) = difference(manifest, &live) else {
                return Ok(live);
            };
            tracing::info!(%namespace, %name, %kind, %difference, "applying {kind} {namespace}/{name}");
        } else {
            tracing::info!(%namespace, %name, %kind, "creating {kind} {namespace}/{name}");
        }
        match Box::pin(self.write(manifest, uid)).await {
            // What was seen is gone, or another has its name.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let api = self.api(&manifest.resource);
                let live = api.get_opt(name).await.map_err(failed)?;
                if let Some(live) = &live {
                    check_owner(self.owner, kind, live)?;
                }
                let uid = live.and_then(|live| live.uid());
                Box::pin(self.write(manifest, uid)).await.map_err(failed)
            }
            written => written.map_err(failed),
        }
    }

    /// `uid`: of the object that was seen. One that took its name meanwhile is not ours to change.
    async fn write(
        &self,
        manifest: &Manifest,
        uid: Option<String>,
    ) -> Result<DynamicObject, kube::Error> {
        let api = self.api(&manifest.resource);
        let mut body = with_type(manifest);
        if let Some(uid) = uid {
            body["metadata"]["uid"] = Value::String(uid);
        }
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api
            .patch(&manifest.name, &parameters, &Patch::Apply(&body))
            .await;
        let repairable = match &applied {
            Ok(object) => difference(manifest, object).is_some(),
            Err(kube::Error::Api(status)) => status.code == 422,
            Err(_) => false,
        };
        if !repairable {
            return applied;
        }
        // Somebody changed the key of a list's element, such as a Service's port: server-side apply adds ours beside theirs.
        // A merge patch replaces the whole list.
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match api
            .patch(&manifest.name, &parameters, &Patch::Merge(&body))
            .await
        {
            Ok(object) => Ok(object),
            Err(_) if applied.is_err() => applied,
            Err(error) => Err(error),
        }
    }

    /// Deletes our objects of a kind that are not wanted.
    async fn prune(
        &self,
        resource: &ApiResource,
        wanted: &BTreeSet<(String, String)>,
        failures: &mut Vec<Error>,
    ) {
        for (kind, object) in self.live.iter() {
            let name = object.name_any();
            if kind != resource.kind
                || wanted.contains(&(kind.to_owned(), name.clone()))
                || object.metadata.deletion_timestamp.is_some()
                || !is_ours(self.owner, kind, object)
            {
                continue;
            }
            // Not another object that took the name meanwhile.
            let parameters = DeleteParams::background().preconditions(Preconditions {
                uid: object.uid(),
                resource_version: None,
            });
            match self.api(resource).delete(&name, &parameters).await {
                Ok(_) => {
                    let namespace = &self.owner.namespace;
                    tracing::info!(%namespace, %name, %kind, "removed {kind} {namespace}/{name}, which is no longer wanted");
                }
                Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {}
                Err(source) => {
                    failures.push(Error::Prune {
                        kind: kind.to_owned(),
                        namespace: self.owner.namespace.clone(),
                        name,
                        source: Box::new(source),
                    });
                }
            }
        }
    }
}

/// Whether the live object is the cache's.
fn check_owner(owner: &Owner, kind: &str, live: &DynamicObject) -> Result<(), Error> {
    let controller = live
        .owner_references()
        .iter()
        .find(|reference| reference.controller == Some(true));
    let (kind, namespace, name) = (kind.to_owned(), owner.namespace.clone(), live.name_any());
    match controller {
        Some(reference) if reference.uid == owner.uid => Ok(()),
        Some(reference) if reference.kind == "RegistryCache" && reference.name == owner.name => {
            Err(Error::Leftover {
                kind,
                namespace,
                name,
            })
        }
        Some(_) | None => Err(Error::NotOwned {
            kind,
            namespace,
            name,
        }),
    }
}

/// Whether it is the cache's, and was made by an operator.
fn is_ours(owner: &Owner, kind: &str, live: &DynamicObject) -> bool {
    let (label, value) = names::MANAGED_BY;
    let managed = live.labels().get(label).is_some_and(|found| found == value);
    managed && check_owner(owner, kind, live).is_ok()
}

/// Why the object must be written; `None`: it need not be.
fn difference(manifest: &Manifest, live: &DynamicObject) -> Option<String> {
    let Ok(live) = serde_json::to_value(live) else {
        return Some("unreadable".to_owned());
    };
    difference::first_difference(&without_type(&manifest.body), &live)
}

/// Items of a list come without their type.
fn without_type(body: &Value) -> Value {
    let mut body = body.clone();
    if let Value::Object(map) = &mut body {
        map.remove("apiVersion");
        map.remove("kind");
    }
    body
}

fn with_type(manifest: &Manifest) -> Value {
    let mut body = manifest.body.clone();
    body["apiVersion"] = Value::String(manifest.resource.api_version.clone());
    body["kind"] = Value::String(manifest.resource.kind.clone());
    body
}
