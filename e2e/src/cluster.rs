//! A control plane without a node, for the operator alone. etcd, the API server and the controller manager are the real ones, and
//! the operator is a process with the rights that the chart gives it; only kubelet and volumes are made up ([`FakeKubelet`]).

mod api;
mod crowd;
mod end_state;
mod gate;
mod kubelet;
mod operator;
mod pods;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::component::Component;
use crate::larder::{NAMESPACE, OPERATOR_NAME, RELEASE, workspace};
use crate::node::pki::Authority;
use crate::node::{control_plane, etcd, network};
use crate::programs::{self, Build};
use crate::runner::Setting;
use crate::tools::packages;
use crate::{Progress, Tools, command, condition, namespaces, wait};

pub use api::{Api, Refused, is_gone};
pub use crowd::Crowd;
pub use end_state::{EndState, ROUND};
pub use gate::{Gate, Moment};
pub use kubelet::FakeKubelet;
pub use operator::{Looks, Operator, OperatorOptions};

/// The node that all pods are bound to.
const NODE: &str = "fake0";

/// Controllers that would see that there is no kubelet, and no volume behind a claim.
const CONTROLLERS: &str = "*,-node-lifecycle-controller,-taint-eviction-controller,-persistentvolume-binder-controller,-persistentvolume-expander-controller";

/// Those that make pods of what the operator makes, and addresses of pods.
const WORKLOADS: &str = "-statefulset-controller,-endpoints-controller,-endpointslice-controller";

const TOOLS: &[&str] = &["definitions", "etcd", "helm", "kubernetes"];

/// The definitions of kinds that the operator uses where they exist: whose they are, and their files.
const OPTIONAL_DEFINITIONS: [(&str, &str); 4] = [
    (
        "prometheus-operator",
        "monitoring.coreos.com_servicemonitors.yaml",
    ),
    (
        "prometheus-operator",
        "monitoring.coreos.com_prometheusrules.yaml",
    ),
    ("cert-manager", "cert-manager.io_certificates.yaml"),
    ("gateway-api", "gateway.networking.k8s.io_httproutes.yaml"),
];

const START_LIMIT: Duration = Duration::from_mins(2);

/// A running control plane. Dropping it ends its programs.
#[derive(Debug)]
pub struct Cluster {
    pub api: Api,
    pub kubelet: FakeKubelet,
    tools: Tools,
    directory: PathBuf,
    /// The operator's program.
    operator: PathBuf,
    started_operators: u16,
    manager: Component,
    api_server: Component,
    etcd: Component,
    runtime: Runtime,
}

impl Setting for Cluster {
    const LOGS: &'static [&'static str] = &["cluster/log"];

    fn prepare(progress: Progress<'_>) -> Result<()> {
        Self::prepare_with(Build::Quick, progress)
    }

    fn start(state: &Path, progress: Progress<'_>) -> Result<Self> {
        Self::start_with(Build::Quick, state, progress)
    }

    fn check_running(&mut self) -> Result<()> {
        [&mut self.etcd, &mut self.api_server, &mut self.manager]
            .into_iter()
            .try_for_each(Component::check_running)
    }

    fn write_down(&self, case: &str) {
        let kinds = "registrycaches,cachepolicies,statefulsets,configmaps,services,pods,persistentvolumeclaims,events";
        let objects = self.kubectl(&["get", kinds, "--all-namespaces", "--output", "yaml"]);
        let text = objects.unwrap_or_else(|error| format!("{error:#}"));
        let _ = fs::write(self.directory.join("log").join(case), text);
    }
}

impl Cluster {
    /// Gets what the control plane and the operator are made of. May need the network.
    pub fn prepare_with(build: Build, progress: Progress<'_>) -> Result<()> {
        namespaces::require_root()?;
        packages::ensure(&["iproute2"], progress)?;
        Tools::ensure_these(TOOLS, progress)?;
        programs::build_operator(build, progress)
    }

    /// Starts everything below the state directory, inside the namespaces, with Larder's definitions and the operator's rights.
    pub fn start_with(build: Build, state: &Path, progress: Progress<'_>) -> Result<Self> {
        let tools = Tools::ensure_these(TOOLS, progress)?;
        let directory = state.join("cluster");
        let log = directory.join("log");
        fs::create_dir_all(&log).with_context(|| format!("failed to create {}", log.display()))?;
        network::configure()?;
        Authority::new()?.issue_all(&directory)?;
        progress("starting etcd, kube-apiserver and kube-controller-manager");
        let etcd = etcd::start(&directory, &tools)?;
        let mut api_server = control_plane::start_api_server(&directory, &tools)?;
        let runtime = Runtime::new().context("failed to build the runtime")?;
        let api = Api::new(&directory)?;
        wait_until_ready(&runtime, &api, &mut api_server)?;
        make_node_and_storage_class(&runtime, &api)?;
        let manager = control_plane::start_manager(&directory, &tools, CONTROLLERS)?;
        let cluster = Self {
            kubelet: FakeKubelet::start(&runtime, api.clone())?,
            api,
            operator: programs::built_operator(build)?,
            started_operators: 0,
            manager,
            api_server,
            etcd,
            runtime,
            tools,
            directory,
        };
        cluster.install()?;
        progress("the control plane is ready");
        Ok(cluster)
    }

