//! What a deleted `RegistryCache` leaves behind: nothing but what its retention says.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::larder::{self, Cache};
use e2e::{World, wait};

use super::quickstart;

const LIMIT: Duration = Duration::from_secs(90);
const KINDS: &str = "statefulsets,services,configmaps,pods,endpointslices,controllerrevisions";

pub(crate) fn deleted_cache_leaves_nothing_behind(world: &mut World) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    remove(world, &cache)?;
    wait::until("the claims to be gone", LIMIT, || {
        let claims = claims(world, &cache)?;
        ensure!(claims.is_empty(), "left: {claims}");
        Ok(())
    })
}

pub(crate) fn retained_volume_outlives_the_cache(world: &mut World) -> Result<()> {
    larder::install(world)?;
    world
        .node
        .apply(&larder::restricted_namespace("retained"))?;
    let cache = Cache::new("retained", "keeper");
    cache.make_volumes(&world.node, 1, "1Gi")?;
    world.node.apply(
        "apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: keeper, namespace: retained}
spec:
  upstreams: [{host: registry.example}]
  storage: {volume: {size: 1Gi, onDelete: Retain}}
",
    )?;
    cache.wait_until_ready(&mut world.node)?;
    let before = claims(world, &cache)?;
    ensure!(!before.is_empty(), "the cache has no claim");
    remove(world, &cache)?;
    ensure!(
        claims(world, &cache)? == before,
        "the claim did not outlive the cache"
    );
    cache
        .kubectl(&world.node, &["delete", "persistentvolumeclaims", "--all"])
        .map(drop)
}

fn remove(world: &mut World, cache: &Cache) -> Result<()> {
    cache.kubectl(
        &world.node,
        &["delete", "registrycache", &cache.name, "--wait=true"],
    )?;
    wait::until("the objects to be gone", LIMIT, || {
        let selector = format!("app.kubernetes.io/instance={}", cache.name);
        let left = cache.kubectl(
            &world.node,
            &["get", KINDS, "--selector", &selector, "--output", "name"],
        )?;
        ensure!(left.is_empty(), "left: {left}");
        Ok(())
    })
}

fn claims(world: &World, cache: &Cache) -> Result<String> {
    cache.kubectl(
        &world.node,
        &["get", "persistentvolumeclaims", "--output", "name"],
    )
}
