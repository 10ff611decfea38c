//! The node agent of the chart, on a node where somebody had a mirror configuration before.

mod forbidden;
mod through_tls;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::larder::{self, Cache, stores_hold};
use e2e::{Node, World, wait};
use reqwest::blocking::Client;

use super::quickstart::{self, digests, forget, run_pod};

pub(crate) use forbidden::a_deleted_cache_that_forbade_the_fallback_gives_the_node_back;
pub(crate) use through_tls::a_new_authority_reaches_the_node_before_the_certificate_does;

const HELLO: &str = "docker.io/library/hello:1.0";
const AGENTS: &str = "larder-node-agent";
/// The agent gives a cache up after 30 seconds, and the pods take their time to end.
const WITHDRAW_LIMIT: Duration = Duration::from_mins(3);

pub(crate) fn agent_wires_the_node_and_pulls_go_through_the_cache(world: &mut World) -> Result<()> {
    let (_, stores) = wired(world)?;
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "wired", HELLO)?;
    for digest in digests(&world.images.hello_1)? {
        ensure!(stores_hold(&stores, &digest), "{digest} is in no store");
    }
    world.upstream.only_caches_asked()?;
    forget(world, "wired")
}

pub(crate) fn credentials_reach_the_node_for_root_alone(world: &mut World) -> Result<()> {
    let (cache, _) = wired(world)?;
    let node = &mut world.node;
    node.apply(&format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: people, namespace: {}}}