    /// Applies Larder's definitions, and the operator's account and rights as the chart has them.
    fn install(&self) -> Result<()> {
        for file in ["registrycaches", "cachepolicies"] {
            let path = workspace().join(format!("crds/yaml/{file}.yaml"));
            let text = fs::read_to_string(&path)
                .with_context(|| format!("failed to read {}", path.display()))?;
            self.apply(&text)?;
        }
        let kinds = ["registrycaches.larder.dev", "cachepolicies.larder.dev"]
            .map(|name| format!("customresourcedefinition/{name}"));
        let mut wait = vec!["wait", "--for=condition=Established", "--timeout=60s"];
        wait.extend(kinds.iter().map(String::as_str));
        self.kubectl(&wait)?;
        self.create_namespace(NAMESPACE)?;
        self.install_rights(RELEASE, NAMESPACE, &[])
    }

    /// Applies the account of an operator and its rights, as the chart has them for a release with these values, each
    /// `name=value`.
    pub fn install_rights(&self, release: &str, namespace: &str, values: &[&str]) -> Result<()> {
        let mut helm = std::process::Command::new(self.tools.path("helm")?);
        helm.args(["template", release, "--namespace", namespace])
            .arg(workspace().join("helm"))
            .args(values.iter().flat_map(|value| ["--set", value]))
            .env("HELM_CACHE_HOME", self.directory.join("helm/cache"))
            .env("HELM_CONFIG_HOME", self.directory.join("helm/config"))
            .env("HELM_DATA_HOME", self.directory.join("helm/data"));
        let chart = command::output(&mut helm)?;
        let is_right = |document: &&str| {
            document.lines().any(|line| {
                line.strip_prefix("kind: ")
                    .is_some_and(|kind| kind == "ServiceAccount" || kind.contains("Role"))
            })
        };
        let rights: Vec<&str> = chart.split("\n---\n").filter(is_right).collect();
        self.apply(&rights.join("\n---\n"))
    }

    /// Runs kubectl as the administrator and returns what it prints.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(control_plane::kubectl(&self.directory, &self.tools)?.args(arguments))
    }

    /// Applies the objects of a manifest, server side, as a person would.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        let mut kubectl = control_plane::kubectl(&self.directory, &self.tools)?;
        kubectl.args(["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        command::output_with_input(&mut kubectl, manifest.as_bytes()).map(drop)
    }

    /// Installs the real definitions of all kinds that the operator uses where they exist; nobody looks after their objects.
    pub fn install_optional_definitions(&self) -> Result<()> {
        self.optional_definitions()?
            .iter()
            .try_for_each(|text| self.apply(text))
    }

    /// Removes them again, with their objects.
    pub fn remove_optional_definitions(&self) -> Result<()> {
        for text in self.optional_definitions()? {
            let mut kubectl = control_plane::kubectl(&self.directory, &self.tools)?;
            kubectl.args(["delete", "--wait=true", "-f", "-"]);
            command::output_with_input(&mut kubectl, text.as_bytes())?;
        }
        Ok(())
    }

    fn optional_definitions(&self) -> Result<Vec<String>> {
        let read = |(of, file)| {
            let path = self.tools.data(of)?.join(file);
            fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        OPTIONAL_DEFINITIONS.into_iter().map(read).collect()
    }

    /// Waits for calls to [`Self::api`].
    pub fn run<T>(&self, calls: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(calls)
    }

    /// An object or a list, by its path.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.run(self.api.get(path))
    }

    /// The objects of a list.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut list = self.get(path)?;
        Ok(match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        })
    }

    /// Makes a namespace.
    pub fn create_namespace(&self, name: &str) -> Result<()> {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.run(self.api.create("/api/v1/namespaces", &object))
            .map(drop)
    }

    /// Deletes a namespace with all that is in it, and returns when it is gone.
    pub fn delete_namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&[
            "delete",
            "namespace",
            name,
            "--wait=true",
            "--ignore-not-found",
        ])
        .map(drop)
    }

    /// Calls `attempt` until it succeeds; gives up at the deadline, and at once when a part of the control plane has ended.
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

    /// Returns when no cache is left of the namespaces that others deleted: an operator of all namespaces writes to them until they are gone.
    pub fn wait_until_no_cache_is_left(&mut self) -> Result<()> {
        self.wait_for("the caches of others to be gone", START_LIMIT, |cluster| {
            let caches = cluster.list("/apis/larder.dev/v1alpha1/registrycaches")?;
            let left: Vec<_> = caches
                .iter()
                .map(|one| &one["metadata"]["namespace"])
                .collect();
            anyhow::ensure!(left.is_empty(), "there are some in {left:?}");
            Ok(())
        })
    }

    /// Returns when the cache is ready for its present generation, and no longer reconciling.
    pub fn wait_until_cache_is_ready(&mut self, namespace: &str, name: &str) -> Result<()> {
        let path = format!("{}/{name}", objects("registrycaches", namespace));
        self.wait_for(
            &format!("{namespace}/{name} to be ready"),
            START_LIMIT,
            |cluster| {
                let cache = cluster.get(&path)?;
                anyhow::ensure!(is_ready(&cache), "its status is {}", cache["status"]);
                Ok(())
            },
        )
    }

    /// No pod comes to be until [`Self::resume_workloads`].
    pub fn pause_workloads(&mut self) -> Result<()> {
        self.restart_manager(&format!("{CONTROLLERS},{WORKLOADS}"))
    }

    /// Pods come to be again.
    pub fn resume_workloads(&mut self) -> Result<()> {
        self.restart_manager(CONTROLLERS)
    }

    fn restart_manager(&mut self, controllers: &str) -> Result<()> {
        self.manager.stop()?;
        self.manager = control_plane::start_manager(&self.directory, &self.tools, controllers)?;
        Ok(())
    }

    /// Everything in a namespace that the operator keeps, without what differs from run to run.
    pub fn end_state(&self, namespace: &str) -> Result<EndState> {
        self.run(EndState::of(&self.api, namespace))
    }

    /// Ends the API server at once, and starts it again. Returns when it is ready.
    pub fn restart_api_server(&mut self) -> Result<()> {
        self.api_server.stop()?;
        self.api_server = control_plane::start_api_server(&self.directory, &self.tools)?;
        wait_until_ready(&self.runtime, &self.api, &mut self.api_server)
    }
}

