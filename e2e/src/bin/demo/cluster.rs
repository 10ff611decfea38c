//! The quick start on a cluster that exists. Its nodes are left as they are: the cache is asked through the API server. What was
//! installed is removed at the end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use e2e::larder::{self, Metrics, PolicyState};
use e2e::{Tools, command, condition, wait};
use serde_json::Value;

use crate::arguments::Options;
use crate::step::{PROGRESS, Step, bytes, show};
use crate::{EDIT, NAMESPACE};

/// A cluster that pulls images from far away, and may have to make a volume first.
const READY_LIMIT: Duration = Duration::from_mins(5);
const EDIT_LIMIT: Duration = Duration::from_secs(30);
const DEFINITIONS: [&str; 2] = ["registrycaches.larder.dev", "cachepolicies.larder.dev"];

/// Installs, shows and removes; the last also when the second fails.
pub(crate) fn run(options: &Options, keep: bool) -> Result<()> {
    let cluster = Cluster::find(&options.kubeconfig)?;
    cluster.ensure_free()?;
    let shown = install(&cluster, options).and_then(|()| quickstart(&cluster, options));
    if keep {
        println!("\nEverything is still there. It is removed by:");
        println!("    kubectl delete namespace {NAMESPACE}");
        println!(
            "    helm uninstall {} --namespace {}",
            larder::RELEASE,
            larder::NAMESPACE
        );
        println!("    kubectl delete namespace {}", larder::NAMESPACE);
        println!(
            "    kubectl delete customresourcedefinitions {}",
            DEFINITIONS.join(" ")
        );
        return shown;
    }
    let removed = cluster.remove();
    shown.and(removed)
}

fn install(cluster: &Cluster, options: &Options) -> Result<()> {
    let step = Step::begin("helm install larder ./helm");
    let chart = larder::workspace().join("helm");
    let mut helm = cluster.helm();
    helm.args(["install", larder::RELEASE])
        .arg(chart)
        .args(["--namespace", larder::NAMESPACE, "--create-namespace"])
        .args(["--wait", "--timeout", "5m"]);
    for (value, image) in [
        ("image", &options.operator_image),
        ("cacheServerImage", &options.cache_server_image),
    ] {
        if let Some((repository, tag)) = image.as_deref().and_then(|image| image.rsplit_once(':')) {
            helm.args(["--set", &format!("{value}.repository={repository}")]);
            helm.args(["--set-string", &format!("{value}.tag={tag}")]);
        }
    }
    command::output(&mut helm)?;
    step.end("the operator is ready");
    Ok(())
}

fn quickstart(cluster: &Cluster, options: &Options) -> Result<()> {
    let example = match &options.upstream {
        Some(upstream) => larder::quickstart(upstream)?,
        None => larder::plain_quickstart()?,
    };
    let step = Step::begin("kubectl apply -f docs/examples/quickstart.yaml");
    cluster.apply(&larder::restricted_namespace(NAMESPACE))?;
    cluster.apply(&example)?;
    wait::until("the cache to be ready", READY_LIMIT, || {
        let cache = cluster.cache()?;
        let conditions = &cache["status"]["conditions"];
        let ready = condition(&cache, "Ready")["status"] == "True";
        ensure!(
            ready && cache["status"]["observedGeneration"] == cache["metadata"]["generation"],
            "the conditions are {conditions}"
        );
        Ok(())
    })?;
    step.end("the cache is ready, its policy is confirmed");
    show(&cluster.kubectl(&["--namespace", NAMESPACE, "get", "registrycaches"])?);

    let step = Step::begin(&format!("{} asked for, twice", options.image));
    cluster.manifest(&options.image)?;
    let first = cluster.upstream_requests()?;
    cluster.manifest(&options.image)?;
    let second = cluster.upstream_requests()?;
    ensure!(
        first > 0.0 && (second - first).abs() < f64::EPSILON,
        "the second answer came from the upstream too: {first} and {second} requests"
    );
    step.end(&format!(
        "{first} requests to the upstream by the first, none by the second"
    ));

    let before = PolicyState::of(&cluster.cache()?)?;
    let step = Step::begin("kubectl apply, with the rule `official` changed from Cache to Refuse");
    let start = Instant::now();
    cluster.apply(&example.replacen(EDIT.0, EDIT.1, 1))?;
    wait::until("the policy to be confirmed", EDIT_LIMIT, || {
        let state = PolicyState::of(&cluster.cache()?)?;
        ensure!(
            state.is_confirmed() && state.hash != before.hash,
            "the policy is {state:?}"
        );
        Ok(())
    })?;
    let took = start.elapsed().as_secs_f64();
    ensure!(
        cluster.manifest(&options.image).is_err(),
        "the refused image is still served"
    );
    step.end("in force and confirmed by every replica");
    println!();
    println!(
        "Policy edit:             {took:.2} s from `kubectl apply` to confirmed, nothing restarted"
    );
    println!("In the store:            {}", bytes(cluster.stored()?));
    println!(
        "Nodes would be wired by: the ConfigMap images-mirror-nodes in {NAMESPACE}, one hosts.toml for each upstream"
    );
    Ok(())
}

