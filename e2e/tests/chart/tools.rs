//! Runs helm and kubectl, which are built if they are missing.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Tools, command, larder};
use serde_json::Value;

/// Where the chart is installed in all tests.
pub(crate) const NAMESPACE: &str = "larder-system";

pub(crate) fn chart() -> PathBuf {
    larder::workspace().join("helm")
}

/// The files with values that are rendered, by name.
pub(crate) fn values() -> Vec<PathBuf> {
    let folder = larder::workspace().join("e2e/tests/chart/values");
    let files = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// What helm prints, or its complaint.
pub(crate) fn helm(arguments: &[&str]) -> Result<String, String> {
    run("helm", "helm", arguments)
}

pub(crate) fn kubectl(arguments: &[&str]) -> Result<String, String> {
    run("kubernetes", "kubectl", arguments)
}

fn run(tool: &str, program: &str, arguments: &[&str]) -> Result<String, String> {
    let tools = Tools::ensure_these(&[tool], &|line: &str| eprintln!("{line}")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(tools.path(program).unwrap());
    // Nothing of the person who runs the test, and no cluster.
    command
        .env("HOME", home.path())
        .env("KUBECONFIG", "/dev/null")
        .args(arguments);
    command::output(&mut command).map_err(|error| format!("{error:#}"))
}

/// `helm template` of the chart with further arguments.
pub(crate) fn template(arguments: &[&str]) -> Result<String, String> {
    let chart = chart();
    let fixed = ["template", "larder", text(&chart), "--namespace", NAMESPACE];
    helm(&[&fixed[..], arguments].concat())
}

/// The objects of a text with several YAML documents.
pub(crate) fn objects(text: &str) -> Vec<Value> {
    let documents = format!("\n{text}");
    let documents = documents.split("\n---\n").filter(|document| {
        let mut lines = document.lines().map(str::trim);
        lines.any(|line| !line.is_empty() && !line.starts_with('#'))
    });
    documents
        .map(|document| one_kind_of_number(serde_saphyr::from_str(document).unwrap()))
        .collect()
}

/// Helm writes `1.0` as `1`.
fn one_kind_of_number(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::from(number.as_f64()),
        Value::Array(list) => list.into_iter().map(one_kind_of_number).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, one_kind_of_number(value)))
            .collect(),
        other => other,
    }
}

/// `Kind namespace/name`
pub(crate) fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    format!(
        "{} {}/{}",
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
