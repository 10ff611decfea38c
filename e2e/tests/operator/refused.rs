//! Pods that don't take a policy: the promise is that a person hears of it, with the pod's name, within 15 seconds.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use e2e::{Cluster, condition};
use serde_json::{Value, json};

use super::golden::{forget, must_still_run, pods};
use super::ready;

const PROMISED: Duration = Duration::from_secs(15);

/// Longest wait; more than what is promised, so that a failure tells how long it took.
const LIMIT: Duration = Duration::from_mins(1);

fn policy_applied(cluster: &Cluster, namespace: &str) -> Result<Value> {
    let cache = cluster.get(&ready::cache(namespace))?;
    Ok(condition(&cache, "PolicyApplied").clone())
}

pub(crate) fn pods_that_refuse_a_policy_are_named_in_time(cluster: &mut Cluster) -> Result<()> {
    let namespace = "refused";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let operator = cluster.start_operator()?;
    cluster.wait_until_cache_is_ready(namespace, "images")?;
    let before = pods(cluster, namespace)?;
    let old = cluster.get(&ready::cache(namespace))?["status"]["policy"]["desiredHash"].clone();
    cluster.kubelet.refuse_policies(true);
    let told = refusal_is_told(cluster, namespace, &old);
    // Whatever came of it: later cases have pods that take their policies.
    cluster.kubelet.refuse_policies(false);
    told?;
    cluster.wait_for("the policy to be taken", LIMIT, |cluster| {
        let condition = policy_applied(cluster, namespace)?;
        ensure!(
            condition["status"] == "True",
            "the condition is {condition}"
        );
        let policy = cluster.get(&ready::policy(namespace))?;
        let behind = &policy["status"]["bindings"][0]["behind"];
        ensure!(behind.is_null(), "it is {behind}");
        Ok(())
    })?;
    must_still_run(cluster, namespace, &before)?;
    operator.terminate()?;
    forget(cluster, namespace)
}

/// By the condition in time, and by both statuses.
fn refusal_is_told(cluster: &mut Cluster, namespace: &str, old: &Value) -> Result<()> {
    let edit = json!({"spec": {"rules": [{"name": "none", "action": "Deny"}]}});
    let edited = Instant::now();
    cluster.run(cluster.api.merge(&ready::policy(namespace), &edit))?;
    let told = cluster.wait_for("the refusal to be told", LIMIT, |cluster| {
        let condition = policy_applied(cluster, namespace)?;
        let message = condition["message"].as_str().unwrap_or_default();
        ensure!(
            condition["status"] == "False" && message.contains("images-0"),
            "the condition is {condition}"
        );
        Ok(message.to_owned())
    })?;
    let took = edited.elapsed();
    println!("  told after {:.1} s: {told}", took.as_secs_f64());
    ensure!(took <= PROMISED, "it took {took:?}");
    let behind = json!([{"pod": "images-0", "hash": old}, {"pod": "images-1", "hash": old}]);
    cluster.wait_for("both statuses to name the pods", LIMIT, |cluster| {
        let cache = cluster.get(&ready::cache(namespace))?;
        let policy = cluster.get(&ready::policy(namespace))?;
        let said = [
            &cache["status"]["policy"]["behind"],
            &policy["status"]["bindings"][0]["behind"],
        ];
        ensure!(said.iter().all(|said| **said == behind), "it is {said:?}");
        Ok(())
    })
}
