//! A store that an earlier server wrote (docs/versions.md). `testdata/store-1` was written by the server of version 0.1.0 and never
//! changes: one image with its referrers, asked for once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache_server::oci::Digest;

use crate::support::{HOST, TestServer};

const IMAGE: &str = "sha256:8ea2868d436c0e756eba60d697e8d9f84a4b605328da01f4f34d6b58422fd5b8";
const CONFIG: &str = "sha256:c5b1d63604f273462ef36fadac3182d43ae6a6138731cf594b314835cf1c034f";
const LAYER: &str = "sha256:26d74071e240928b5fc4be6a4eda42a3024491b5ba7bda154ae73560487d07a4";

/// Contents of all files below, by their path.
fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_owned();
                found.insert(name, fs::read(path).unwrap());
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_version_one_is_served_as_it_is_and_keeps_all_that_is_in_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server/testdata/store-1");
    let before = files(&source);
    let directory = Arc::new(tempfile::tempdir().unwrap());
    let store = directory.path().join("store");
    for (name, content) in &before {
        let path = store.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let nowhere = "http://127.0.0.1:1".to_owned();
    let server = TestServer::builder()
        .endpoints(HOST, &[nowhere])
        .tail("freshness: {immutableTags: ['*'], serveStaleFor: 3650d}")
        .directory(&directory)
        .start()
        .await;
    let repository = "/v2/library/app";
    for (kind, reference, digest) in [
        ("manifests", "1", IMAGE),
        ("manifests", IMAGE, IMAGE),
        ("blobs", CONFIG, CONFIG),
        ("blobs", LAYER, LAYER),
    ] {
        let reply = server
            .get(&format!("{repository}/{kind}/{reference}"))
            .await;
        assert_eq!(reply.cache_status(), "larder; hit", "{kind} {reference}");
        assert_eq!(reply.header("docker-content-digest"), digest);
        let digest = Digest::parse(digest).unwrap();
        assert!(digest.names(reply.content()), "{kind} {reference}");
    }
    let reply = server.get(&format!("{repository}/referrers/{IMAGE}")).await;
    assert_eq!(reply.cache_status(), "larder; hit; detail=stale");
    let list: serde_json::Value = serde_json::from_slice(reply.content()).unwrap();
    assert_eq!(list["manifests"].as_array().unwrap().len(), 3);

    assert!(cache_server::fsck::run(&store, false).unwrap().is_right());
    let after = files(&store);
    // These two say what the server that runs does.
    let own = ["last-good-policy.yaml", "last-scrub"].map(PathBuf::from);
    for (name, content) in before.iter().filter(|(name, _)| !own.contains(name)) {
        assert_eq!(after.get(name), Some(content), "{}", name.display());
    }
}
