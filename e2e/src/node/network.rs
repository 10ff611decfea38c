//! The network of the namespace: loopback, and a bridge that holds the node's address and will hold the pods.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// The node's own address, at which pods and the node itself reach servers of the tests.
pub const ADDRESS: &str = "10.88.0.1";
pub(super) const PODS: &str = "10.88.0.0/16";
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The bridge; the network plugin of the same name adds pods to it.
pub(super) const BRIDGE: &str = "cni0";

pub(crate) fn configure() -> Result<()> {
    ip("link set lo up")?;
    ip(&format!("link add {BRIDGE} type bridge"))?;
    ip(&format!("address add {ADDRESS}/16 dev {BRIDGE}"))?;
    ip(&format!("link set {BRIDGE} up"))?;
    // Without a default route, the node itself would find no way to a service's address before kube-proxy can rewrite it.
    ip(&format!(
        "route replace {SERVICES} dev {BRIDGE} src {ADDRESS}"
    ))?;
    set("/proc/sys/net/ipv4/ip_forward")?;
    // For node ports on loopback.
    set("/proc/sys/net/ipv4/conf/all/route_localnet")?;
    // Where the kernel has this, packets between pods on the bridge would pass by the service rules without it.
    let bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if Path::new(bridged).exists() {
        set(bridged)
    } else {
        Ok(())
    }
}

/// Every address of the range becomes one of this machine's own: what listens on all addresses is reached by it.
pub(crate) fn make_local(range: &str) -> Result<()> {
    ip(&format!("route add local {range} dev lo"))
}

fn ip(arguments: &str) -> Result<()> {
    command::output(
        Command::new("ip")
            .args(arguments.split(' '))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
    )?;
    Ok(())
}

fn set(setting: &str) -> Result<()> {
    fs::write(setting, "1").with_context(|| format!("failed to set {setting}"))
}