/// The programs with which a cluster is spoken to: those of the person, or built ones.
struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    helm: PathBuf,
}

impl Cluster {
    fn find(kubeconfig: &Path) -> Result<Self> {
        ensure!(kubeconfig.is_file(), "{} is no file", kubeconfig.display());
        let program = |name: &str, tool: &str| match on_the_path(name) {
            Some(path) => Ok(path),
            None => Tools::ensure_these(&[tool], PROGRESS)?.path(name),
        };
        let cluster = Self {
            kubeconfig: kubeconfig.to_owned(),
            helm: program("helm", "helm")?,
            kubectl: program("kubectl", "kubernetes")?,
        };
        cluster
            .kubectl(&["get", "--raw", "/readyz"])
            .with_context(|| format!("the cluster of {} does not answer", kubeconfig.display()))?;
        Ok(cluster)
    }

    /// Fails if anything of Larder is there already: removing it in the end would take it from somebody.
    fn ensure_free(&self) -> Result<()> {
        let objects = [
            ("customresourcedefinition", DEFINITIONS[0]),
            ("customresourcedefinition", DEFINITIONS[1]),
            ("namespace", larder::NAMESPACE),
            ("namespace", NAMESPACE),
        ];
        for (kind, name) in objects {
            let found =
                self.kubectl(&["get", kind, name, "--ignore-not-found", "--output", "name"])?;
            ensure!(
                found.is_empty(),
                "{} is there already: the demo would remove it in the end, so it does not begin",
                found.trim()
            );
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        let step = Step::begin("Everything removed again");
        let delete = [
            "delete",
            "--ignore-not-found",
            "--wait=true",
            "--timeout=3m",
        ];
        self.kubectl(&[&delete[..], &["namespace", NAMESPACE]].concat())?;
        let mut helm = self.helm();
        helm.args(["uninstall", larder::RELEASE, "--ignore-not-found", "--wait"]);
        command::output(helm.args(["--namespace", larder::NAMESPACE]))?;
        self.kubectl(&[&delete[..], &["namespace", larder::NAMESPACE]].concat())?;
        let definitions = [&["customresourcedefinition"], &DEFINITIONS[..]].concat();
        self.kubectl(&[&delete[..], &definitions].concat())?;
        step.end("namespaces, release and definitions");
        Ok(())
    }

    fn cache(&self) -> Result<Value> {
        let get = ["get", "registrycache", "images", "--output", "json"];
        let text = self.kubectl(&[&["--namespace", NAMESPACE], &get[..]].concat())?;
        serde_json::from_str(&text).context("failed to read the RegistryCache")
    }

    /// Asks the cache for the manifest of an official image, by way of the API server.
    fn manifest(&self, image: &str) -> Result<()> {
        let Some((name, tag)) = image.rsplit_once(':') else {
            bail!("{image} has no tag");
        };
        let path = format!("5000/proxy/v2/library/{name}/manifests/{tag}?ns=docker.io");
        self.ask_the_pod(&path).map(drop)
    }

    fn upstream_requests(&self) -> Result<f64> {
        Ok(self.metrics()?.sum("larder_upstream_requests_total", &[]))
    }

    fn stored(&self) -> Result<f64> {
        Ok(self.metrics()?.sum("larder_store_used_bytes", &[]))
    }

    fn metrics(&self) -> Result<Metrics> {
        self.ask_the_pod("5001/proxy/metrics")
            .map(|page| Metrics::parse(&page))
    }

    fn ask_the_pod(&self, path: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/images-0:{path}");
        self.kubectl(&["get", "--raw", &path])
    }

    fn apply(&self, manifest: &str) -> Result<()> {
        let mut kubectl = self.kubectl_command();
        kubectl.args(["apply", "--server-side", "--filename", "-"]);
        command::output_with_input(&mut kubectl, manifest.as_bytes()).map(drop)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        command::output(self.kubectl_command().args(arguments))
    }

    fn kubectl_command(&self) -> Command {
        let mut kubectl = Command::new(&self.kubectl);
        kubectl.env("KUBECONFIG", &self.kubeconfig);
        kubectl
    }

    fn helm(&self) -> Command {
        let mut helm = Command::new(&self.helm);
        helm.env("KUBECONFIG", &self.kubeconfig);
        helm
    }
}

fn on_the_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}
