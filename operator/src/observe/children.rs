//! What there is of a cache's children.

use std::collections::BTreeSet;

use crds::registry_cache::{MirrorTargetKind, RegistryCache};
use futures::future::{try_join, try_join_all};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt as _};

use super::{Error, Live, cached, core_children, failed, get, mirror_resource};
use crate::optional_apis::OptionalApis;
use crate::render::names;

type Found = (ApiResource, DynamicObject);

/// Reads by name what every cache has, so that what is not ours is found too, and lists the rest: what a watch shows costs nothing,
/// and neither does what is not there.
pub(super) async fn children(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
    apis: &OptionalApis,
) -> Result<Live, Error> {
    let name = cache.name_any();
    let names = by_name(cache);
    let reads = names.iter().map(|(resource, name)| async move {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let found = get(&api, name)
            .await
            .map_err(failed(|| format!("{} {namespace}/{name}", resource.kind)))?;
        Ok(found.map(|object| (resource.clone(), object)))
    });
    let selector = &names::selector(&name);
    let lists = core_children().into_iter().chain(apis.resources());
    let lists = lists.map(|resource| list(client, namespace, resource, selector));
    let (read, (listed, secrets)) = try_join(
        try_join_all(reads),
        try_join(
            try_join_all(lists),
            mirrors_in_secrets(client, namespace, &name),
        ),
    )
    .await?;
    let absent = names.iter().zip(&read);
    let absent: BTreeSet<_> = absent
        .filter(|(_, found)| found.is_none())
        .map(|((resource, name), _)| (resource.kind.clone(), name.clone()))
        .collect();
    let listed = listed.into_iter().flatten().chain(secrets);
    // What was read by name is newer than what was listed, so it comes last.
    let mut live = Live::new(listed.chain(read.into_iter().flatten()));
    live.objects.retain(|key, _| !absent.contains(key));
    live.absent = absent;
    Ok(live)
}

fn by_name(cache: &RegistryCache) -> Vec<(ApiResource, String)> {
    let name = cache.name_any();
    let (config_map, service) = (
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Service>(&()),
    );
    let mut all = vec![
        (config_map.clone(), names::config_map(&name)),
        (service.clone(), name.clone()),
        (service, names::pods_service(&name)),
        (ApiResource::erase::<StatefulSet>(&()), name.clone()),
    ];
    if cache.spec.tls.is_some() {
        all.push((config_map, names::authorities(&name)));
    }
    all.extend(cache.spec.mirrors.iter().map(|mirror| {
        let target = names::mirror_target(&name, mirror);
        (mirror_resource(target.kind), target.name)
    }));
    all
}

async fn list(
    client: &Client,
    namespace: &str,
    resource: ApiResource,
    selector: &str,
) -> Result<Vec<Found>, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let list = api.list(&cached(selector)).await.map_err(failed(|| {
        format!("each {} of {selector} in {namespace}", resource.kind)
    }))?;
    let objects = list.items.into_iter();
    Ok(objects.map(|object| (resource.clone(), object)).collect())
}

/// Lists the mirror configurations that exist in Secrets, for those that are no longer declared. What is in them does not matter.
async fn mirrors_in_secrets(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Vec<Found>, Error> {
    let resource = mirror_resource(MirrorTargetKind::Secret);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let list = api
        .list_metadata(&cached(&names::mirror_selector(name)))
        .await
        .map_err(failed(|| {
            format!("the mirrors of RegistryCache {namespace}/{name}")
        }))?;
    let objects = list.items.into_iter().map(|found| {
        let mut object = DynamicObject::new(&found.name_any(), &resource);
        object.metadata = found.metadata;
        (resource.clone(), object)
    });
    Ok(objects.collect())
}
