//! The images that Larder's own pods run from.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::World;
use e2e::images::{Platform, larder_image};

const LIMIT: Duration = Duration::from_mins(1);

/// The binary is this very test, which needs what every Rust program needs of the system.
pub(crate) fn larder_image_runs_a_binary_of_this_machine(world: &mut World) -> Result<()> {
    let binary = std::env::current_exe().context("failed to find this program")?;
    let image = larder_image("larder-lister", &binary, Platform::AMD64, None)?;
    world
        .node
        .import(&image.into(), "localhost/larder-lister:test")?;
    world.node.apply(
        "
apiVersion: v1
kind: Namespace
metadata: {name: restricted, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Pod
metadata: {name: lister, namespace: restricted}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: localhost/larder-lister:test
    imagePullPolicy: Never
    args: [--list]
    securityContext:
      runAsNonRoot: true
      readOnlyRootFilesystem: true
      allowPrivilegeEscalation: false
      capabilities: {drop: [ALL]}
      seccompProfile: {type: RuntimeDefault}
",
    )?;
    world.node.wait_for("the pod to succeed", LIMIT, |node| {
        let phase = node.kubectl(&[
            "-n",
            "restricted",
            "get",
            "pod",
            "lister",
            "-o",
            "jsonpath={.status.phase}",
        ])?;
        ensure!(phase == "Succeeded", "its phase is {phase}");
        Ok(())
    })?;
    let log = world
        .node
        .kubectl(&["-n", "restricted", "logs", "lister"])?;
    ensure!(
        log.contains("larder_image_runs_a_binary_of_this_machine: test"),
        "it printed: {log}"
    );
    world
        .node
        .kubectl(&["delete", "namespace", "restricted", "--wait=false"])?;
    Ok(())
}
