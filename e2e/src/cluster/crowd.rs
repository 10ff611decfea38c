//! Many caches at once: for what the operator costs when there are many.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Api, Cluster, Looks, Operator, ROUND, is_ready, objects};
use crate::wait;

/// Caches in a namespace; they share a policy.
const TOGETHER: u32 = 50;

/// Calls to the API server at a time.
const CALLS: usize = 16;

/// `ConfigMap`s, Services and `StatefulSet`s of each.
const CHILDREN: [(&str, u64); 3] = [("configmaps", 2), ("services", 2), ("statefulsets", 1)];

/// So many caches, each with one replica.
#[derive(Debug, Clone)]
pub struct Crowd {
    count: u32,
    namespaces: Vec<String>,
    caches: Vec<(String, String)>,
}

impl Crowd {
    /// Makes them, in namespaces whose names begin with `prefix`.
    pub fn create(cluster: &Cluster, prefix: &str, count: u32) -> Result<Self> {
        let caches: Vec<(String, String)> = (0..count)
            .map(|at| (format!("{prefix}-{}", at / TOGETHER), format!("cache-{at}")))
            .collect();
        let mut namespaces: Vec<String> = caches
            .iter()
            .map(|(namespace, _)| namespace.clone())
            .collect();
        namespaces.dedup();
        for namespace in &namespaces {
            cluster.create_namespace(namespace)?;
            let policy = json!({
                "apiVersion": "larder.dev/v1alpha1", "kind": "CachePolicy", "metadata": {"name": "ours"},
                "spec": {"rules": [{"name": "official", "match": {"repositories": ["library/*"]}, "action": "Cache"}]},
            });
            let path = objects("cachepolicies", namespace);
            cluster.run(cluster.api.create(&path, &policy))?;
        }
        let crowd = Self {
            count,
            namespaces,
            caches,
        };
        crowd.for_each(cluster, |api, namespace, name| async move {
            let cache = json!({
                "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache", "metadata": {"name": name},
                "spec": {
                    "upstreams": [{"host": "docker.io"}, {"host": "quay.io"}], "policyRefs": [{"name": "ours"}],
                    "defaultAction": "Refuse", "storage": {"volume": {"size": "10Gi", "onDelete": "Delete"}},
                },
            });
            let path = objects("registrycaches", &namespace);
            api.create(&path, &cache).await.map(drop)
        })?;
        Ok(crowd)
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns when every cache has all of its children.
    pub fn wait_until_applied(&self, cluster: &Cluster, limit: Duration) -> Result<()> {
        wait::until("all children to be there", limit, || {
            for (plural, of_each) in CHILDREN {
                let mut found = 0;
                for namespace in &self.namespaces {
                    found += number(cluster, plural, namespace)?;
                }
                let wanted = of_each * u64::from(self.count);
                ensure!(found == wanted, "{found} of {wanted} {plural}");
            }
            Ok(())
        })
    }

    /// Returns when every cache is ready.
    pub fn wait_until_ready(&self, cluster: &Cluster, limit: Duration) -> Result<()> {
        let mut pending = self.caches.iter().peekable();
        wait::until("all caches to be ready", limit, || {
            while let Some((namespace, name)) = pending.peek() {
                let path = format!("{}/{name}", objects("registrycaches", namespace));
                let cache = cluster.get(&path)?;
                ensure!(is_ready(&cache), "{namespace}/{name}: {}", cache["status"]);
                pending.next();
            }
            Ok(())
        })
    }

    /// Gives the operator a reason to look at every cache.
    pub fn wake(&self, cluster: &Cluster, round: usize) -> Result<()> {
        self.for_each(cluster, move |api, namespace, name| async move {
            let path = format!("{}/{name}", objects("registrycaches", &namespace));
            let poke = json!({"metadata": {"annotations": {ROUND: round.to_string()}}});
            api.merge(&path, &poke).await.map(drop)
        })
    }

    /// Returns when the operator has looked at as many caches and policies since it had looked at `before`.
    pub fn wait_until_looked_at(
        &self,
        operator: &Operator,
        before: Looks,
        limit: Duration,
    ) -> Result<()> {
        wait::until("all caches and policies to be looked at", limit, || {
            let now = operator.looks()?;
            let caches = now.caches - before.caches;
            let policies = now.policies - before.policies;
            ensure!(
                caches >= f64::from(self.count) && policies >= self.policies(),
                "{caches} of {} caches, {policies} of {} policies",
                self.count,
                self.policies()
            );
            Ok(())
        })
    }

    /// Wakes the operator for every cache, and returns when it has looked: at their policies too.
    pub fn look_at_all(
        &self,
        cluster: &Cluster,
        operator: &Operator,
        round: usize,
        limit: Duration,
    ) -> Result<()> {
        let before = operator.looks()?;
        self.wake(cluster, round)?;
        self.wait_until_looked_at(operator, before, limit)
    }

    /// Returns when waking every cache leads to no write: the last events of what has just been made have been looked at.
    pub fn settle(&self, cluster: &Cluster, operator: &Operator, limit: Duration) -> Result<()> {
        let mut round = 0;
        wait::until("a round without a write", limit, || {
            round += 1;
            let before = operator.metrics()?;
            self.look_at_all(cluster, operator, round, limit)?;
            let written = operator.written_since(&before)?;
            ensure!(written.is_empty(), "written: {}", written.join(", "));
            Ok(())
        })
    }

    /// How many policies there are: one in each namespace.
    #[expect(clippy::cast_precision_loss, reason = "there are few")]
    fn policies(&self) -> f64 {
        self.namespaces.len() as f64
    }

    /// Deletes all of it, and returns when it is gone.
    pub fn delete(&self, cluster: &Cluster) -> Result<()> {
        for namespace in &self.namespaces {
            let path = format!("/api/v1/namespaces/{namespace}");
            cluster.run(cluster.api.delete(&path, &json!({})))?;
        }
        self.namespaces
            .iter()
            .try_for_each(|namespace| cluster.delete_namespace(namespace))
    }

    fn for_each<F>(&self, cluster: &Cluster, call: impl Fn(Api, String, String) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(CALLS));
        cluster.run(async {
            let mut calls = JoinSet::new();
            for (namespace, name) in self.caches.clone() {
                let call = call(cluster.api.clone(), namespace, name);
                let places = places.clone();
                calls.spawn(async move {
                    let _place = places.acquire().await?;
                    call.await
                });
            }
            while let Some(call) = calls.join_next().await {
                call.context("a call panicked")??;
            }
            Ok(())
        })
    }
}

/// The number of objects, without fetching them all; those that Kubernetes makes in each namespace don't count.
fn number(cluster: &Cluster, plural: &str, namespace: &str) -> Result<u64> {
    let list = cluster.get(&format!("{}?limit=1", objects(plural, namespace)))?;
    let shown = list["items"].as_array().map_or(0, Vec::len);
    let more = list["metadata"]["remainingItemCount"].as_u64();
    // Every namespace has kube-root-ca.crt.
    let others = u64::from(plural == "configmaps");
    Ok((u64::from(shown > 0) + more.unwrap_or(0)).saturating_sub(others))
}
