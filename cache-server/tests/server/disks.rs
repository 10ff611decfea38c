//! Disks that take nothing more: hits go on, misses are passed through, a metric and a line of the log say so.

use cache_server::oci::Digest;

use crate::process::Process;
use crate::support::{Disk, FakeUpstream, Fault, Gate, Image, blob_path, content, eventually};

const FAILURES: &str = "larder_store_write_failures_total";
const SAID: &str = "failed to write to the store";

/// The blob, which must be right, and what the cache says of it.
async fn get(process: &Process, digest: &Digest) -> String {
    ask(process, &format!("/v2/a/blobs/{digest}"), digest).await
}

/// The same, of anything.
async fn ask(process: &Process, path: &str, digest: &Digest) -> String {
    let response = process.send(path).await;
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    let status = response.headers()["cache-status"].to_str().unwrap();
    let status = status.to_owned();
    let warned = response.headers().get("warning").is_some_and(|warning| {
        warning == "299 - \"the cache could not store this, and passed it through\""
    });
    let unstored = ["larder; fwd=bypass", "larder; fwd=miss; collapsed"];
    assert_eq!(
        warned,
        unstored.contains(&status.as_str()),
        "{path} {status}"
    );
    assert!(digest.names(&response.bytes().await.unwrap()));
    status
}

/// Hits are hits, and what is new comes through.
async fn serves(process: &Process, stored: &Image, other: &Image, new: &[Digest]) {
    // The first to meet the disk, and then those that come when it is known.
    for reference in ["v2", &other.digest.to_string(), "v2"] {
        let path = format!("/v2/b/manifests/{reference}");
        let status = ask(process, &path, &other.digest).await;
        assert_eq!(status, "larder; fwd=bypass", "{reference}");
    }
    let status = ask(process, "/v2/a/manifests/v1", &stored.digest).await;
    assert_eq!(status, "larder; hit");
    for layer in &stored.layers {
        assert_eq!(get(process, layer).await, "larder; hit");
    }
    for digest in new {
        assert_eq!(get(process, digest).await, "larder; fwd=bypass");
    }
    assert_eq!(process.admin("/readyz").await.0, 200);
}

async fn says_so(process: &Process) {
    assert!(process.metric(FAILURES).await > 0);
    eventually("the log says it", || async { process.has_said(SAID) }).await;
    let status = process.admin("/v1/status").await.1;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let last = status["store"]["lastWriteError"]["error"].as_str();
    assert!(last.unwrap().starts_with("failed to "), "{status}");
}

struct Scene {
    upstream: FakeUpstream,
    directory: tempfile::TempDir,
    disk: Disk,
    stored: Image,
    other: Image,
    new: Vec<Digest>,
}

/// A program that has an image in its store, and a manifest and two blobs that it does not have.
async fn scene() -> (Scene, Process) {
    let upstream = FakeUpstream::start().await;
    let stored = upstream.image("a", "v1", &[content(900_000, 1), content(100_000, 2)]);
    let other = upstream.image("b", "v2", &[]);
    let new = vec![
        upstream.blob("a", content(700_000, 3)),
        upstream.blob("a", content(50_000, 4)),
    ];
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::at(&directory.path().join("store"), 24);
    let process = Process::start(directory.path(), &upstream);
    assert_eq!(process.get("/v2/a/manifests/v1").await.unwrap().0, 200);
    for layer in &stored.layers {
        get(&process, layer).await;
    }
    process.settled().await;
    let scene = Scene {
        upstream,
        directory,
        disk,
        stored,
        other,
        new,
    };
    (scene, process)
}

impl Scene {
    fn restart(&self, process: Process) -> Process {
        drop(process);
        Process::start(self.directory.path(), &self.upstream)
    }

    /// Once the disk takes something again, it gets it.
    async fn heals(&self, process: &Process) {
        get(process, &self.new[0]).await;
        for status in ["larder; fwd=miss; stored", "larder; hit"] {
            let said = ask(process, "/v2/b/manifests/v2", &self.other.digest).await;
            assert_eq!(said, status);
        }
        process.settled().await;
        let store = self.directory.path().join("store");
        for digest in [&self.new[0], &self.other.digest] {
            assert!(blob_path(&store, digest).exists());
        }
        assert_eq!(std::fs::read_dir(store.join("tmp")).unwrap().count(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_disk_stops_no_pull_and_no_start() {
    let (scene, process) = scene().await;
    scene.disk.make_read_only();
    serves(&process, &scene.stored, &scene.other, &scene.new).await;
    says_so(&process).await;

    let process = scene.restart(process);
    serves(&process, &scene.stored, &scene.other, &scene.new).await;
    says_so(&process).await;

    scene.disk.make_writable();
    let process = scene.restart(process);
    scene.heals(&process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_others_filled_stops_no_pull_and_no_start() {
    let (scene, process) = scene().await;
    let filler = scene.disk.fill_up();
    // In use lately: nothing may be evicted for what is new.
    serves(&process, &scene.stored, &scene.other, &scene.new[..1]).await;
    says_so(&process).await;

    let process = scene.restart(process);
    serves(&process, &scene.stored, &scene.other, &scene.new[..1]).await;
    says_so(&process).await;

    std::fs::remove_file(filler).unwrap();
    let process = scene.restart(process);
    scene.heals(&process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_who_waits_for_the_same_manifest_is_told_that_it_is_stored() {
    let (scene, process) = scene().await;
    scene.disk.make_read_only();
    let gate = Gate::closed();
    scene
        .upstream
        .fault("/manifests/", Fault::Late(gate.clone()), 1);
    let path = format!("/v2/b/manifests/{}", scene.other.digest);
    let clients = (0..10).map(|_| ask(&process, &path, &scene.other.digest));
    let opening = async {
        eventually("it is asked for", || async {
            scene.upstream.count("/v2/b/manifests/") == 1
        })
        .await;
        gate.open(1);
    };
    let (told, ()) = tokio::join!(futures::future::join_all(clients), opening);
    // Who came too late to join asked for it itself.
    let unstored = ["larder; fwd=bypass", "larder; fwd=miss; collapsed"];
    assert!(
        told.iter().all(|told| unstored.contains(&told.as_str())),
        "{told:?}"
    );
}