/// Whether a `RegistryCache` is ready for its present generation.
pub fn is_ready(cache: &Value) -> bool {
    let status = &cache["status"];
    let holds = |kind| condition(cache, kind)["status"] == "True";
    status["observedGeneration"] == cache["metadata"]["generation"]
        && holds("Ready")
        && !holds("Reconciling")
}

/// The path of the objects of a kind in a namespace, as the API server has it; `plural` is one of those that the operator reads or
/// writes.
pub fn objects(plural: &str, namespace: &str) -> String {
    let group = match plural {
        "registrycaches" | "cachepolicies" => "apis/larder.dev/v1alpha1",
        "statefulsets" => "apis/apps/v1",
        "leases" => "apis/coordination.k8s.io/v1",
        "events" => "apis/events.k8s.io/v1",
        "servicemonitors" | "prometheusrules" => "apis/monitoring.coreos.com/v1",
        "httproutes" => "apis/gateway.networking.k8s.io/v1",
        "poddisruptionbudgets" => "apis/policy/v1",
        "certificates" => "apis/cert-manager.io/v1",
        "networkpolicies" | "ingresses" => "apis/networking.k8s.io/v1",
        _ => "api/v1",
    };
    format!("/{group}/namespaces/{namespace}/{plural}")
}

fn wait_until_ready(runtime: &Runtime, api: &Api, server: &mut Component) -> Result<()> {
    let outcome = wait::until("kube-apiserver", START_LIMIT, || {
        if let Err(error) = server.check_running() {
            return Ok(Err(error));
        }
        // The answer is no JSON, but comes only when it is ready.
        match runtime.block_on(api.get("/readyz?verbose=false")) {
            Err(error) if error.downcast_ref::<serde_json::Error>().is_none() => Err(error),
            _ => Ok(Ok(())),
        }
    });
    outcome?
}

fn make_node_and_storage_class(runtime: &Runtime, api: &Api) -> Result<()> {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {"name": "fake", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "larder.dev/fake", "allowVolumeExpansion": true,
    });
    runtime.block_on(async {
        api.create("/api/v1/nodes", &node).await?;
        api.create("/apis/storage.k8s.io/v1/storageclasses", &class)
            .await
            .map(drop)
    })
}

/// The configuration file of a client that shows a token.
fn kubeconfig(server: &str, authority: &Path, token: &str) -> String {
    let authority = authority.display();
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: larder
  cluster: {{server: \"{server}\", certificate-authority: \"{authority}\"}}
users:
- name: {OPERATOR_NAME}
  user: {{token: \"{token}\"}}
contexts:
- name: larder
  context: {{cluster: larder, user: {OPERATOR_NAME}}}
current-context: larder
"
    )
}
