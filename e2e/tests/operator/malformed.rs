//! Objects that were stored under another definition and can't be read.

use anyhow::{Context, Result, ensure};
use e2e::cluster::objects;
use e2e::{Cluster, condition, larder};
use serde_json::{Value, json};

use super::golden::{Golden, LIMIT, forget, must_still_run, pods, rest, wait_until_golden};
use super::ready;

const DEFINITIONS: [&str; 2] = ["registrycaches", "cachepolicies"];

/// A kind of ours, and the condition that says whether an object of it can be read.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    plural: &'static str,
    condition: &'static str,
}

const CACHE: Kind = Kind {
    name: "RegistryCache",
    plural: "registrycaches",
    condition: "Ready",
};
const POLICY: Kind = Kind {
    name: "CachePolicy",
    plural: "cachepolicies",
    condition: "Accepted",
};

pub(crate) fn malformed_objects_stop_neither_the_operator_nor_other_caches(
    cluster: &mut Cluster,
) -> Result<()> {
    let golden = Golden::make(cluster, "golden-of-malformed")?;
    let namespace = "team-malformed";
    cluster.create_namespace(namespace)?;
    cluster.apply(&ready::manifest(namespace))?;
    let mut operator = cluster.start_operator()?;
    wait_until_golden(cluster, namespace, &golden.new)?;
    let before = pods(cluster, namespace)?;

    DEFINITIONS
        .into_iter()
        .try_for_each(|name| loosen(cluster, name))?;
    let (cache, policy) = (ready::cache(namespace), ready::policy(namespace));
    let in_force = in_force(cluster, namespace)?;
    cluster.wait_for("the malformed policy to be stored", LIMIT, |cluster| {
        let broken = json!({"spec": {"rules": 7}});
        cluster.run(cluster.api.merge(&policy, &broken)).map(drop)
    })?;
    let broken = json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache", "metadata": {"name": "broken"},
        "spec": {"upstreams": "none", "storage": 3},
    });
    cluster.wait_for("the malformed cache to be stored", LIMIT, |cluster| {
        let path = objects("registrycaches", namespace);
        cluster.run(cluster.api.create(&path, &broken)).map(drop)
    })?;
    // One that has seen them readable, and one that has not.
    for _ in 0..2 {
        cluster.wait_for(
            "the cache to say which policy is broken",
            LIMIT,
            |cluster| {
                let cache = cluster.get(&cache)?;
                ensure!(says(&cache, "ours"), "its status is {}", cache["status"]);
                Ok(())
            },
        )?;
        cluster.wait_for("the broken cache to say it itself", LIMIT, |cluster| {
            must_be_told(cluster, namespace, CACHE, "broken")
        })?;
        cluster.wait_for("the policy to say it itself", LIMIT, |cluster| {
            must_be_told(cluster, namespace, POLICY, "ours")
        })?;
        let child = format!("{}/images-mirror-nodes", objects("configmaps", namespace));
        cluster.run(cluster.api.delete(&child, &json!({})))?;
        cluster.wait_for("the child to come back", LIMIT, |cluster| {
            cluster.get(&child).map(drop)
        })?;
        operator.check_running()?;
        operator.kill()?;
        operator = cluster.start_operator()?;
    }
    must_still_run(cluster, namespace, &before)?;
    ensure!(
        self::in_force(cluster, namespace)? == in_force,
        "another policy is in force"
    );
    let bound = cluster.get(&policy)?["status"]["bindings"][0].clone();
    ensure!(bound["cache"] == "images", "it is bound to {bound}");
    // The second operator had nothing new to tell.
    for (of, name) in [(POLICY, "ours"), (CACHE, "broken")] {
        let events = events(cluster, namespace, of, name)?;
        ensure!(events.len() == 1, "the events of {name} are {events:?}");
    }

    operator.kill()?;
    let late = json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "CachePolicy", "metadata": {"name": "late"}, "spec": {"rules": 7},
    });
    let policies = objects("cachepolicies", namespace);
    cluster.run(cluster.api.create(&policies, &late))?;
    let caches = objects("registrycaches", namespace);
    cluster.run(cluster.api.create(&caches, &named(&broken, "late")))?;
    for path in [
        &policy,
        &format!("{}/broken", objects("registrycaches", namespace)),
    ] {
        cluster.run(cluster.api.delete(path, &json!({})))?;
    }
    for name in DEFINITIONS {
        let path = larder::workspace().join(format!("crds/yaml/{name}.yaml"));
        let path = path.to_str().context("the path is not UTF-8")?;
        cluster.kubectl(&["replace", "--filename", path])?;
    }
    cluster.wait_for("the definitions to be in force", LIMIT, |cluster| {
        cluster.apply(&ready::manifest(namespace))
    })?;
    operator = cluster.start_operator()?;
    // Under the definition that is in force again, too.
    cluster.wait_for("the other policy to say it itself", LIMIT, |cluster| {
        must_be_told(cluster, namespace, POLICY, "late")
    })?;
    // The rules of its definition can't be asked of such a cache, so the API server takes no status of it.
    cluster.wait_for("an event about the other cache", LIMIT, |cluster| {
        must_have_an_event(cluster, namespace, CACHE, "late")
    })?;
    for of in [POLICY, CACHE] {
        let late = format!("{}/late", objects(of.plural, namespace));
        cluster.run(cluster.api.delete(&late, &json!({})))?;
    }
    wait_until_golden(cluster, namespace, &golden.new)?;
    must_still_run(cluster, namespace, &before)?;
    rest(cluster, &operator, namespace)?;
    operator.terminate()?;
    forget(cluster, namespace)
}

