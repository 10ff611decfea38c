//! kube-apiserver, kube-controller-manager and kube-scheduler, and kubectl to talk to them.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::etcd;
use super::network::{ADDRESS, PODS, SERVICES};
use crate::Tools;
use crate::component::Component;

pub(crate) fn start_api_server(directory: &Path, tools: &Tools) -> Result<Component> {
    let mut server = Command::new(tools.path("kube-apiserver")?);
    server.current_dir(directory).args([
        format!("--etcd-servers={}", etcd::ADDRESS),
        format!("--advertise-address={ADDRESS}"),
        format!("--service-cluster-ip-range={SERVICES}"),
    ]);
    server.args([
        "--bind-address=0.0.0.0",
        "--secure-port=6443",
        "--client-ca-file=pki/ca.crt",
        "--tls-cert-file=pki/apiserver.crt",
        "--tls-private-key-file=pki/apiserver.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=pki/service-accounts.pub",
        "--service-account-signing-key-file=pki/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        // In addition to what is on by default, PodSecurity among it.
        "--enable-admission-plugins=NodeRestriction",
        "--kubelet-client-certificate=pki/admin.crt",
        "--kubelet-client-key=pki/admin.key",
        // Nothing resolves the node's name, and logs and exec go through here.
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged=true",
    ]);
    Component::start(
        "kube-apiserver",
        &mut server,
        &directory.join("log/kube-apiserver.log"),
    )
}

/// Needs an API server that is ready: it exits when there is none. `controllers` is what `--controllers` says.
pub(crate) fn start_manager(
    directory: &Path,
    tools: &Tools,
    controllers: &str,
) -> Result<Component> {
    let mut manager = Command::new(tools.path("kube-controller-manager")?);
    manager
        .current_dir(directory)
        .arg(format!("--cluster-cidr={PODS}"))
        .arg(format!("--controllers={controllers}"))
        .args([
            "--kubeconfig=controller-manager.kubeconfig",
            "--service-account-private-key-file=pki/service-accounts.key",
            "--root-ca-file=pki/ca.crt",
            "--use-service-account-credentials=true",
            "--allocate-node-cidrs=false",
            "--leader-elect=false",
            // The defaults, 20 and 30, are what a test with many objects would measure.
            "--kube-api-qps=200",
            "--kube-api-burst=400",
        ]);
    Component::start(
        "kube-controller-manager",
        &mut manager,
        &directory.join("log/kube-controller-manager.log"),
    )
}

/// Likewise.
pub(crate) fn start_scheduler(directory: &Path, tools: &Tools) -> Result<Component> {
    let mut scheduler = Command::new(tools.path("kube-scheduler")?);
    scheduler
        .current_dir(directory)
        .args(["--kubeconfig=scheduler.kubeconfig", "--leader-elect=false"]);
    Component::start(
        "kube-scheduler",
        &mut scheduler,
        &directory.join("log/kube-scheduler.log"),
    )
}

/// kubectl as the administrator.
pub(crate) fn kubectl(directory: &Path, tools: &Tools) -> Result<Command> {
    let mut kubectl = Command::new(tools.path("kubectl")?);
    kubectl
        .env("KUBECONFIG", directory.join("admin.kubeconfig"))
        .env("KUBECACHEDIR", directory.join("kubectl"));
    Ok(kubectl)
}
