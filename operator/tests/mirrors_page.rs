//! The examples of docs/mirrors.md are what the operator renders.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;

use operator::offline::{Documents, output};
use operator::optional_apis::OptionalApis;
use operator::resolve::Settings;

const AROUND: &str = "
apiVersion: v1
kind: Secret
metadata: {name: east}
stringData: {username: east, password: password}
---
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: images}
spec:
  upstreams: [{host: docker.io}]
  storage: {volume: {size: 50Gi}}
";

/// The files of the only mirror of a cache.
fn files(mirrors: &str) -> BTreeMap<String, String> {
    let mut documents = Documents::default();
    let indented = mirrors.replace('\n', "\n  ");
    let text = format!("{AROUND}  {indented}\n");
    documents.read("page", &text, "team").unwrap();
    let settings = Settings {
        cache_server_image: "larder/cache-server:0.1.0".to_owned(),
        cache_server_pull_policy: None,
        namespace: None,
    };
    let rendered = output(&documents, &settings, &OptionalApis::default()).unwrap();
    let object = rendered.objects.last().unwrap();
    let data = object["data"].as_object().unwrap().clone();
    let text = |value: serde_json::Value| {
        if object["kind"] == "Secret" {
            let bytes: k8s_openapi::ByteString = serde_json::from_value(value).unwrap();
            String::from_utf8(bytes.0).unwrap()
        } else {
            value.as_str().unwrap().to_owned()
        }
    };
    data.into_iter()
        .map(|(key, value)| (key, text(value)))
        .collect()
}

#[test]
fn every_example_is_what_is_rendered() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mirrors.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut rendered = BTreeMap::new();
    let mut compared = 0;
    // Every second piece is a block: its language, a line feed, and its text.
    let pieces: Vec<&str> = page.split("```").collect();
    for pair in pieces.chunks_exact(2) {
        let [before, block] = pair else { continue };
        let (_, block) = block.split_once('\n').unwrap();
        if block.starts_with("mirrors:") {
            rendered = files(block.trim_end());
            continue;
        }
        let title = before.trim_end().lines().last().unwrap();
        let key = title.trim_start_matches('`').trim_end_matches("`:");
        assert_eq!(
            rendered.get(key).map(String::as_str),
            Some(block),
            "docs/mirrors.md, {key} of\n{rendered:?}"
        );
        compared += 1;
    }
    assert_eq!(compared, 9);
}
