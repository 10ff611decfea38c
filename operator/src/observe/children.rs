//! What there is of a cache's children.

use std::collections::BTreeSet;

use crds::registry_cache::{MirrorTargetKind, RegistryCache};
use futures::future::{try_join_all, try_join3};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt as _};

use super::{Error, Live, cached, core_children, failed, get, mirror_resource};
use crate::optional_apis::OptionalApis;
use crate::render::names;

type Found = (ApiResource, DynamicObject);

/// Reads by name what every cache has, so that what is not ours is found too, and lists the other kinds: what a watch shows costs
/// nothing, and neither does what is not there. Of the kinds that have names of people's choice, what is left is listed as well.
pub(super) async fn children(
    client: &Client,
    namespace: &str,
    cache: &RegistryCache,
    apis: &OptionalApis,
) -> Result<Live, Error> {
    let name = cache.name_any();
    let named = by_name(cache);
    let reads = named.iter().map(|(resource, name)| async move {
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
        let found = get(&api, name)
            .await
            .map_err(failed(|| format!("{} {namespace}/{name}", resource.kind)))?;
        Ok(found.map(|object| (resource.clone(), object)))
    });
    let selector = &names::selector(&name);
    let is_named = |resource: &ApiResource| named.iter().any(|(one, _)| one.kind == resource.kind);
    let lists = core_children().into_iter().chain(apis.resources());
    let lists = lists.filter(|resource| !is_named(resource));
    let lists = lists.map(|resource| list(client, namespace, resource, selector));
    let left = [MirrorTargetKind::ConfigMap, MirrorTargetKind::Secret];
    let left = left.map(|kind| list_metadata(client, namespace, mirror_resource(kind), selector));
    let (read, listed, left) =
        try_join3(try_join_all(reads), try_join_all(lists), try_join_all(left)).await?;
    let absent = named.iter().zip(&read);
    let absent: BTreeSet<_> = absent
        .filter(|(_, found)| found.is_none())
        .map(|((resource, name), _)| (resource.kind.clone(), name.clone()))
        .collect();
    let listed = listed.into_iter().chain(left).flatten();
    // What was read by name is newer than what was listed, and whole, so it comes last.
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
    let list = api
        .list(&cached(selector))
        .await
        .map_err(failed_list(&resource, namespace, selector))?;
    let objects = list.items.into_iter();
    Ok(objects.map(|object| (resource.clone(), object)).collect())
}

/// Likewise, for what is no longer declared: what is in it does not matter.
async fn list_metadata(
    client: &Client,
    namespace: &str,
    resource: ApiResource,
    selector: &str,
) -> Result<Vec<Found>, Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let list = api
        .list_metadata(&cached(selector))
        .await
        .map_err(failed_list(&resource, namespace, selector))?;
    let objects = list.items.into_iter().map(|found| {
        let mut object = DynamicObject::new(&found.name_any(), &resource);
        object.metadata = found.metadata;
        (resource.clone(), object)
    });
    Ok(objects.collect())
}

fn failed_list(
    resource: &ApiResource,
    namespace: &str,
    selector: &str,
) -> impl FnOnce(kube::Error) -> Error {
    failed(move || format!("each {} of {selector} in {namespace}", resource.kind))
}
