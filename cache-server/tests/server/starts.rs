//! A start on a store that holds much: all of it is looked through in the background, and nobody waits for that.

use std::path::Path;
use std::process::Command;

use crate::process::{PROGRAM, Process};
use crate::support::{FakeUpstream, blob_path, content, digest, eventually};

const MANY: u64 = 50_000;

/// Puts so many contents where a store keeps them.
fn fill(store: &Path) {
    for number in 0..MANY {
        let content = number.to_string();
        let path = blob_path(store, &digest(content.as_bytes()));
        std::fs::write(path, content).unwrap();
    }
}

/// The program, which waits a moment each time that it lists a part of a directory: a disk with many directories that are not in memory.
fn listing_slowly() -> Command {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-D",
        "-q",
        "-o",
        "/dev/null",
        "-e",
        "trace=getdents64",
    ]);
    command.args(["-e", "inject=getdents64:delay_enter=500000", PROGRAM]);
    command
}

async fn known(process: &Process) -> u64 {
    process.metric("larder_store_blobs").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_on_many_contents_is_ready_and_serves_before_it_knows_them_all() {
    let upstream = FakeUpstream::start().await;
    let image = upstream.image("a", "v1", &[content(100_000, 1)]);
    let new = upstream.image("b", "v1", &[content(100_000, 2)]);
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().join("store");
    let pull = async |process: &Process, repository: &str, layer: &str, expected: &str| {
        for path in ["manifests/v1".to_owned(), format!("blobs/{layer}")] {
            let path = format!("/v2/{repository}/{path}");
            let response = process.send(&path).await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.headers()["cache-status"], expected, "{path}");
            response.bytes().await.unwrap();
        }
    };
    let (stored, missed) = ("larder; hit", "larder; fwd=miss; stored");
    let [layer, other] = [&image, &new].map(|image| image.layers[0].to_string());
    let process = Process::start(directory.path(), &upstream);
    pull(&process, "a", &layer, missed).await;
    process.settled().await;
    drop(process);
    fill(&store);

    // Each of 256 directories takes two lists or more: minutes for all of them.
    let process = Process::start_by(listing_slowly(), directory.path(), &upstream);
    assert_eq!(process.admin("/readyz").await.0, 200);
    pull(&process, "a", &layer, stored).await;
    pull(&process, "b", &other, missed).await;
    process.settled().await;
    pull(&process, "b", &other, stored).await;
    let some = known(&process).await;
    assert!(some < MANY, "{some}");
    drop(process);

    let process = Process::start(directory.path(), &upstream);
    assert_eq!(process.admin("/readyz").await.0, 200);
    pull(&process, "b", &other, stored).await;
    eventually("all is known", || async {
        known(&process).await == MANY + 4
    })
    .await;
    let used = process.metric("larder_store_used_bytes").await;
    let numbers: u64 = (0..MANY)
        .map(|number| number.to_string().len() as u64)
        .sum();
    let images = 2 * 100_000 + image.manifest.len() as u64 + new.manifest.len() as u64;
    assert_eq!(used, numbers + images);
}
