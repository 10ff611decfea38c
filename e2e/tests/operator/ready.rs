//! One cache from nothing to ready: that the control plane, the fake kubelet and the operator work together.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::Cluster;
use e2e::cluster::objects;
use serde_json::json;

const LIMIT: Duration = Duration::from_mins(1);

/// A policy, and a cache that follows it in two replicas, wired for one cluster.
pub(crate) const MANIFEST: &str = "
apiVersion: larder.dev/v1alpha1
kind: CachePolicy
metadata: {name: ours}
spec:
  rules:
  - name: official
    match: {upstreams: [docker.io], repositories: [library/*]}
    action: Cache
---
apiVersion: larder.dev/v1alpha1
kind: RegistryCache
metadata: {name: images}
spec:
  upstreams: [{host: docker.io}, {host: quay.io}]
  policyRefs: [{name: ours}]
  defaultAction: Refuse
  replicas: 2
  storage: {volume: {size: 1Gi, onDelete: Delete}}
  mirrors: [{name: nodes}]
";

/// Path of the cache of [`MANIFEST`].
pub(crate) fn cache(namespace: &str) -> String {
    format!("{}/images", objects("registrycaches", namespace))
}

/// Path of its policy.
pub(crate) fn policy(namespace: &str) -> String {
    format!("{}/ours", objects("cachepolicies", namespace))
}

/// [`MANIFEST`] for a namespace.
pub(crate) fn manifest(namespace: &str) -> String {
    MANIFEST.replace(
        "metadata: {",
        &format!("metadata: {{namespace: {namespace}, "),
    )
}

pub(crate) fn cache_becomes_ready_and_an_edit_of_its_policy_is_confirmed(
    cluster: &mut Cluster,
) -> Result<()> {
    cluster.create_namespace("ready")?;
    cluster.apply(&manifest("ready"))?;
    let mut operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready("ready", "images")?;
    let pods = objects("pods", "ready");
    let before = cluster.list(&pods)?;
    ensure!(before.len() == 2, "there are {} pods", before.len());
    let (cache, policy) = (cache("ready"), policy("ready"));
    let hash = cluster.get(&cache)?["status"]["policy"]["desiredHash"].clone();
    let edit = json!({"spec": {"rules": [{"name": "none", "action": "Deny"}]}});
    cluster.run(cluster.api.merge(&policy, &edit))?;
    cluster.wait_for("the edit to be confirmed", LIMIT, |cluster| {
        let policy = cluster.get(&cache)?["status"]["policy"].clone();
        ensure!(
            policy["desiredHash"] != hash && policy["appliedReplicas"] == 2,
            "the policy is {policy}"
        );
        Ok(())
    })?;
    let uids = |pods: &[serde_json::Value]| -> Vec<String> {
        pods.iter()
            .map(|pod| pod["metadata"]["uid"].to_string())
            .collect()
    };
    ensure!(
        uids(&before) == uids(&cluster.list(&pods)?),
        "a pod is another"
    );
    operator.check_running()?;
    // Kubernetes takes the objects in an order of its own, and lets nobody make one anew.
    let before = operator.warnings()?.len();
    cluster.delete_namespace("ready")?;
    let warnings = &operator.warnings()?[before..];
    ensure!(
        warnings.is_empty(),
        "a namespace that goes is no trouble: {warnings:#?}"
    );
    let status = operator.terminate()?;
    ensure!(status.success(), "the operator ended with {status}");
    Ok(())
}
