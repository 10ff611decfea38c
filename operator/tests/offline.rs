//! Rendering from files alone: as a reviewer does it, and as a pipeline does.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::error::Error as _;
use std::process::{Command, Output, Stdio};

use operator::offline::{Documents, Error, Output as Rendered, PLACEHOLDER, output};
use operator::optional_apis::OptionalApis;
use operator::resolve::Settings;

const CACHE: &str = "
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: images}
spec:
  upstreams:
    - host: docker.io
      credentials: [{secretRef: {name: hub}}]
  allowAnonymousPrivate: true
  storage: {volume: {size: 20Gi}}
  policyRefs: [{name: ours}]
  mirrors: [{name: nodes}]
---
apiVersion: larder.dev/v1alpha1
kind: CachePolicy
metadata: {name: ours, namespace: team}
spec: {rules: [{name: all, match: {repositories: ['**']}, action: Cache}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: foreign, namespace: team}
data: {whatever: else}
";

fn render(text: &str) -> Result<Rendered, Error> {
    let mut documents = Documents::default();
    documents.read("cache.yaml", text, "team")?;
    let settings = Settings {
        cache_server_image: "larder/cache-server:0.1.0".to_owned(),
        cache_server_pull_policy: None,
        namespace: Some("larder-system".to_owned()),
    };
    output(&documents, &settings, &OptionalApis::default())
}

/// What the error says, with its causes.
fn said(text: &str) -> String {
    let error = render(text).unwrap_err();
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn command(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_larder-operator"))
        .arg("render")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_cache_becomes_all_its_objects_without_a_cluster() {
    let rendered = render(CACHE).unwrap();
    let names: Vec<String> = rendered
        .objects
        .iter()
        .map(|object| {
            let text = |pointer| object.pointer(pointer).unwrap().as_str().unwrap();
            assert_eq!(text("/metadata/namespace"), "team");
            assert!(object.pointer("/metadata/ownerReferences").is_none());
            format!("{}/{}", text("/kind"), text("/metadata/name"))
        })
        .collect();
    insta::assert_snapshot!(names.join("\n"));
    insta::assert_snapshot!(rendered.notes.join("\n"));
    let mirror = rendered.objects.last().unwrap();
    let hosts = mirror.pointer("/data").unwrap().to_string();
    assert!(hosts.contains(PLACEHOLDER), "{hosts}");
}

#[test]
fn a_secret_in_the_files_is_taken_by_its_keys() {
    let secret = "
---
apiVersion: v1
kind: Secret
metadata: {name: hub, namespace: team}
stringData: {.dockerconfigjson: '{}'}
";
    let rendered = render(&format!("{CACHE}{secret}")).unwrap();
    let policy = rendered.objects[0].pointer("/data/policy.yaml").unwrap();
    assert!(policy.as_str().unwrap().contains("config.json"), "{policy}");
    let wrong = secret.replace(".dockerconfigjson", "other");
    insta::assert_snapshot!(said(&format!("{CACHE}{wrong}")));
}

#[test]
fn credentials_of_a_mirror_come_from_the_files_or_are_a_placeholder() {
    let cache = CACHE.replace(
        "[{name: nodes}]",
        "[{name: nodes, credentialsSecretRef: {name: east}, endpoint: 'https://cache.example', caSecretRef: {name: ca}}]",
    );
    let hosts = |text: &str| {
        let object = render(text).unwrap().objects.pop().unwrap();
        assert_eq!(object["kind"], "Secret");
        let value = object["data"]["docker.io.hosts.toml"].clone();
        let bytes: k8s_openapi::ByteString = serde_json::from_value(value).unwrap();
        String::from_utf8(bytes.0).unwrap()
    };
    // USERNAME:PASSWORD
    assert!(hosts(&cache).contains("Basic VVNFUk5BTUU6UEFTU1dPUkQ=\""));
    let secret = "
---
apiVersion: v1
kind: Secret
metadata: {name: east, namespace: team}
data: {username: ZWFzdA==}
stringData: {password: pass}
";
    assert!(hosts(&format!("{cache}{secret}")).contains("Basic ZWFzdDpwYXNz\""));
    let broken = secret.replace("ZWFzdA==", "'?secret?'");
    let said = said(&format!("{cache}{broken}"));
    assert!(
        said.contains("data.username") && !said.contains("?secret?"),
        "{said}"
    );
}

#[test]
fn a_note_tells_what_the_mirrors_do_not_enforce() {
    let denying = CACHE.replace("action: Cache", "action: Deny");
    let notes = render(&denying).unwrap().notes.join("\n");
    insta::assert_snapshot!(notes.lines().last().unwrap());
}

#[test]
fn errors_say_what_and_where() {
    let table = [
        "a: [",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        &CACHE.replace("size: 20Gi", "size: [20]"),
        &CACHE.replace("- host: docker.io", "- hosts: docker.io"),
        &CACHE.replace("  mirrors:", "  mirors:"),
        &CACHE.replace(
            "namespace: team}\nspec: {rules",
            "namespace: other}\nspec: {rules",
        ),
        &CACHE.replace("host: docker.io", "host: 'docker io'"),
        &format!("{CACHE}---{CACHE}"),
        &CACHE.replace(
            "{name: nodes}",
            "{name: nodes, runtime: {type: K3s}, capabilities: [Pull]}",
        ),
    ];
    let said: Vec<String> = table.iter().map(|text| said(text)).collect();
    insta::assert_snapshot!(said.join("\n---\n"));
}

#[test]
fn the_quick_start_renders_from_the_command_line_and_again_the_same() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/examples/quickstart.yaml"
    );
    let first = command(&["--file", file]);
    assert!(first.status.success(), "{first:?}");
    let text = String::from_utf8(first.stdout).unwrap();
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
    let kinds: Vec<_> = objects
        .iter()
        .map(|one| one["kind"].as_str().unwrap())
        .collect();
    assert!(
        kinds.contains(&"StatefulSet") && kinds.contains(&"PrometheusRule"),
        "{kinds:?}"
    );
    assert_eq!(command(&["--file", file]).stdout, text.as_bytes());

    let plain = command(&["--file", file, "--without-monitoring"]);
    assert!(
        !String::from_utf8(plain.stdout)
            .unwrap()
            .contains("PrometheusRule")
    );

    let missing = command(&["--file", "/nowhere.yaml"]);
    assert!(!missing.status.success());
    let said = String::from_utf8(missing.stderr).unwrap();
    assert!(said.contains("failed to read /nowhere.yaml"), "{said}");
}