/// Lets everything in, as an older version of the definition might have.
fn loosen(cluster: &Cluster, plural: &str) -> Result<()> {
    let path =
        format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.larder.dev");
    let open = json!({"spec": {"versions": [{
        "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
    }]}});
    cluster.run(cluster.api.merge(&path, &open)).map(drop)
}

/// The same object under another name.
fn named(object: &Value, name: &str) -> Value {
    let mut object = object.clone();
    object["metadata"]["name"] = json!(name);
    object
}

/// The policy that is rendered, and what the status says of it.
fn in_force(cluster: &Cluster, namespace: &str) -> Result<(Value, Value)> {
    let files = format!("{}/images-config", objects("configmaps", namespace));
    let text = cluster.get(&files)?["data"]["policy.yaml"].clone();
    let status = cluster.get(&ready::cache(namespace))?["status"]["policy"].clone();
    Ok((text, status["desiredHash"].clone()))
}

/// Fails unless the object's status, and an event, say that it can't be read.
fn must_be_told(cluster: &Cluster, namespace: &str, of: Kind, name: &str) -> Result<()> {
    let object = cluster.get(&format!("{}/{name}", objects(of.plural, namespace)))?;
    let told = condition(&object, of.condition);
    let message = told["message"].as_str().unwrap_or_default();
    ensure!(
        told["status"] == "False"
            && message.contains("can't be read")
            && object["status"]["observedGeneration"] == object["metadata"]["generation"],
        "its status is {}",
        object["status"]
    );
    must_have_an_event(cluster, namespace, of, name)
}

fn must_have_an_event(cluster: &Cluster, namespace: &str, of: Kind, name: &str) -> Result<()> {
    let events = events(cluster, namespace, of, name)?;
    ensure!(
        events.iter().any(|note| note.contains("can't be read")),
        "the events are {events:?}"
    );
    Ok(())
}

/// What warnings about an object say.
fn events(cluster: &Cluster, namespace: &str, of: Kind, name: &str) -> Result<Vec<String>> {
    let events = cluster.list(&objects("events", namespace))?;
    let ours = events.iter().filter(|event| {
        event["type"] == "Warning"
            && event["regarding"]["kind"] == of.name
            && event["regarding"]["name"] == name
    });
    Ok(ours
        .map(|event| event["note"].as_str().unwrap_or_default().to_owned())
        .collect())
}

/// Whether `Ready` is false with a message that has the word.
fn says(cache: &Value, word: &str) -> bool {
    let ready = condition(cache, "Ready");
    let message = ready["message"].as_str().unwrap_or_default();
    ready["status"] == "False" && message.contains(word)
}
