//! What docs/flux.md promises.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use e2e::flux;
use e2e::larder;
use e2e::{Node, condition, wait};
use serde_json::Value;

use crate::fleet::{Fleet, LIMIT};

/// What Flux applies, and what the operator and Kubernetes make of it. Pods and endpoints are left out: Kubernetes alone
/// writes those.
const KINDS: &str = "registrycaches,cachepolicies,statefulsets,services,configmaps,deployments,serviceaccounts,\
                     persistentvolumeclaims,controllerrevisions";

/// The rule of the quick start that the cases edit.
const CACHED: &str =
    "action: Cache\n      freshness:\n        refreshAfter: 10m\n        serveStaleFor: 7d\n";

pub(crate) fn ready_waits_for_the_pods_of_the_cache(fleet: &mut Fleet) -> Result<()> {
    fleet.publish()?;
    fleet.apply()?;
    fleet.wait_until_applied("larder")?;
    // There is no volume yet, so the pod can't start.
    let cache = Fleet::cache();
    cache.wait_for_condition(&mut fleet.world.node, "Ready", "False", LIMIT)?;
    let revision = fleet.fetch()?;
    wait::until("Flux to wait for the cache", LIMIT, || {
        let waiting = flux::read(&fleet.world.node, "kustomization/caches")?;
        let message = condition(&waiting, "Reconciling")["message"].to_string();
        ensure!(
            message.contains("health checks") && message.contains(&revision),
            "it says {message}"
        );
        Ok(())
    })?;
    fleet.make_volume()?;
    fleet.wait_until_claim_is_bound()?;
    let caches = fleet.wait_for_revision("caches", &revision, "True")?;
    let object = cache.json(&fleet.world.node, "registrycache", &cache.name)?;
    let since = |object: &Value| {
        let condition = condition(object, "Ready");
        (
            condition["status"].clone(),
            condition["lastTransitionTime"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    let (cache_ready, cache_since) = since(&object);
    let (_, flux_since) = since(&caches);
    ensure!(
        cache_ready == "True" && cache_since <= flux_since,
        "the Kustomization is ready since {flux_since}, the cache is {cache_ready} since {cache_since}"
    );
    Ok(())
}

pub(crate) fn reconciles_without_a_change_write_nothing(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    // Nobody pulls, so that after the first figures there are no others.
    wait::until("the first figures", LIMIT, || {
        let object = cache.json(&fleet.world.node, "registrycache", &cache.name)?;
        let usage = &object["status"]["usage"];
        ensure!(usage.is_object(), "the usage is {usage}");
        Ok(())
    })?;
    let mut before = versions(&fleet.world.node)?;
    wait::until("all to come to rest", LIMIT, || {
        let now = versions(&fleet.world.node)?;
        let moved = difference(&before, &now);
        before = now;
        ensure!(moved.is_empty(), "moved: {moved:?}");
        Ok(())
    })?;
    for _ in 0..5 {
        for object in [
            "ocirepository/fleet",
            "kustomization/larder",
            "kustomization/caches",
        ] {
            fleet
                .flux
                .reconcile(&fleet.world.node, object, LIMIT)
                .context("a reconcile without a change failed")?;
        }
    }
    let moved = difference(&before, &versions(&fleet.world.node)?);
    ensure!(moved.is_empty(), "written without a change: {moved:?}");
    Ok(())
}

pub(crate) fn flux_and_the_operator_share_no_field(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    for (kind, name) in [("registrycache", "images"), ("cachepolicy", "ours")] {
        let get = [
            "get",
            kind,
            name,
            "--show-managed-fields",
            "--output",
            "json",
        ];
        let text = cache.kubectl(&fleet.world.node, &get)?;
        let object: Value = serde_json::from_str(&text).context("failed to read an object")?;
        let managers = object["metadata"]["managedFields"]
            .as_array()
            .context("nobody manages a field")?;
        let mut seen = Vec::new();
        for manager in managers {
            let fields = &manager["fieldsV1"];
            let (spec, status) = (
                fields.get("f:spec").is_some(),
                fields.get("f:status").is_some(),
            );
            let name = manager["manager"].as_str().unwrap_or_default();
            match name {
                "kustomize-controller" => ensure!(spec && !status, "{kind}: Flux has {fields}"),
                name if name.starts_with("larder.dev/") => {
                    ensure!(!spec && status, "{kind}: {name} has {fields}");
                }
                other => bail!("{kind}: {other} has {fields}"),
            }
            seen.push(name);
        }
        ensure!(
            seen.contains(&"kustomize-controller") && seen.len() > 1,
            "{kind}: managed by {seen:?} only"
        );
    }
    Ok(())
}

pub(crate) fn edited_policy_is_in_force_without_a_restart(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    let members = cache.members(&fleet.world.node)?;
    let before = cache.policy(&fleet.world.node)?;
    fleet.write_quickstart(|text| text.replacen(CACHED, "action: Refuse\n", 1))?;
    fleet.publish()?;
    let revision = fleet.fetch()?;
    let start = Instant::now();
    let took = cache.wait_for_policy_after(&mut fleet.world.node, &before, start)?;
    println!(
        "  from a fetched revision to confirmed by every replica: {:.2} s",
        took.as_secs_f64()
    );
    fleet.wait_for_revision("caches", &revision, "True")?;
    ensure!(
        cache.members(&fleet.world.node)? == members,
        "a pod was replaced or restarted"
    );
    Ok(())
}

pub(crate) fn edit_by_hand_is_taken_back(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    let members = cache.members(&fleet.world.node)?;
    let declared = cache.policy(&fleet.world.node)?;
    let patch = r#"[{"op":"remove","path":"/spec/rules/1/retention"},{"op":"replace","path":"/spec/rules/1/action","value":"Deny"}]"#;
    let by_hand = [
        "patch",
        "cachepolicy",
        "ours",
        "--type",
        "json",
        "--patch",
        patch,
    ];
    cache.kubectl(&fleet.world.node, &by_hand)?;
    cache.wait_for_policy_after(&mut fleet.world.node, &declared, Instant::now())?;
    let edited = cache.policy(&fleet.world.node)?;
    fleet
        .flux
        .reconcile(&fleet.world.node, "kustomization/caches", LIMIT)?;
    cache.wait_for_policy_after(&mut fleet.world.node, &edited, Instant::now())?;
    let back = cache.policy(&fleet.world.node)?;
    ensure!(
        back.hash == declared.hash,
        "the policy is neither the edited nor the declared one"
    );
    ensure!(
        cache.members(&fleet.world.node)? == members,
        "a pod was replaced or restarted"
    );
    Ok(())
}

pub(crate) fn refused_revision_is_named_and_changes_nothing(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    let before = cache.policy(&fleet.world.node)?;
    let example =
        larder::workspace().join("crds/examples/rejected/policy-freshness-without-cache.yaml");
    let example = fs::read_to_string(&example)
        .with_context(|| format!("failed to read {}", example.display()))?;
    let sentence = example
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# refused: "))
        .context("the rejected example does not say why")?;
    fleet.write_quickstart(|text| text.replacen("action: Cache", "action: Refuse", 1))?;
    fleet.publish()?;
    let revision = fleet.fetch()?;
    let refused = fleet.wait_for_revision("caches", &revision, "False")?;
    let message = condition(&refused, "Ready")["message"].to_string();
    ensure!(
        message.contains(sentence) && message.contains("ours"),
        "the message does not say what is wrong: {message}"
    );
    let after = cache.policy(&fleet.world.node)?;
    ensure!(
        after == before && after.is_confirmed(),
        "the policy was {before:?} and is {after:?}"
    );
    fleet.ready().map(drop)
}

pub(crate) fn what_the_artifact_drops_is_removed(fleet: &mut Fleet) -> Result<()> {
    let cache = fleet.ready()?;
    fleet.publish_without_the_quick_start()?;
    fleet.wait_until_applied("caches")?;
    let kinds = "registrycaches,cachepolicies,statefulsets,services,pods,persistentvolumeclaims";
    wait::until("the cache to be gone", LIMIT, || {
        let left = cache.kubectl(&fleet.world.node, &["get", kinds, "--output", "name"])?;
        ensure!(left.is_empty(), "left: {left}");
        let maps = ["get", "configmaps", "--output", "name"];
        let maps = cache.kubectl(&fleet.world.node, &maps)?;
        ensure!(!maps.contains("images"), "left: {maps}");
        Ok(())
    })
}

pub(crate) fn removed_kustomizations_leave_nothing(fleet: &mut Fleet) -> Result<()> {
    fleet.ready()?;
    for name in ["caches", "larder"] {
        let delete = [
            "delete",
            "kustomization",
            name,
            "--wait=true",
            "--timeout=120s",
        ];
        flux::kubectl(&fleet.world.node, &delete)?;
    }
    wait::until("Larder to be gone", LIMIT, || {
        let kinds = "customresourcedefinitions,namespaces,clusterroles,clusterrolebindings";
        let left = fleet
            .world
            .node
            .kubectl(&["get", kinds, "--output", "name"])?;
        let left: Vec<&str> = left
            .lines()
            .filter(|line| line.contains("larder"))
            .collect();
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
}

/// The resource version of each object in the namespaces of the operator and of the cache.
fn versions(node: &Node) -> Result<BTreeMap<String, String>> {
    let mut versions = BTreeMap::new();
    for namespace in [larder::NAMESPACE, "larder-quickstart"] {
        let columns = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
        let get = ["--namespace", namespace, "get", KINDS, "--output", columns];
        for line in node.kubectl(&get)?.lines() {
            let (object, version) = line
                .split_once(' ')
                .context("kubectl printed another form")?;
            versions.insert(format!("{namespace}/{object}"), version.to_owned());
        }
    }
    ensure!(versions.len() > 10, "there are only {versions:?}");
    Ok(versions)
}

/// The objects that are not the same.
fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names = before.keys().chain(after.keys());
    let mut different: Vec<String> = names
        .filter(|name| before.get(*name) != after.get(*name))
        .cloned()
        .collect();
    different.sort_unstable();
    different.dedup();
    different
}
