//! Pulls by a real kubelet, through the cache, by the rendered hosts.toml.

use std::time::Instant;

use anyhow::{Result, ensure};
use e2e::larder::{self, stores_hold};
use e2e::{World, wait};

use super::quickstart::{self, POD_LIMIT, digests, forget, run_pod, timeouts};

const HELLO: &str = "docker.io/library/hello:1.0";

pub(crate) fn first_pull_goes_through_the_cache_and_each_byte_upstream_once(
    world: &mut World,
) -> Result<()> {
    let (_, stores) = quickstart::ready(world)?;
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "through", HELLO)?;
    for blob in world.images.hello_1.amd64()?.blobs() {
        let digest = &blob.digest;
        ensure!(
            stores_hold(&stores, digest),
            "{digest} is in no store: the pull went past the cache"
        );
        // A large one comes in parts.
        let (bytes, size) = (world.upstream.blob_bytes(digest)?, blob.bytes.len() as u64);
        ensure!(
            bytes <= size,
            "{bytes} of the {size} bytes of {digest} were fetched"
        );
    }
    world.upstream.only_caches_asked()?;
    let late = timeouts(&world.node)?;
    ensure!(late.is_empty(), "containerd met timeouts: {late:?}");
    forget(world, "through")
}

pub(crate) fn second_pull_asks_the_upstream_for_no_blob(world: &mut World) -> Result<()> {
    quickstart::ready(world)?;
    run_pod(world, "warm", HELLO)?;
    forget(world, "warm")?;
    world.upstream.clear_requests()?;
    run_pod(world, "again", HELLO)?;
    let blobs: Vec<_> = world
        .upstream
        .requests()?
        .into_iter()
        .filter(|request| request.path.contains("/blobs/"))
        .collect();
    ensure!(blobs.is_empty(), "blobs were fetched again: {blobs:?}");
    forget(world, "again")
}

pub(crate) fn index_of_two_platforms_is_pulled_for_the_nodes_own(world: &mut World) -> Result<()> {
    let (_, stores) = quickstart::ready(world)?;
    run_pod(world, "multi", "docker.io/library/multi:1")?;
    for digest in digests(&world.images.multi)? {
        ensure!(stores_hold(&stores, &digest), "{digest} is in no store");
    }
    forget(world, "multi")
}

pub(crate) fn cached_image_is_pulled_by_tag_while_the_upstream_is_stopped(
    world: &mut World,
) -> Result<()> {
    quickstart::ready(world)?;
    run_pod(world, "before", HELLO)?;
    forget(world, "before")?;
    world.upstream.stop()?;
    let outcome = run_pod(world, "offline", HELLO).and_then(|()| forget(world, "offline"));
    world.upstream.start_again()?;
    outcome
}

pub(crate) fn node_falls_back_to_the_upstream_while_the_cache_is_stopped(
    world: &mut World,
) -> Result<()> {
    let (cache, _) = quickstart::ready(world)?;
    // The operator would start the cache again at once.
    scale(world, larder::NAMESPACE, "deployment/larder-operator", 0)?;
    scale(world, &cache.namespace, "statefulset/images", 0)?;
    wait::until("the cache to be gone", POD_LIMIT, || {
        let members = cache.members(&world.node)?;
        ensure!(members.is_empty(), "{members:?} still run");
        Ok(())
    })?;
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    let start = Instant::now();
    run_pod(world, "fallback", HELLO)?;
    println!(
        "  pod ready {:.1} s after its creation, without the cache",
        start.elapsed().as_secs_f64()
    );
    for digest in digests(&world.images.hello_1)?.iter().skip(1) {
        ensure!(
            world.upstream.blob_gets(digest)? == 1,
            "{digest} did not come from the upstream"
        );
    }
    forget(world, "fallback")?;
    scale(world, larder::NAMESPACE, "deployment/larder-operator", 1)?;
    // The operator comes back, finds the StatefulSet scaled by hand, and repairs it.
    cache.wait_until_ready(&mut world.node)?;
    wait::until("the cache to be back", POD_LIMIT, || {
        ensure!(!cache.members(&world.node)?.is_empty(), "no pod");
        Ok(())
    })?;
    cache.wait_until_ready(&mut world.node)
}

fn scale(world: &World, namespace: &str, object: &str, replicas: usize) -> Result<()> {
    world
        .node
        .kubectl(&[
            "--namespace",
            namespace,
            "scale",
            object,
            &format!("--replicas={replicas}"),
        ])
        .map(drop)
}
