//! What the agents on the nodes are handed lives in a namespace of its own, outside of what belongs to a cache: no garbage
//! collector takes it back. The agents are played by nobody.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::{Operator, OperatorOptions, is_gone, objects};
use serde_json::{Value, json};

use super::golden::forget;

const LIMIT: Duration = Duration::from_mins(1);

/// Until a deletion is handed over: less than what the operator waits between two rounds.
const SOON: Duration = Duration::from_secs(10);

const OWN: &str = "wired-system";
const AGENTS: &str = "wired-agents";
const NAMESPACE: &str = "wired";

/// As the chart names the agents' `DaemonSet`, and both objects that it mounts.
const DAEMON_SET: &str = "wired-larder-node-agent";

/// A cache whose files have no secret, and one whose files have.
const CACHES: &str = "
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: open, namespace: wired}
spec:
  upstreams: [{host: docker.io}]
  storage: {volume: {size: 1Gi, onDelete: Delete}}
  mirrors: [{name: nodes, fallback: Forbid}]
---
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: guarded, namespace: wired}
spec:
  upstreams: [{host: quay.io}]
  storage: {volume: {size: 1Gi, onDelete: Delete}}
  mirrors: [{name: nodes, fallback: Forbid, target: {kind: Secret}, credentialsSecretRef: {name: people}}]
";

fn people() -> String {
    let metadata = json!({"name": "people", "namespace": NAMESPACE});
    let data = json!({"username": "node", "password": "pass"});
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data})
        .to_string()
}

pub(crate) fn nodes_are_told_of_every_deletion(cluster: &mut Cluster) -> Result<()> {
    install(cluster)?;
    let mut operator = start(cluster)?;
    cluster.apply(CACHES)?;
    wait_until_handed(cluster, &["open"], &["guarded"])?;
    let text = handed(cluster, "configmaps")?["open"].clone();
    ensure!(
        !text.to_string().contains("https://registry-1.docker.io"),
        "nodes may go to the upstream: {text}"
    );

    // What can't be rendered now is not taken from the nodes, whoever asks in the meantime.
    let people = format!("{}/people", objects("secrets", NAMESPACE));
    let before = handed(cluster, "secrets")?;
    cluster.run(cluster.api.delete(&people, &json!({})))?;
    cluster.wait_for("the cache to miss its Secret", LIMIT, |cluster| {
        let cache = cluster.get(&cache("guarded"))?;
        let ready = e2e::condition(&cache, "Ready");
        ensure!(ready["reason"] == "SecretNotFound", "it is {ready}");
        Ok(())
    })?;
    // The operator hands over anew whatever is new; what was said of the other cache is part of that.
    let more = json!({"spec": {"upstreams": [{"host": "docker.io"}, {"host": "ghcr.io"}]}});
    cluster.run(cluster.api.merge(&cache("open"), &more))?;
    cluster.wait_for("the new upstream to be handed over", LIMIT, |cluster| {
        let text = handed(cluster, "configmaps")?["open"].to_string();
        ensure!(text.contains("ghcr.io"), "it is {text}");
        Ok(())
    })?;
    ensure!(
        handed(cluster, "secrets")? == before,
        "the nodes lost their files with the Secret"
    );
    cluster.apply(&self::people())?;
    cluster.wait_until_cache_is_ready(NAMESPACE, "guarded")?;

    let deleted = Instant::now();
    delete(cluster, "open")?;
    wait_until_handed(cluster, &[], &["guarded"])?;
    let took = deleted.elapsed();
    ensure!(took < SOON, "it took {took:?}");
    operator.check_running()?;
    operator.kill()?;
    // Nothing of the operator holds it back.
    delete(cluster, "guarded")?;
    ensure!(
        handed(cluster, "secrets")? == before,
        "something else has taken it"
    );
    let operator = start(cluster)?;
    wait_until_handed(cluster, &[], &[])?;
    operator.terminate()?;
    for namespace in [OWN, AGENTS, NAMESPACE] {
        forget(cluster, namespace)?;
    }
    Ok(())
}

/// The rights of the chart, for an account with a name of its own, and a `DaemonSet` that fits on no node.
fn install(cluster: &Cluster) -> Result<()> {
    for namespace in [OWN, AGENTS, NAMESPACE] {
        cluster.create_namespace(namespace)?;
    }
    let agents = format!("nodeAgent.enabled=true,nodeAgent.namespace={AGENTS}");
    let caches = format!("nodeAgent.namespaces={{{NAMESPACE}}},watchNamespaces={{{NAMESPACE}}}");
    let account = "serviceAccount.name=robot";
    cluster.install_rights("wired-larder", OWN, &[&agents, &caches, account])?;
    let labels = json!({"app": DAEMON_SET});
    let daemon_set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": DAEMON_SET, "namespace": AGENTS},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"nodeSelector": {"is": "nowhere"}, "containers": [{"name": "agent", "image": "agent"}]},
        }},
    });
    cluster.apply(&daemon_set.to_string())?;
    cluster.apply(&people())
}

fn start(cluster: &mut Cluster) -> Result<Operator> {
    let arguments = [
        ["--watch-namespace", NAMESPACE],
        ["--wire-namespace", NAMESPACE],
        ["--node-agent-namespace", AGENTS],
        ["--node-agent-name", DAEMON_SET],
    ];
    let mut operator = cluster.start_operator_with(&OperatorOptions {
        arguments: arguments
            .as_flattened()
            .iter()
            .map(|one| (*one).to_owned())
            .collect(),
        account: Some((OWN.to_owned(), "robot".to_owned())),
        ..OperatorOptions::default()
    })?;
    operator.wait_until_ready()?;
    Ok(operator)
}

fn cache(name: &str) -> String {
    format!("{}/{name}", objects("registrycaches", NAMESPACE))
}

/// Returns when the cache is gone.
fn delete(cluster: &mut Cluster, name: &str) -> Result<()> {
    cluster.run(cluster.api.delete(&cache(name), &json!({})))?;
    cluster.wait_for("the cache to go", LIMIT, |cluster| {
        match cluster.get(&cache(name)) {
            Err(error) if is_gone(&error) => Ok(()),
            _ => anyhow::bail!("{name} is still there"),
        }
    })
}

/// What one of the two objects holds, by the names of the caches.
fn handed(cluster: &Cluster, plural: &str) -> Result<Value> {
    let object = match cluster.get(&format!("{}/{DAEMON_SET}", objects(plural, AGENTS))) {
        Err(error) if is_gone(&error) => return Ok(json!({})),
        found => found?,
    };
    let mut by_cache = serde_json::Map::new();
    for (key, text) in object["data"].as_object().into_iter().flatten() {
        let name = key.trim_start_matches("wired.").trim_end_matches(".json");
        by_cache.insert(name.to_owned(), text.clone());
    }
    Ok(Value::Object(by_cache))
}

fn wait_until_handed(cluster: &mut Cluster, open: &[&str], confidential: &[&str]) -> Result<()> {
    cluster.wait_for("what nodes are handed", LIMIT, |cluster| {
        for (plural, expected) in [("configmaps", open), ("secrets", confidential)] {
            let handed = handed(cluster, plural)?;
            let names = handed.as_object().map(|all| all.keys().collect::<Vec<_>>());
            ensure!(
                names.as_ref().is_some_and(|names| names == expected),
                "the {plural} hold {names:?} and not {expected:?}"
            );
        }
        Ok(())
    })
}
