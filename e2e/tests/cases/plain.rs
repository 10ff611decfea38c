//! The node itself, without Larder: what the other cases take for granted. Each case can be run alone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::World;
use e2e::images::{Artifact, Image};

const LIMIT: Duration = Duration::from_secs(90);

pub(crate) fn pod_runs_from_the_upstream(world: &mut World) -> Result<()> {
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "hello", "docker.io/library/hello:1.0")?;
    ensure!(world.node.kubectl(&["logs", "hello"])?.trim() == "hello from 1.0");
    let hello = image(&world.images.hello_1)?;
    for blob in hello.blobs() {
        let gets = world.upstream.blob_gets(&blob.digest)?;
        ensure!(gets == 1, "blob {} was fetched {gets} times", blob.digest);
    }
    delete_pod(world, "hello")
}

pub(crate) fn second_tag_fetches_only_what_differs(world: &mut World) -> Result<()> {
    run_pod(world, "hello", "docker.io/library/hello:1.0")?;
    delete_pod(world, "hello")?;
    world.upstream.clear_requests()?;
    run_pod(world, "hello", "docker.io/library/hello:2.0")?;
    let (first, second) = (image(&world.images.hello_1)?, image(&world.images.hello_2)?);
    for blob in second.blobs() {
        let gets = world.upstream.blob_gets(&blob.digest)?;
        let shared = first.blobs().any(|other| other.digest == blob.digest);
        ensure!(
            gets == usize::from(!shared),
            "blob {} (shared: {shared}) was fetched {gets} times",
            blob.digest
        );
    }
    delete_pod(world, "hello")
}

pub(crate) fn emptied_store_fetches_everything_again(world: &mut World) -> Result<()> {
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "hello", "docker.io/library/hello:1.0")?;
    for blob in image(&world.images.hello_1)?.blobs() {
        let gets = world.upstream.blob_gets(&blob.digest)?;
        ensure!(gets == 1, "blob {} was fetched {gets} times", blob.digest);
    }
    delete_pod(world, "hello")
}

pub(crate) fn platform_of_the_node_is_pulled_from_an_index(world: &mut World) -> Result<()> {
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "multi", "docker.io/library/multi:1")?;
    let own = image(&world.images.multi)?;
    for foreign in world
        .images
        .multi
        .images()
        .iter()
        .filter(|image| image.platform != own.platform)
    {
        for blob in foreign.blobs() {
            ensure!(
                world.upstream.blob_gets(&blob.digest)? == 0,
                "blob {} is not for this node",
                blob.digest
            );
        }
    }
    delete_pod(world, "multi")
}

pub(crate) fn volume_is_bound_and_writable_by_its_group(world: &mut World) -> Result<()> {
    pull_from_upstream(world)?;
    let directory = world.node.create_local_volume("plain", "1Gi")?;
    world.node.apply(
        "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: plain}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  securityContext: {runAsUser: 65532, runAsGroup: 65532, fsGroup: 65532, runAsNonRoot: true}
  containers:
  - name: main
    image: docker.io/library/busybox:1
    command: [sh, -c, 'echo written > /data/file; trap exit TERM; sleep 3600 & wait']
    volumeMounts: [{name: data, mountPath: /data}]
    readinessProbe: {exec: {command: [test, -s, /data/file]}, periodSeconds: 1}
  volumes:
  - name: data
    persistentVolumeClaim: {claimName: plain}
",
    )?;
    world.node.wait_for_pod("default", "writer", LIMIT)?;
    let text = std::fs::read_to_string(directory.join("file"))
        .context("failed to read what the pod wrote")?;
    ensure!(text == "written\n");
    delete_pod(world, "writer")?;
    world.node.kubectl(&[
        "delete",
        "persistentvolumeclaim/plain",
        "persistentvolume/plain",
    ])?;
    Ok(())
}

pub(crate) fn stopped_upstream_fails_a_pull_until_it_is_back(world: &mut World) -> Result<()> {
    world.node.remove_all_workload_images()?;
    world.upstream.stop()?;
    create_pod(
        world,
        "late",
        "docker.io/library/busybox:1",
        "[sh, -c, 'trap exit TERM; sleep 3600 & wait']",
    )?;
    world.node.wait_for("the pull to fail", LIMIT, |node| {
        let reason = node.kubectl(&[
            "get",
            "pod",
            "late",
            "-o",
            "jsonpath={.status.containerStatuses[0].state.waiting.reason}",
        ])?;
        ensure!(
            reason == "ErrImagePull" || reason == "ImagePullBackOff",
            "the pod waits because of: {reason}"
        );
        Ok(())
    })?;
    world.upstream.start_again()?;
    world.node.wait_for_pod("default", "late", LIMIT)?;
    delete_pod(world, "late")
}

/// By each case that pulls, because each can be run alone and others may have pointed elsewhere.
fn pull_from_upstream(world: &World) -> Result<()> {
    let url = world.upstream.url();
    world
        .node
        .write_hosts("docker.io", "hosts.toml", &format!("server = \"{url}\"\n"))
}

fn run_pod(world: &mut World, name: &str, image: &str) -> Result<()> {
    create_pod(world, name, image, "null")?;
    world.node.wait_for_pod("default", name, LIMIT)
}

fn create_pod(world: &World, name: &str, image: &str, command: &str) -> Result<()> {
    pull_from_upstream(world)?;
    world.node.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  containers:
  - {{name: main, image: '{image}', command: {command}}}
"
    ))?;
    Ok(())
}

fn delete_pod(world: &World, name: &str) -> Result<()> {
    world
        .node
        .kubectl(&["delete", "pod", name, "--wait=true", "--timeout=60s"])?;
    Ok(())
}

fn image(artifact: &Artifact) -> Result<&Image> {
    artifact.amd64()
}
