//! One Kubernetes node with its control plane, to be started inside the namespaces of [`crate::namespaces`].

mod containerd;
pub(crate) mod control_plane;
pub(crate) mod etcd;
mod image_store;
mod kubelet;
pub(crate) mod network;
pub(crate) mod pki;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::component::Component;
use crate::images::{Artifact, PAUSE, write_archive};
use crate::namespaces::cgroup_name;
use crate::{Progress, Tools, command, wait};
use pki::Authority;

pub use network::ADDRESS;

/// The node's name in the cluster.
pub const NAME: &str = "node0";

/// How long any one part may take to come up on a busy machine.
const START_LIMIT: Duration = Duration::from_mins(2);

/// A running node. Dropping it ends its programs; pods and mounts go with the namespaces.
#[derive(Debug)]
pub struct Node {
    directory: PathBuf,
    tools: Tools,
    components: Vec<Component>,
}

impl Node {
    /// Starts everything below the state directory of the namespaces, with the pause image in place, and returns when the
    /// node is ready.
    pub fn start(
        tools: &Tools,
        state: &Path,
        pause: &Artifact,
        progress: Progress<'_>,
    ) -> Result<Self> {
        let cgroup = cgroup_name(state)?;
        let directory = state.join("node");
        for part in ["log", "certs.d", "images", "volumes"] {
            let path = directory.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("failed to create {}", path.display()))?;
        }
        network::configure()?;
        Authority::new()?.issue_all(&directory)?;
        let mut node = Self {
            directory,
            tools: tools.clone(),
            components: Vec::new(),
        };
        progress("starting etcd, kube-apiserver and containerd");
        node.components.push(etcd::start(&node.directory, tools)?);
        node.components
            .push(control_plane::start_api_server(&node.directory, tools)?);
        node.components
            .push(containerd::start(&node.directory, tools)?);
        node.wait_for("containerd", START_LIMIT, |node| node.ctr(&["version"]))?;
        node.import(pause, PAUSE)?;
        node.wait_for("kube-apiserver", START_LIMIT, |node| {
            node.kubectl(&["get", "--raw", "/readyz"])
        })?;
        progress("starting the controllers, kubelet and kube-proxy");
        node.components
            .push(control_plane::start_manager(&node.directory, tools, "*")?);
        node.components
            .push(control_plane::start_scheduler(&node.directory, tools)?);
        node.components
            .extend(kubelet::start(&node.directory, &cgroup, tools)?);
        node.wait_for("the node to be ready", START_LIMIT, Self::check_ready)?;
        // Pods are refused before the controllers have made this.
        node.wait_for("the default service account", START_LIMIT, |node| {
            node.kubectl(&["get", "serviceaccount", "default"])
        })?;
        Ok(node)
    }

    /// Where the node's files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The administrator's configuration file for kubectl, helm and kube clients.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.join("admin.kubeconfig")
    }

    /// The directory from which containerd reads `HOST/hosts.toml` at every pull.
    pub fn hosts_directory(&self) -> PathBuf {
        self.directory.join("certs.d")
    }

    pub fn containerd_socket(&self) -> PathBuf {
        containerd::socket(&self.directory)
    }

    /// The log file of a component by its name, such as `kubelet`.
    pub fn log(&self, component: &str) -> PathBuf {
        self.directory.join("log").join(format!("{component}.log"))
    }

    /// All that containerd has logged, in which every request to a registry has a line.
    pub fn containerd_log(&self) -> Result<String> {
        let path = self.log("containerd");
        fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    }

    /// Runs kubectl as the administrator and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl_command()?.args(arguments))
    }

    /// Applies the objects of a manifest, server side.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.apply_with(&[], manifest)
    }

    /// Has the API server say what it would make of the same, without keeping anything.
    pub fn try_out(&self, manifest: &str) -> Result<String> {
        self.apply_with(&["--dry-run=server"], manifest)
    }

    fn apply_with(&self, options: &[&str], manifest: &str) -> Result<String> {
        let mut kubectl = self.kubectl_command()?;
        kubectl.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command::output_with_input(kubectl.args(options), manifest.as_bytes())
    }

    /// Runs ctr in the namespace of Kubernetes and returns what it prints.
    pub fn ctr(&self, arguments: &[&str]) -> Result<String> {
        let mut ctr = Command::new(self.tools.path("ctr")?);
        ctr.arg("--address")
            .arg(self.containerd_socket())
            .args(["--namespace", "k8s.io"]);
        command::output(ctr.args(arguments))
    }

    /// Runs helm as the administrator and returns what it prints.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut helm = Command::new(self.tools.path("helm")?);
        helm.env("KUBECONFIG", self.kubeconfig())
            .env("KUBECACHEDIR", self.directory.join("kubectl"))
            .env("HELM_CACHE_HOME", self.directory.join("helm/cache"))
            .env("HELM_CONFIG_HOME", self.directory.join("helm/config"))
            .env("HELM_DATA_HOME", self.directory.join("helm/data"));
        command::output(helm.args(arguments))
    }

    /// Writes `certs.d/HOST/FILE` in one step, so that no pull reads half of it.
    pub fn write_hosts(&self, host: &str, file: &str, text: &str) -> Result<()> {
        let directory = self.hosts_directory().join(host);
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        let temporary = directory.join(format!(".{file}"));
        fs::write(&temporary, text)
            .with_context(|| format!("failed to write {}", temporary.display()))?;
        fs::rename(&temporary, directory.join(file))
            .with_context(|| format!("failed to rename {}", temporary.display()))
    }

    /// Imports an image archive into the node's image store.
    pub fn import_image(&self, archive: &Path) -> Result<()> {
        self.ctr(&["images", "import", &archive.to_string_lossy()])
            .map(drop)
    }

    /// Imports `artifact` under the image name `name`.
    pub fn import(&self, artifact: &Artifact, name: &str) -> Result<()> {
        let archive = self
            .directory
            .join("images")
            .join(format!("{}.tar", name.replace(['/', ':'], "_")));
        write_archive(artifact, name, &archive)?;
        self.import_image(&archive)
            .with_context(|| format!("failed to import {name}"))?;
        fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
    }

    /// Removes all images but pause and Larder's own, with their content, so that the next pull fetches everything again. Pods
    /// that use an image must be gone before: their snapshots would make up for its layers.
    pub fn remove_all_workload_images(&self) -> Result<()> {
        image_store::remove_all_workload_images(self)
    }

    /// Makes a directory on the node and a `PersistentVolume` of it, in the default storage class.
    pub fn create_local_volume(&self, name: &str, size: &str) -> Result<PathBuf> {
        let directory = self.directory.join("volumes").join(name);
        fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
        self.apply(&volume::manifest(name, size, &directory))?;
        Ok(directory)
    }

    /// Fails when a component has ended, with its name and its last log lines.
    pub fn check_running(&mut self) -> Result<()> {
        self.components
            .iter_mut()
            .try_for_each(Component::check_running)
    }

    /// Calls `attempt` until it succeeds; gives up at the deadline, and at once when a component has ended.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut attempt: impl FnMut(&Self) -> Result<T>,
    ) -> Result<T> {
        let outcome = wait::until(what, limit, || match self.check_running() {
            Ok(()) => attempt(self).map(Ok),
            Err(error) => Ok(Err(error)),
        });
        outcome?.with_context(|| format!("no point in waiting for {what}"))
    }

    /// Waits until a pod of the default or another namespace is ready; its state is in the error if it does not get there.
    pub fn wait_for_pod(&mut self, namespace: &str, name: &str, limit: Duration) -> Result<()> {
        const READY: &str = r#"{.status.phase} {.status.conditions[?(@.type=="Ready")].status} {.status.containerStatuses[*].state}"#;
        let columns = format!("jsonpath={READY}");
        self.wait_for(&format!("pod {name} to be ready"), limit, |node| {
            let state = node.kubectl(&["-n", namespace, "get", "pod", name, "-o", &columns])?;
            if state.starts_with("Running True") {
                Ok(())
            } else {
                bail!("its state is: {state}")
            }
        })
    }

    fn kubectl_command(&self) -> Result<Command> {
        control_plane::kubectl(&self.directory, &self.tools)
    }

    fn check_ready(&self) -> Result<()> {
        const READY: &str = r#"jsonpath={.status.conditions[?(@.type=="Ready")]}"#;
        let condition = self.kubectl(&["get", "node", NAME, "-o", READY])?;
        if condition.contains(r#""status":"True""#) {
            Ok(())
        } else {
            bail!("its condition is: {condition}")
        }
    }
}
