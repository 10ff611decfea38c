//! Flux's source-controller and kustomize-controller, as programs on the node: they apply to the cluster what an OCI artifact
//! has.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::blocking::Client;
use serde_json::Value;

use crate::component::Component;
use crate::{Node, Tools, wait};

/// The Go programs that they are made of, and the one that uploads artifacts.
pub const TOOLS: &[&str] = &["flux", "oras"];

/// Where Flux's own objects are.
pub const NAMESPACE: &str = "flux-system";

const START_LIMIT: Duration = Duration::from_mins(1);
/// From where kustomize-controller fetches what source-controller has unpacked.
const STORAGE: &str = "127.0.0.1:9790";
const SOURCE_HEALTH: &str = "127.0.0.1:9440";
const KUSTOMIZE_HEALTH: &str = "127.0.0.1:9441";

/// Both controllers. Dropping it ends them; what they applied stays.
#[derive(Debug)]
pub struct Flux {
    components: Vec<Component>,
    requests: u32,
}

impl Flux {
    /// Installs Flux's definitions and starts the controllers as the cluster's administrator, with their files below
    /// `directory`.
    pub fn start(tools: &Tools, node: &Node, directory: &Path) -> Result<Self> {
        for part in ["log", "artifacts", "temporary"] {
            let path = directory.join(part);
            fs::create_dir_all(&path)
                .with_context(|| format!("failed to create {}", path.display()))?;
        }
        for controller in ["source-controller", "kustomize-controller"] {
            let definitions = tools.data(controller)?;
            let definitions = definitions.to_str().context("the path is not UTF-8")?;
            node.kubectl(&["apply", "--server-side", "--filename", definitions])?;
        }
        node.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "customresourcedefinitions",
            "--all",
        ])?;
        node.apply(&format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"
        ))?;
        let artifacts = directory.join("artifacts");
        let storage = [
            format!("--storage-path={}", artifacts.display()),
            format!("--storage-addr={STORAGE}"),
            format!("--storage-adv-addr={STORAGE}"),
        ];
        let dependency = ["--requeue-dependency=1s".to_owned()];
        let mut flux = Self {
            components: Vec::new(),
            requests: 0,
        };
        for (name, health, special) in [
            ("source-controller", SOURCE_HEALTH, &storage[..]),
            ("kustomize-controller", KUSTOMIZE_HEALTH, &dependency[..]),
        ] {
            let mut command = Command::new(tools.path(name)?);
            command
                .args(["--metrics-addr=0", "--log-encoding=console"])
                .arg(format!("--health-addr={health}"))
                .args(special)
                .env("KUBECONFIG", node.kubeconfig())
                .env("RUNTIME_NAMESPACE", NAMESPACE)
                .env("HOME", directory)
                .env("TMPDIR", directory.join("temporary"));
            let log = directory.join("log").join(format!("{name}.log"));
            flux.components
                .push(Component::start(name, &mut command, &log)?);
        }
        for health in [SOURCE_HEALTH, KUSTOMIZE_HEALTH] {
            flux.wait_until_ready(health)?;
        }
        Ok(flux)
    }

    /// Fails when a controller has ended, with its last log lines.
    pub fn check_running(&mut self) -> Result<()> {
        self.components
            .iter_mut()
            .try_for_each(Component::check_running)
    }

    /// Asks for a reconcile of an object such as `kustomization/caches` now, and returns its state when that has ended.
    pub fn reconcile(&mut self, node: &Node, object: &str, limit: Duration) -> Result<Value> {
        self.requests += 1;
        let request = self.requests.to_string();
        let annotation = format!("reconcile.fluxcd.io/requestedAt={request}");
        kubectl(node, &["annotate", "--overwrite", object, &annotation])?;
        wait::until(&format!("the reconcile of {object}"), limit, || {
            self.check_running()?;
            let state = read(node, object)?;
            // A new object is looked at once only to give it a finalizer, and says then that the request was handled.
            let looked = state["status"]["observedGeneration"] == state["metadata"]["generation"];
            if looked && state["status"]["lastHandledReconcileAt"] == *request {
                Ok(state)
            } else {
                bail!("its conditions are {}", state["status"]["conditions"])
            }
        })
    }

    fn wait_until_ready(&mut self, health: &str) -> Result<()> {
        let client = Client::builder()
            .no_proxy()
            .build()
            .context("failed to build a client")?;
        wait::until("a controller of Flux", START_LIMIT, || {
            self.check_running()?;
            let answer = client.get(format!("http://{health}/readyz")).send();
            let status = answer.context("no answer")?.status();
            if status.is_success() {
                Ok(())
            } else {
                bail!("it answers {status}")
            }
        })
    }
}

/// One of Flux's objects.
pub fn read(node: &Node, object: &str) -> Result<Value> {
    let text = kubectl(node, &["get", object, "--output", "json"])?;
    serde_json::from_str(&text).with_context(|| format!("failed to read {object}"))
}

/// kubectl in the namespace of Flux's objects.
pub fn kubectl(node: &Node, arguments: &[&str]) -> Result<String> {
    node.kubectl(&[&["--namespace", NAMESPACE], arguments].concat())
}
