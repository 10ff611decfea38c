//! containerd and the configuration of its pods' network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::network::{BRIDGE, PODS};
use crate::Tools;
use crate::component::Component;
use crate::images::PAUSE;

pub(super) fn socket(directory: &Path) -> PathBuf {
    directory.join("containerd.sock")
}

pub(super) fn start(directory: &Path, tools: &Tools) -> Result<Component> {
    let networks = directory.join("cni");
    fs::create_dir_all(&networks)
        .with_context(|| format!("failed to create {}", networks.display()))?;
    write(&networks.join("10-pods.conflist"), &network(directory))?;
    let configuration = directory.join("containerd.toml");
    write(&configuration, &configuration_text(directory))?;
    let mut containerd = Command::new(tools.path("containerd")?);
    // The shim is found by the search path, and runc by the shim.
    containerd
        .arg("--config")
        .arg(configuration)
        .env("PATH", tools.search_path());
    Component::start(
        "containerd",
        &mut containerd,
        &directory.join("log/containerd.log"),
    )
}

fn configuration_text(directory: &Path) -> String {
    let socket = socket(directory);
    let (directory, socket) = (directory.display(), socket.display());
    // restrict_oom_score_adj: without CAP_SYS_RESOURCE nobody may lower the score of a process.
    format!(
        "version = 3
root = '{directory}/containerd/root'
state = '{directory}/containerd/state'

[grpc]
address = '{socket}'

[debug]
level = 'debug'

[plugins.'io.containerd.internal.v1.opt']
path = '{directory}/containerd/opt'

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{PAUSE}'

[plugins.'io.containerd.cri.v1.images'.registry]
config_path = '{directory}/certs.d'

[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/usr/lib/cni']
conf_dir = '{directory}/cni'
"
    )
}

fn network(directory: &Path) -> String {
    let addresses = directory.join("addresses");
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{ "subnet": PODS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                    "dataDir": addresses,
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "loopback" },
        ],
    })
    .to_string()
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
