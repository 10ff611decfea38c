//! One `RegistryCache` and what belongs to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{Metrics, PolicyState};
use crate::{Node, condition};

const READY_LIMIT: Duration = Duration::from_mins(2);

/// A `RegistryCache` by name.
#[derive(Debug, Clone)]
pub struct Cache {
    pub namespace: String,
    pub name: String,
}

/// One pod of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub uid: String,
    pub address: String,
    pub restarts: i64,
}

impl Cache {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// kubectl in the cache's namespace.
    pub fn kubectl(&self, node: &Node, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", &self.namespace];
        all.extend(arguments);
        node.kubectl(&all)
    }

    /// Changes the object by a JSON merge patch.
    pub fn merge(&self, node: &Node, patch: &str) -> Result<()> {
        let kind = ["patch", "registrycache", &self.name, "--type", "merge"];
        self.kubectl(node, &[&kind[..], &["--patch", patch]].concat())
            .map(drop)
    }

    /// The object, or one of its namespace, as JSON.
    pub fn json(&self, node: &Node, kind: &str, name: &str) -> Result<Value> {
        let text = self.kubectl(node, &["get", kind, name, "--output", "json"])?;
        serde_json::from_str(&text).with_context(|| format!("failed to read {kind}/{name}"))
    }

    /// Returns when `Ready` is true for the present generation; says in the error what the conditions are.
    pub fn wait_until_ready(&self, node: &mut Node) -> Result<()> {
        self.wait_for_condition(node, "Ready", "True", READY_LIMIT)
            .map(drop)
    }

    /// Returns the condition once it has the status for the present generation.
    pub fn wait_for_condition(
        &self,
        node: &mut Node,
        kind: &str,
        status: &str,
        limit: Duration,
    ) -> Result<Value> {
        node.wait_for(&format!("{}: {kind}={status}", self.name), limit, |node| {
            let object = self.json(node, "registrycache", &self.name)?;
            let conditions = &object["status"]["conditions"];
            let current =
                object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let condition = condition(&object, kind);
            ensure!(
                current && condition["status"] == status,
                "the conditions are {conditions}"
            );
            Ok(condition.clone())
        })
    }

    /// How far the policy got.
    pub fn policy(&self, node: &Node) -> Result<PolicyState> {
        PolicyState::of(&self.json(node, "registrycache", &self.name)?)
    }

    /// Waits until another policy than `before` is confirmed by every replica, and returns the time since `start`.
    pub fn wait_for_policy_after(
        &self,
        node: &mut Node,
        before: &PolicyState,
        start: Instant,
    ) -> Result<Duration> {
        node.wait_for(
            "the policy to be confirmed",
            Duration::from_secs(30),
            |node| {
                let state = self.policy(node)?;
                ensure!(
                    state.is_confirmed() && state.hash != before.hash,
                    "the policy is {state:?}"
                );
                Ok(())
            },
        )?;
        Ok(start.elapsed())
    }

    /// The pods, by name.
    pub fn members(&self, node: &Node) -> Result<Vec<Member>> {
        let selector = format!(
            "app.kubernetes.io/instance={},app.kubernetes.io/component=cache-server",
            self.name
        );
        let text = self.kubectl(
            node,
            &["get", "pods", "--selector", &selector, "--output", "json"],
        )?;
        let list: Value = serde_json::from_str(&text).context("failed to read the list of pods")?;
        let mut members: Vec<Member> = list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|pod| Member {
                name: pod["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                uid: pod["metadata"]["uid"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                address: pod["status"]["podIP"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned(),
                restarts: pod["status"]["containerStatuses"][0]["restartCount"]
                    .as_i64()
                    .unwrap_or(-1),
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// What the pods count, added up.
    pub fn metrics(&self, node: &Node) -> Result<Metrics> {
        let mut sum = Metrics::default();
        for member in self.members(node)? {
            sum.add(&Metrics::from_server(&format!(
                "http://{}:5001/metrics",
                member.address
            ))?);
        }
        Ok(sum)
    }

    /// Copies the rendered mirror configuration, byte for byte, to where containerd reads it: what a node agent will do.
    pub fn wire(&self, node: &Node, mirror: &str) -> Result<Vec<String>> {
        self.wire_with(node, mirror, "")
    }

    /// Likewise, with more at the end of each `hosts.toml`. Authorities come before the file that names them.
    pub fn wire_with(&self, node: &Node, mirror: &str, more: &str) -> Result<Vec<String>> {
        let object = self.json(node, "configmap", &format!("{}-mirror-{mirror}", self.name))?;
        let data = object["data"]
            .as_object()
            .context("the mirror's ConfigMap has no data")?;
        let mut hosts = Vec::new();
        for (key, text) in data.iter().filter(|(key, _)| *key != "ca.crt") {
            let directory = key
                .strip_suffix(".hosts.toml")
                .with_context(|| format!("the key {key} has another form"))?;
            if let Some(authorities) = data.get("ca.crt").and_then(Value::as_str) {
                node.write_hosts(directory, "ca.crt", authorities)?;
            }
            let text = text.as_str().context("the value is no text")?;
            node.write_hosts(directory, "hosts.toml", &format!("{text}{more}"))?;
            hosts.push(directory.to_owned());
        }
        Ok(hosts)
    }

    /// Makes a volume on the node for each replica. Returns their directories.
    pub fn make_volumes(&self, node: &Node, count: usize, size: &str) -> Result<Vec<PathBuf>> {
        (0..count)
            .map(|index| node.create_local_volume(&format!("{}-{index}", self.name), size))
            .collect()
    }
}

/// Whether one of the stores holds the content.
pub fn stores_hold(stores: &[PathBuf], digest: &str) -> bool {
    let hex = digest.trim_start_matches("sha256:");
    let relative = Path::new("blobs/sha256").join(&hex[..2]).join(hex);
    stores.iter().any(|store| store.join(&relative).is_file())
}
