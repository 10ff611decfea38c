//! etcd, without the disk writes that only matter after a power cut.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::Tools;
use crate::component::Component;

pub(super) const ADDRESS: &str = "http://127.0.0.1:2379";

pub(crate) fn start(directory: &Path, tools: &Tools) -> Result<Component> {
    let mut etcd = Command::new(tools.path("etcd")?);
    etcd.arg("--data-dir")
        .arg(directory.join("etcd"))
        .arg("--unsafe-no-fsync")
        .args([
            "--listen-client-urls",
            ADDRESS,
            "--advertise-client-urls",
            ADDRESS,
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
        ]);
    Component::start("etcd", &mut etcd, &directory.join("log/etcd.log"))
}
