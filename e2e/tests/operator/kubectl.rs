//! `kubectl apply -k deploy`, as the README says it, on a cluster that has nothing of Larder's.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::Cluster;
use e2e::larder::{NAMESPACE, OPERATOR_NAME, workspace};

use super::golden::{forget, rest};
use super::ready;

const LIMIT: Duration = Duration::from_mins(2);

pub(crate) fn what_kubectl_installs_is_enough_for_a_cache(cluster: &mut Cluster) -> Result<()> {
    let deploy = workspace().join("deploy");
    let deploy = deploy.to_str().context("the path is not UTF-8")?;
    // As its README says it, which takes the definitions and their objects too.
    cluster.kubectl(&["delete", "-k", deploy, "--ignore-not-found", "--wait=true"])?;
    cluster.kubectl(&["wait", "--for=delete", &format!("namespace/{NAMESPACE}")])?;
    let made = cluster.kubectl(&["apply", "-k", deploy])?;
    let objects = made.lines().count();
    ensure!(
        objects > 10 && made.lines().all(|line| line.ends_with(" created")),
        "kubectl says {made}"
    );
    let before = generations(cluster, deploy)?;
    let again = cluster.kubectl(&["apply", "-k", deploy])?;
    // A budget's selector is replaced as a whole each time, by the same one.
    let changed = again
        .lines()
        .filter(|line| !line.ends_with(" unchanged") && !line.starts_with("poddisruptionbudget"));
    ensure!(
        again.lines().count() == objects && changed.count() == 0,
        "kubectl says {again}"
    );
    let after = generations(cluster, deploy)?;
    ensure!(after == before, "it was {before} and is {after}");
    // The namespace admits the operator's pods.
    let deployment = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{OPERATOR_NAME}");
    cluster.wait_for("the operator's pods", LIMIT, |cluster| {
        let status = cluster.get(&deployment)?["status"].clone();
        ensure!(status["replicas"] == 2, "the status is {status}");
        Ok(())
    })?;

    let namespace = "by-kubectl";
    cluster.create_namespace(namespace)?;
    cluster.wait_for("the definitions to be in force", LIMIT, |cluster| {
        cluster.apply(&ready::manifest(namespace))
    })?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    rest(cluster, &operator, namespace)?;
    operator.terminate()?;
    forget(cluster, namespace)?;
    // Later cases start operators of their own.
    let kinds = "deployments,poddisruptionbudgets";
    let delete = ["delete", kinds, OPERATOR_NAME, "--namespace", NAMESPACE];
    cluster.kubectl(&delete).map(drop)
}

/// `KIND/NAME GENERATION` of what is installed.
fn generations(cluster: &Cluster, deploy: &str) -> Result<String> {
    let template =
        "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation}{\"\\n\"}{end}";
    cluster.kubectl(&["get", "-k", deploy, "--output", template])
}
