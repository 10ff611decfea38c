//! Larder on the node: its images from the binaries that cargo built, installed from the chart.

mod cache;
mod metrics;
mod policy;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::images::{CACHE_SERVER, OPERATOR};
use crate::programs::Programs;
use crate::{Node, World};

pub use cache::{Cache, Member, stores_hold};
pub use metrics::Metrics;
pub use policy::PolicyState;

/// Where the chart is installed.
pub const NAMESPACE: &str = "larder-system";

/// Name of the release.
pub const RELEASE: &str = "larder";

/// Name of the operator's Deployment and of its `ServiceAccount`.
pub const OPERATOR_NAME: &str = "larder-operator";

const INSTALL_LIMIT: Duration = Duration::from_secs(90);

/// The workspace's root, from which examples and the chart are read.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("/"))
}

/// Imports Larder's two images and installs the chart, unless that was done before. Returns when the operator is ready.
pub fn install(world: &mut World) -> Result<()> {
    let node = &mut world.node;
    if node
        .kubectl(&["--namespace", NAMESPACE, "get", "deployment", OPERATOR_NAME])
        .is_ok()
    {
        return Ok(());
    }
    Programs::built()?.import_into(node)?;
    // The namespace is under the strictest profile: what the chart makes must be admitted there.
    node.apply(&restricted_namespace(NAMESPACE))?;
    let chart = workspace().join("helm");
    let mut arguments = vec!["install", RELEASE, path(&chart)?, "--namespace", NAMESPACE];
    let settings = image_settings();
    for setting in &settings {
        arguments.extend(["--set", setting]);
    }
    node.helm(&arguments)?;
    wait_until_operator_is_ready(node)
}

/// Values of the chart that name the images on the node.
pub fn image_settings() -> Vec<String> {
    let setting = |value: &str, image: &str| {
        let (repository, tag) = image.rsplit_once(':').unwrap_or((image, "latest"));
        vec![
            format!("{value}.repository={repository}"),
            format!("{value}.tag={tag}"),
            format!("{value}.pullPolicy=Never"),
        ]
    };
    [
        setting("image", OPERATOR),
        setting("cacheServerImage", CACHE_SERVER),
    ]
    .concat()
}

/// Returns when the operator's Deployment has its pod.
pub fn wait_until_operator_is_ready(node: &mut Node) -> Result<()> {
    node.wait_for("the operator", INSTALL_LIMIT, |node| {
        node.kubectl(&[
            "--namespace",
            NAMESPACE,
            "rollout",
            "status",
            &format!("deployment/{OPERATOR_NAME}"),
            "--timeout=5s",
        ])
    })?;
    Ok(())
}

/// A namespace that admits pods of the profile `restricted` only.
pub fn restricted_namespace(name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata:
  name: {name}
  labels: {{pod-security.kubernetes.io/enforce: restricted}}
"
    )
}

/// The objects that stand beside the contracts, each in a file: `accepted`, `rejected` or `changed`.
pub fn examples(kind: &str) -> Result<Vec<PathBuf>> {
    let folder = workspace().join("crds/examples").join(kind);
    let entries = std::fs::read_dir(&folder)
        .with_context(|| format!("failed to list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(
            entry
                .with_context(|| format!("failed to list {}", folder.display()))?
                .path(),
        );
    }
    paths.sort();
    anyhow::ensure!(!paths.is_empty(), "{} is empty", folder.display());
    Ok(paths)
}

/// The quick start of the documentation, word for word.
pub fn plain_quickstart() -> Result<String> {
    let path = workspace().join("docs/examples/quickstart.yaml");
    std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
}

/// The same but for one line: the test network has no Docker Hub, so `docker.io` is said to be at `upstream`.
pub fn quickstart(upstream: &str) -> Result<String> {
    let text = plain_quickstart()?;
    let line = "    - host: docker.io\n";
    anyhow::ensure!(
        text.contains(line),
        "the quick start has no upstream docker.io"
    );
    Ok(text.replace(line, &format!("{line}      endpoints: [\"{upstream}\"]\n")))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
