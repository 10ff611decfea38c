//! From nothing to a node that pulls through the cache, and a policy edit on the running cache.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::World;
use e2e::larder::{self, Cache};
use e2e::namespaces::{self, Side};
use e2e::runner::{self, Setting};

use crate::step::{PROGRESS, Step, bytes, show};
use crate::{EDIT, NAMESPACE};

const IMAGE: &str = "docker.io/library/hello:1.0";

/// The whole demo, on either side of the namespaces.
pub(crate) fn run(keep: bool) -> Result<ExitCode> {
    match namespaces::side()? {
        Side::Outer => outer(),
        Side::Inner(state) => inner(&state, keep).map(|()| ExitCode::SUCCESS),
    }
}

fn outer() -> Result<ExitCode> {
    let step = Step::begin("What the node is made of");
    World::prepare(PROGRESS)?;
    step.end("");
    let ended = namespaces::run_inside(None)?;
    if ended.leftovers.is_empty() {
        println!("Nothing is left on this machine: no process, no mount, no network device.");
    } else {
        println!("Left on this machine: {}", ended.leftovers);
    }
    Ok(ended.exit_code())
}

fn inner(state: &Path, keep: bool) -> Result<()> {
    runner::install_crypto();
    let step = Step::begin(
        "A Kubernetes node: control plane, kubelet, containerd, and a registry that stands for Docker Hub",
    );
    let mut world = World::start(state, PROGRESS)?;
    step.end("the node is ready");

    let step = Step::begin("helm install larder ./helm");
    larder::install(&mut world)?;
    step.end("the operator is ready");

    let cache = Cache::new(NAMESPACE, "images");
    let step = Step::begin("kubectl apply -f docs/examples/quickstart.yaml");
    world.node.apply(&larder::restricted_namespace(NAMESPACE))?;
    let stores = cache.make_volumes(&world.node, 1, "20Gi")?;
    world
        .node
        .apply(&larder::quickstart(&world.upstream.url())?)?;
    cache.wait_until_ready(&mut world.node)?;
    step.end("the cache is ready, its policy is confirmed");
    show(&cache.kubectl(&world.node, &["get", "registrycaches"])?);

    let step = Step::begin("The rendered hosts.toml goes to containerd");
    let hosts = cache.wire(&world.node, "nodes")?;
    step.end(&hosts.join(", "));

    pulls(&mut world, &cache, &stores)?;
    let (edit, from_cache, from_upstream) = policy(&mut world, &cache)?;
    if keep {
        stay(&world)?;
    }
    println!();
    println!("Bytes from the upstream: {}", bytes(from_upstream));
    println!("Bytes from the cache:    {}", bytes(from_cache));
    println!(
        "Policy edit:             {edit:.2} s from `kubectl apply` to confirmed by every replica, nothing restarted"
    );
    ensure!(
        edit < 2.0,
        "the policy edit took {edit:.2} s; it should take less than 2 s"
    );
    Ok(())
}

/// Three pulls by the kubelet: cold, with the upstream gone, and with the cache gone past it.
fn pulls(world: &mut World, cache: &Cache, stores: &[PathBuf]) -> Result<()> {
    world.upstream.clear_requests()?;
    let step = Step::begin(&format!("A pod of {IMAGE}, for the first time"));
    run_pod(world, "first")?;
    let requests = world.upstream.requests()?;
    let blobs = requests
        .iter()
        .filter(|request| request.method == "GET" && request.path.contains("/blobs/"))
        .count();
    let kept = world
        .images
        .hello_1
        .amd64()?
        .blobs()
        .filter(|blob| larder::stores_hold(stores, &blob.digest))
        .count();
    step.end(&format!(
        "{blobs} blobs from the upstream, each once; {kept} digests are in the store"
    ));

    world.upstream.clear_requests()?;
    world.node.remove_all_workload_images()?;
    let step = Step::begin("The node's image store emptied, and the same pod again");
    run_pod(world, "second")?;
    let blobs = world
        .upstream
        .requests()?
        .iter()
        .filter(|request| request.path.contains("/blobs/"))
        .count();
    step.end(&format!("{blobs} blobs from the upstream"));

    world.node.remove_all_workload_images()?;
    world.upstream.stop()?;
    let step = Step::begin("The upstream stopped, and the same pod again, by tag");
    run_pod(world, "offline")?;
    world.upstream.start_again()?;
    step.end("pulled from the cache alone");
    show(&cache.kubectl(&world.node, &["get", "registrycaches"])?);
    Ok(())
}

/// Edits the policy and returns the seconds, and the bytes from the cache and from the upstream so far.
fn policy(world: &mut World, cache: &Cache) -> Result<(f64, f64, f64)> {
    let metrics = cache.metrics(&world.node)?;
    let bytes = |source: &str| {
        metrics.sum(
            "larder_response_bytes_total",
            &[&format!("source=\"{source}\"")],
        )
    };
    let edited = larder::quickstart(&world.upstream.url())?.replacen(EDIT.0, EDIT.1, 1);
    let before = cache.policy(&world.node)?;
    let step = Step::begin("kubectl apply, with the rule `official` changed from Cache to Refuse");
    let start = Instant::now();
    world.node.apply(&edited)?;
    let took = cache.wait_for_policy_after(&mut world.node, &before, start)?;
    let members = cache.members(&world.node)?;
    let restarts: i64 = members.iter().map(|member| member.restarts).sum();
    step.end(&format!(
        "in force and confirmed by {} of {} replicas, {restarts} restarts",
        members.len(),
        members.len()
    ));
    Ok((took.as_secs_f64(), bytes("cache"), bytes("upstream")))
}

fn run_pod(world: &mut World, name: &str) -> Result<()> {
    world.node.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: default}}, spec: {{terminationGracePeriodSeconds: 1, containers: [{{name: main, image: '{IMAGE}'}}]}}}}"
    ))?;
    world
        .node
        .wait_for_pod("default", name, std::time::Duration::from_secs(90))?;
    world
        .node
        .kubectl(&[
            "delete",
            "pod",
            name,
            "--namespace",
            "default",
            "--wait=true",
        ])
        .map(drop)
}

/// Gives the terminal to the person until they leave the shell.
fn stay(world: &World) -> Result<()> {
    println!(
        "\nEverything is still running. A shell in the node's namespaces follows, with kubectl, helm and ctr; for example:"
    );
    println!("    kubectl -n {NAMESPACE} get registrycaches,cachepolicies,pods");
    println!("    kubectl -n {NAMESPACE} edit cachepolicy ours");
    println!("    kubectl -n {NAMESPACE} logs images-0");
    if !std::io::stdin().is_terminal() {
        println!(
            "There is no terminal for a shell. End this program, and everything is taken down."
        );
        loop {
            std::thread::park();
        }
    }
    println!("Leave it with `exit`, and everything is taken down.\n");
    Command::new("bash")
        .arg("--norc")
        .env("PS1", "larder demo $ ")
        .env("PATH", world.tools.search_path())
        .env("KUBECONFIG", world.node.kubeconfig())
        .env("CONTAINERD_ADDRESS", world.node.containerd_socket())
        .env("CONTAINERD_NAMESPACE", "k8s.io")
        .status()
        .context("failed to start bash")?;
    Ok(())
}
