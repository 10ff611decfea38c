//! kubelet and kube-proxy.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::NAME;
use super::containerd;
use super::network::{ADDRESS, PODS};
use crate::Tools;
use crate::component::Component;

/// `cgroup` is the directory of this node at the top of the cgroup hierarchies.
pub(super) fn start(directory: &Path, cgroup: &str, tools: &Tools) -> Result<[Component; 2]> {
    let resolver = directory.join("resolv.conf");
    // There is no DNS. With the machine's own file, pods would wait for servers that no packet reaches.
    write(
        &resolver,
        "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
    )?;
    let configuration = directory.join("kubelet.yaml");
    write(&configuration, &configuration_text(directory, cgroup))?;
    let mut kubelet = Command::new(tools.path("kubelet")?);
    kubelet
        .arg("--config")
        .arg(configuration)
        .arg("--kubeconfig")
        .arg(directory.join("kubelet.kubeconfig"))
        .arg("--root-dir")
        .arg(directory.join("kubelet"))
        .args(["--hostname-override", NAME, "--node-ip", ADDRESS])
        .env("PATH", tools.search_path());
    let mut proxy = Command::new(tools.path("kube-proxy")?);
    proxy
        .arg("--kubeconfig")
        .arg(directory.join("proxy.kubeconfig"))
        .args([
            "--hostname-override",
            NAME,
            "--cluster-cidr",
            PODS,
            "--proxy-mode",
            "iptables",
        ])
        // Zero leaves the machine's limit on connections alone, which is not the namespace's to change.
        .args(["--conntrack-max-per-core", "0"])
        .env("PATH", tools.search_path());
    Ok([
        Component::start("kubelet", &mut kubelet, &directory.join("log/kubelet.log"))?,
        Component::start(
            "kube-proxy",
            &mut proxy,
            &directory.join("log/kube-proxy.log"),
        )?,
    ])
}

fn configuration_text(directory: &Path, cgroup: &str) -> String {
    let socket = containerd::socket(directory);
    let (directory, socket) = (directory.display(), socket.display());
    // Images and pods are for the tests to remove, however full the machine's disk is.
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{x509: {{clientCAFile: \"{directory}/pki/ca.crt\"}}, webhook: {{enabled: true}}, anonymous: {{enabled: false}}}}
authorization: {{mode: Webhook}}
tlsCertFile: \"{directory}/pki/kubelet.crt\"
tlsPrivateKeyFile: \"{directory}/pki/kubelet.key\"
containerRuntimeEndpoint: \"unix://{socket}\"
resolvConf: \"{directory}/resolv.conf\"
cgroupDriver: cgroupfs
cgroupRoot: \"/{cgroup}\"
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
volumePluginDir: \"{directory}/volume-plugins\"
evictionHard: {{imagefs.available: \"1%\", nodefs.available: \"1%\", nodefs.inodesFree: \"1%\"}}
"
    )
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