type: kubernetes.io/basic-auth
stringData: {{username: nodes, password: opensesame}}
",
        cache.namespace
    ))?;
    let closed = r#"{"spec": {"access": {"basic": {"secretRef": {"name": "people"}}}}}"#;
    cache.merge(node, closed)?;
    // A cache that lets no node in is of no use to them, however well it is.
    let refused = cache.wait_for_condition(node, "NodesWired", "False", WITHDRAW_LIMIT)?;
    ensure!(
        refused["message"].to_string().contains("401 Unauthorized"),
        "it is {refused}"
    );
    let with =
        r#"{"spec": {"mirrors": [{"name": "nodes", "credentialsSecretRef": {"name": "people"}}]}}"#;
    cache.merge(node, with)?;
    let header = "Authorization = \"Basic bm9kZXM6b3BlbnNlc2FtZQ==\"";
    wait_for_hosts(node, |text| text.contains(header))?;
    let path = node.hosts_directory().join("docker.io/hosts.toml");
    let mode = fs::metadata(&path)
        .context("failed to look at hosts.toml")?
        .permissions()
        .mode();
    ensure!(mode & 0o777 == 0o600, "the file's mode is {mode:o}");
    cache.wait_for_condition(node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    let handed = node.kubectl(&[
        "--namespace",
        AGENTS,
        "get",
        "configmap",
        AGENTS,
        "--output=yaml",
    ])?;
    ensure!(
        !handed.contains("bm9kZXM6b3BlbnNlc2FtZQ"),
        "the ConfigMap of the agents has credentials in it"
    );

    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "shown", HELLO)?;
    world.upstream.only_caches_asked()?;
    forget(world, "shown")?;

    // Both sides follow a new password, and say so only when it opens the cache.
    let node = &mut world.node;
    let rotated = r#"{"stringData": {"password": "closesesame"}}"#;
    node.kubectl(&[
        "--namespace",
        &cache.namespace,
        "patch",
        "secret",
        "people",
        "--type=merge",
        "--patch",
        rotated,
    ])?;
    wait_for_hosts(node, |text| text.contains("Basic bm9kZXM6Y2xvc2VzZXNhbWU="))?;
    for member in cache.members(node)? {
        wait::until("the pod to take the new password", WITHDRAW_LIMIT, || {
            let url = format!("http://{}:5000/v2/", member.address);
            let request = Client::builder().no_proxy().build()?.get(url);
            let answer = request.basic_auth("nodes", Some("closesesame")).send()?;
            ensure!(answer.status() == 200, "it answers {}", answer.status());
            Ok(())
        })?;
    }
    cache.wait_for_condition(node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    world.node.remove_all_workload_images()?;
    world.upstream.clear_requests()?;
    run_pod(world, "rotated", HELLO)?;
    world.upstream.only_caches_asked()?;
    forget(world, "rotated")?;

    let node = &mut world.node;
    let without = r#"{"spec": {"access": null, "mirrors": [{"name": "nodes"}]}}"#;
    cache.merge(node, without)?;
    wait_for_hosts(node, |text| !text.contains("Authorization"))?;
    cache.wait_for_condition(node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    cache.wait_until_ready(node)
}

fn wait_for_hosts(node: &Node, holds: impl Fn(&str) -> bool) -> Result<()> {
    let path = node.hosts_directory().join("docker.io/hosts.toml");
    wait::until("the node's file to follow", WITHDRAW_LIMIT, || {
        let text = fs::read_to_string(&path).context("it can't be read")?;
        ensure!(holds(&text), "{text}");
        Ok(())
    })
}

pub(crate) fn node_goes_past_a_cache_that_is_gone_and_comes_back(world: &mut World) -> Result<()> {
    let (cache, _) = wired(world)?;
    let theirs = theirs(world);
    scale(
        &world.node,
        larder::NAMESPACE,
        "deployment/larder-operator",
        0,
    )?;
    scale(&world.node, &cache.namespace, "statefulset/images", 0)?;
    wait::until("the node's own file to be back", WITHDRAW_LIMIT, || {
        let files = files(&world.node)?;
        ensure!(
            files.get("docker.io/hosts.toml") == Some(&theirs),
            "{files:?}"
        );
        Ok(())
    })?;
    world.node.remove_all_workload_images()?;
    run_pod(world, "past", HELLO)?;
    forget(world, "past")?;
    scale(
        &world.node,
        larder::NAMESPACE,
        "deployment/larder-operator",
        1,
    )?;
    cache.wait_for_condition(&mut world.node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    wait::until("the cache's file to be back", WITHDRAW_LIMIT, || {
        let files = files(&world.node)?;
        ensure!(
            files.get("docker.io/hosts.toml") != Some(&theirs),
            "{files:?}"
        );
        Ok(())
    })?;
    cache.wait_until_ready(&mut world.node)
}

pub(crate) fn agent_that_is_switched_off_leaves_the_node_as_it_was(
    world: &mut World,
) -> Result<()> {
    wired(world)?;
    upgrade(&world.node, &["nodeAgent.enabled=false".to_owned()])?;
    as_it_was(world)?;
    // With all that was in it. Kubernetes takes a while for that, and lets nobody make anything there meanwhile.
    let namespace = format!("namespace/{AGENTS}");
    let gone = ["wait", "--for=delete", &namespace, "--timeout=3m"];
    world.node.kubectl(&gone).map(drop)
}

pub(crate) fn uninstall_leaves_the_node_as_it_was(world: &mut World) -> Result<()> {
    wired(world)?;
    world.node.helm(&[
        "uninstall",
        larder::RELEASE,
        "--namespace",
        larder::NAMESPACE,
        "--timeout=4m",
    ])?;
    as_it_was(world)
}

/// Has the files that somebody had there, and no others.
fn as_it_was(world: &World) -> Result<()> {
    let left = files(&world.node)?;
    let expected = BTreeMap::from([
        ("docker.io/client.key".to_owned(), "theirs".to_owned()),
        ("docker.io/hosts.toml".to_owned(), theirs(world)),
    ]);
    ensure!(left == expected, "{left:?}");
    Ok(())
}

/// Returns when the agent has wired the node to the quick start's cache. Before it came, the node had files of somebody else.
fn wired(world: &mut World) -> Result<(Cache, Vec<PathBuf>)> {
    let ready = quickstart::ready(world)?;
    let daemon_set = ["--namespace", AGENTS, "get", "daemonset", AGENTS];
    if world.node.kubectl(&daemon_set).is_err() {
        let certs = world.node.hosts_directory();
        for entry in fs::read_dir(&certs).context("failed to list the node's mirrors")? {
            fs::remove_dir_all(entry?.path()).context("failed to remove a mirror")?;
        }
        world
            .node
            .write_hosts("docker.io", "hosts.toml", &theirs(world))?;
        world
            .node
            .write_hosts("docker.io", "client.key", "theirs")?;
        install(&world.node)?;
    }
    let (cache, _) = &ready;
    cache.wait_for_condition(&mut world.node, "NodesWired", "True", WITHDRAW_LIMIT)?;
    Ok(ready)
}

fn install(node: &Node) -> Result<()> {
    let directory = node.directory().display();
    upgrade(
        node,
        &[
            "nodeAgent.enabled=true".to_owned(),
            format!("nodeAgent.namespaces={{{}}}", quickstart::NAMESPACE),
            format!(
                "nodeAgent.certsDirectory={}",
                node.hosts_directory().display()
            ),
            format!("nodeAgent.containerdConfig={directory}/containerd.toml"),
        ],
    )
}

/// Returns when the agent has nothing of that host on the node any more.
fn wait_until_gone(node: &Node, host: &str) -> Result<()> {
    wait::until("the host's files to go", WITHDRAW_LIMIT, || {
        let mut files = files(node)?;
        files.retain(|name, _| name.contains(host));
        ensure!(files.is_empty(), "{files:?}");
        Ok(())
    })
}

/// Changes values of the release; the others stay.
fn upgrade(node: &Node, settings: &[String]) -> Result<()> {
    let chart = larder::workspace().join("helm");
    let chart = chart.to_str().context("the path is not UTF-8")?;
    let mut arguments = vec![
        "upgrade",
        larder::RELEASE,
        chart,
        "--namespace",
        larder::NAMESPACE,
        "--reset-then-reuse-values",
    ];
    for setting in settings {
        arguments.extend(["--set", setting]);
    }
    node.helm(&arguments).map(drop)
}

/// The files below `certs.d`.
fn files(node: &Node) -> Result<BTreeMap<String, String>> {
    let root = node.hosts_directory();
    let mut found = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(&root)?.display().to_string();
                found.insert(name, fs::read_to_string(&path)?);
            }
        }
    }
    Ok(found)
}

/// What somebody had on the node.
fn theirs(world: &World) -> String {
    format!("# theirs\nserver = \"{}\"\n", world.upstream.url())
}

fn scale(node: &Node, namespace: &str, object: &str, replicas: usize) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    node.kubectl(&["--namespace", namespace, "scale", object, &replicas])
        .map(drop)
}
