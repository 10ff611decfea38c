//! The state in which a cache ends when nobody disturbs it, with which all disturbed runs are compared.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::{EndState, Operator, OperatorOptions, ROUND, objects};
use serde_json::json;

use super::ready;

pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// An edit of everything that no pod has to be restarted for.
const EDIT: &str = "
apiVersion: larder.dev/v1alpha1
kind: CachePolicy
metadata: {name: ours}
spec:
  rules:
  - name: nothing
    match: {repositories: [secret/*]}
    action: Deny
---
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: images}
spec:
  upstreams: [{host: docker.io}, {host: quay.io}, {host: ghcr.io}]
  policyRefs: [{name: ours}]
  defaultAction: Forward
  replicas: 2
  storage: {volume: {size: 1Gi, onDelete: Delete}}
  service: {port: 5443}
  mirrors: [{name: edge, endpoint: \"http://10.1.2.3:30500\"}]
";

/// The two states of an undisturbed cache, and how many writes led there.
#[derive(Debug)]
pub(crate) struct Golden {
    pub(crate) new: EndState,
    pub(crate) writes_of_new: usize,
    pub(crate) edited: EndState,
    pub(crate) writes_of_edited: usize,
}

impl Golden {
    /// Lets a cache come to be, and edits it.
    pub(crate) fn make(cluster: &mut Cluster, namespace: &str) -> Result<Self> {
        cluster.create_namespace(namespace)?;
        let gate = cluster.start_gate()?;
        let mut options = only(namespace);
        options.server = Some(gate.url());
        let mut operator = cluster.start_operator_with(&options)?;
        operator.wait_until_ready()?;
        cluster.apply(&ready::manifest(namespace))?;
        cluster.wait_until_cache_is_ready(namespace, "images")?;
        rest(cluster, &operator, namespace)?;
        wait_until_policy_is_applied(cluster, namespace)?;
        let (new, writes_of_new) = (cluster.end_state(namespace)?, gate.writes().len());
        gate.forget();
        cluster.apply(&edit(namespace))?;
        cluster.wait_until_cache_is_ready(namespace, "images")?;
        rest(cluster, &operator, namespace)?;
        wait_until_policy_is_applied(cluster, namespace)?;
        let golden = Self {
            new,
            writes_of_new,
            edited: cluster.end_state(namespace)?,
            writes_of_edited: gate.writes().len(),
        };
        operator.terminate()?;
        forget(cluster, namespace)?;
        Ok(golden)
    }
}

/// The policy tells later than the cache, and by itself. The cache has come to rest.
fn wait_until_policy_is_applied(cluster: &mut Cluster, namespace: &str) -> Result<()> {
    let path = ready::policy(namespace);
    let cache = cluster.get(&ready::cache(namespace))?;
    let hash = &cache["status"]["policy"]["desiredHash"];
    cluster.wait_for("the policy to tell where it is applied", LIMIT, |cluster| {
        let policy = cluster.get(&path)?;
        let status = &policy["status"];
        ensure!(
            status["applied"] == "2/2"
                && status["bindings"][0]["desiredHash"] == *hash
                && status["observedGeneration"] == policy["metadata"]["generation"],
            "its status is {status}"
        );
        Ok(())
    })
}

/// [`EDIT`] for a namespace.
pub(crate) fn edit(namespace: &str) -> String {
    EDIT.replace(
        "metadata: {",
        &format!("metadata: {{namespace: {namespace}, "),
    )
}

/// An operator of one namespace.
pub(crate) fn only(namespace: &str) -> OperatorOptions {
    OperatorOptions {
        arguments: vec!["--watch-namespace".to_owned(), namespace.to_owned()],
        ..OperatorOptions::default()
    }
}

/// Waits for objects by plural and name. The operator looks every half minute which kinds of others exist.
pub(crate) fn wait_for_children(
    cluster: &mut Cluster,
    namespace: &str,
    children: &[(&str, &str)],
) -> Result<()> {
    cluster.wait_for("all children", LIMIT, |cluster| {
        children.iter().try_for_each(|(plural, name)| {
            let path = format!("{}/{name}", objects(plural, namespace));
            cluster.get(&path).map(drop)
        })
    })
}

/// Wakes the operator until it has looked at the cache several times in a row without a write.
pub(crate) fn rest(cluster: &mut Cluster, operator: &Operator, namespace: &str) -> Result<()> {
    let path = ready::cache(namespace);
    let (mut round, mut quiet) = (0, 0);
    cluster.wait_for("the operator to come to rest", LIMIT, |cluster| {
        let (writes, reconciles) = (operator.writes()?, operator.looks()?.caches);
        round += 1;
        let poke = json!({"metadata": {"annotations": {ROUND: round.to_string()}}});
        cluster.run(cluster.api.merge(&path, &poke))?;
        e2e::wait::until("a reconcile", LIMIT, || {
            ensure!(operator.looks()?.caches > reconciles, "none so far");
            Ok(())
        })?;
        let now = operator.writes()?;
        quiet = if now > writes { 0 } else { quiet + 1 };
        ensure!(quiet >= 5, "{} writes in round {round}", now - writes);
        Ok(())
    })
}

/// Waits until the namespace is as it would be if nothing had happened.
pub(crate) fn wait_until_golden(
    cluster: &mut Cluster,
    namespace: &str,
    golden: &EndState,
) -> Result<()> {
    let what = format!("{namespace} to be in the golden state");
    cluster.wait_for(&what, LIMIT, |cluster| {
        cluster.end_state(namespace)?.must_be(golden)
    })
}

/// UIDs of the pods, by name.
pub(crate) fn pods(cluster: &Cluster, namespace: &str) -> Result<BTreeMap<String, String>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let pods = cluster.list(&objects("pods", namespace))?;
    Ok(pods
        .iter()
        .map(|pod| {
            (
                text(&pod["metadata"]["name"]),
                text(&pod["metadata"]["uid"]),
            )
        })
        .collect())
}

/// Fails if one of the pods is gone, or another now.
pub(crate) fn must_still_run(
    cluster: &Cluster,
    namespace: &str,
    before: &BTreeMap<String, String>,
) -> Result<()> {
    let now = pods(cluster, namespace)?;
    for (name, uid) in before {
        ensure!(
            now.get(name) == Some(uid),
            "pod {namespace}/{name} was {uid} and is {:?}",
            now.get(name)
        );
    }
    Ok(())
}

/// Deletes a namespace and does not wait: nobody uses its name again.
pub(crate) fn forget(cluster: &Cluster, namespace: &str) -> Result<()> {
    let path = format!("/api/v1/namespaces/{namespace}");
    cluster.run(cluster.api.delete(&path, &json!({}))).map(drop)
}

/// The seed of a run: `LARDER_SEED`, or another one each time.
pub(crate) fn random() -> fastrand::Rng {
    let seed = std::env::var("LARDER_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("  LARDER_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}
