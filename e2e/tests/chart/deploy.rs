//! `kubectl apply -k deploy` is what the chart installs.

use std::collections::BTreeMap;
use std::fs;

use e2e::larder;
use serde_json::{Value, json};

use crate::tools::{kubectl, name, objects, template, text};

/// The operator's objects are written where snapshots are: by `INSTA_UPDATE=always cargo test -p e2e --test chart`.
#[test]
fn objects_for_kubectl_are_those_of_the_chart() {
    let rendered = template(&["--set", "crds.install=false"]).unwrap();
    let page = format!(
        "# Written by a test of e2e/tests/chart/deploy.rs from the chart. Do not edit.\n{rendered}"
    );
    // Nothing here is helm's.
    let page = page.replace(
        "app.kubernetes.io/managed-by: Helm",
        "app.kubernetes.io/managed-by: kubectl",
    );
    let lines: Vec<&str> = page
        .lines()
        .filter(|line| !line.contains("helm.sh/chart"))
        .collect();
    let page = lines.join("\n") + "\n";
    let path = larder::workspace().join("deploy/operator.yaml");
    if std::env::var("INSTA_UPDATE").is_ok_and(|value| value == "always") {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "{} is not what the chart renders; run with INSTA_UPDATE=always",
        path.display()
    );
}

#[test]
fn kubectl_builds_the_same_as_helm() {
    let folder = larder::workspace().join("deploy");
    let built = by_name(&kubectl(&["kustomize", text(&folder)]).unwrap());
    let mut expected = by_name(&template(&["--set", "crds.keep=false"]).unwrap());
    expected.insert(
        "Namespace /larder-system".to_owned(),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": "larder-system", "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}),
    );
    for object in expected.values_mut() {
        without_helm(object);
    }
    let names = |objects: &BTreeMap<String, Value>| objects.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&built), names(&expected));
    for (name, object) in &built {
        let (mut object, mut expected) = (object.clone(), expected[name].clone());
        if object["kind"] == "CustomResourceDefinition" {
            // The chart labels them, so that the release owns them.
            for definition in [&mut object, &mut expected] {
                let metadata = definition["metadata"].as_object_mut().unwrap();
                metadata.remove("labels");
                metadata.remove("annotations");
            }
        }
        assert_eq!(object, expected, "{name}");
    }
}

fn by_name(text: &str) -> BTreeMap<String, Value> {
    objects(text)
        .into_iter()
        .map(|object| (name(&object), object))
        .collect()
}

fn without_helm(value: &mut Value) {
    if let Some(labels) = value["metadata"]["labels"].as_object_mut() {
        labels.remove("helm.sh/chart");
        if let Some(label) = labels.get_mut("app.kubernetes.io/managed-by") {
            *label = json!("kubectl");
        }
    }
    if let Some(template) = value.pointer_mut("/spec/template") {
        without_helm(template);
    }
}
