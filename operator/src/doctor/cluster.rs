//! A cluster: the operator, the caches with their conditions, pods, policies and nodes, and what was said about them.

use std::path::Path;

use crds::cache_policy::CachePolicy;
use crds::conditions::{NOT_ENFORCEABLE, NOT_PULLABLE, RECONCILING, RISKY, STALLED, SUSPENDED};
use crds::registry_cache::RegistryCache;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;

use super::Finding;
use crate::render::names;

/// Events that are shown of one cache.
const EVENTS: usize = 3;

/// Why the cluster can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to use the kubeconfig {path}")]
    Kubeconfig {
        path: String,
        source: kube::config::KubeconfigError,
    },
    #[error("failed to make a client")]
    Client { source: Box<kube::Error> },
    #[error("failed to list {what}")]
    List {
        what: &'static str,
        source: Box<kube::Error>,
    },
}

/// What was read in a cluster.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Names of the definitions of the group that are there; `None`: they may not be read.
    pub definitions: Option<Vec<String>>,
    pub operators: Vec<Pod>,
    pub caches: Vec<RegistryCache>,
    /// Caches and policies that can't be read, and why.
    pub malformed: Vec<(String, String)>,
    pub policies: Vec<CachePolicy>,
    /// Pods of caches.
    pub pods: Vec<Pod>,
    /// Warnings about caches and their pods.
    pub events: Vec<Event>,
}

/// Reads the cluster.
pub async fn look(kubeconfig: &Path, namespace: Option<&str>) -> Result<Facts, Error> {
    let broken = |source| Error::Kubeconfig {
        path: kubeconfig.display().to_string(),
        source,
    };
    let read = Kubeconfig::read_from(kubeconfig).map_err(broken)?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .map_err(broken)?;
    let client = Client::try_from(config).map_err(|source| Error::Client {
        source: Box::new(source),
    })?;
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut facts = Facts {
        // Who may look at caches need not be allowed to look at definitions.
        definitions: definitions
            .list_metadata(&ListParams::default())
            .await
            .ok()
            .map(|list| {
                let names = list.items.iter().map(kube::ResourceExt::name_any);
                names.filter(|name| name.ends_with(crds::GROUP)).collect()
            }),
        ..Facts::default()
    };
    if facts.definitions.as_ref().is_some_and(Vec::is_empty) {
        return Ok(facts);
    }
    let operators = "app.kubernetes.io/name=larder-operator,app.kubernetes.io/component=operator";
    let managed = format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1);
    // The operator may be in a namespace that this person can't see.
    facts.operators = list(&client, None, "pods", operators)
        .await
        .unwrap_or_default();
    facts.pods = list(&client, namespace, "pods", &managed).await?;
    facts.events = list(&client, namespace, "events", "").await?;
    facts
        .events
        .retain(|event| event.type_.as_deref() == Some("Warning"));
    let caches: Vec<DeserializeGuard<RegistryCache>> =
        list(&client, namespace, "RegistryCaches", "").await?;
    let policies: Vec<DeserializeGuard<CachePolicy>> =
        list(&client, namespace, "CachePolicies", "").await?;
    for DeserializeGuard(cache) in caches {
        match cache {
            Ok(cache) => facts.caches.push(cache),
            Err(error) => facts
                .malformed
                .push((title("RegistryCache", &error.metadata), error.error)),
        }
    }
    for DeserializeGuard(policy) in policies {
        match policy {
            Ok(policy) => facts.policies.push(policy),
            Err(error) => facts
                .malformed
                .push((title("CachePolicy", &error.metadata), error.error)),
        }
    }
    Ok(facts)
}

async fn list<K>(
    client: &Client,
    namespace: Option<&str>,
    what: &'static str,
    selector: &str,
) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let list = crate::watches::scoped::<K>(client, namespace)
        .list(&ListParams::default().labels(selector))
        .await
        .map_err(|source| Error::List {
            what,
            source: Box::new(source),
        })?;
    Ok(list.items)
}

fn title(kind: &str, metadata: &kube::api::ObjectMeta) -> String {
    format!(
        "{kind} {}/{}",
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default()
    )
}

/// What the facts mean.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(definitions) = &facts.definitions {
        for name in ["registrycaches.larder.dev", "cachepolicies.larder.dev"] {
            if !definitions.iter().any(|one| one == name) {
                findings.push(
                    Finding::wrong(name, "the definition is not installed")
                        .remedy("Install the chart, or apply what `larder-operator crds` prints."),
                );
            }
        }
        if definitions.is_empty() {
            return findings;
        }
    }
    of_operator(facts, &mut findings);
    for (object, error) in &facts.malformed {
        findings.push(
            Finding::wrong(object, format!("it can't be read: {error}"))
                .remedy("Apply it again in a form that fits the installed definition."),
        );
    }
    if facts.caches.is_empty() {
        findings.push(Finding::note("RegistryCaches", "there are none"));
    }
    for cache in &facts.caches {
        of_cache(facts, cache, &mut findings);
    }
    for policy in &facts.policies {
        let subject = title("CachePolicy", &policy.metadata);
        let status = policy.status.clone().unwrap_or_default();
        of_conditions(
            &subject,
            &status.conditions,
            policy.metadata.generation,
            &mut findings,
        );
    }
    findings
}

fn of_operator(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.operators.is_empty() {
        findings.push(
            Finding::wrong(
                "operator",
                "no pod of it is seen: caches serve, but nothing that is edited comes into force",
            )
            .remedy("Install the chart; or, if you may not see its namespace, ask who may."),
        );
    }
    for pod in &facts.operators {
        let subject = title("operator", &pod.metadata);
        match trouble(pod) {
            None => findings.push(Finding::right(subject, "it runs and is ready")),
            Some(reason) => findings.push(Finding::wrong(subject, reason).remedy(logs(pod))),
        }
    }
}

fn of_cache(facts: &Facts, cache: &RegistryCache, findings: &mut Vec<Finding>) {
    let subject = title("RegistryCache", &cache.metadata);
    let status = cache.status.clone().unwrap_or_default();
    of_conditions(
        &subject,
        &status.conditions,
        cache.metadata.generation,
        findings,
    );
    if let Some(policy) = &status.policy
        && policy.applied_replicas < policy.replicas
    {
        findings.push(Finding::wrong(
            subject.clone(),
            format!(
                "{} of {} replicas follow policy {}",
                policy.applied_replicas,
                policy.replicas,
                policy
                    .desired_hash
                    .get(..12)
                    .unwrap_or(&policy.desired_hash)
            ),
        ));
    }
    if let Some(nodes) = &status.nodes {
        let message = format!("{} of {} nodes pull through it", nodes.ready, nodes.total);
        if nodes.ready == nodes.total {
            findings.push(Finding::right(subject.clone(), message));
        }
    }
    let (namespace, name) = (cache.namespace(), cache.name_any());
    let ours = |pod: &&Pod| {
        pod.namespace() == namespace && pod.labels().get(names::INSTANCE) == Some(&name)
    };
    for pod in facts.pods.iter().filter(ours) {
        if let Some(reason) = trouble(pod) {
            findings.push(Finding::wrong(title("pod", &pod.metadata), reason).remedy(logs(pod)));
        }
    }
    let mut events: Vec<&Event> = facts
        .events
        .iter()
        .filter(|event| {
            let object = &event.involved_object;
            let about = object.name.as_deref().unwrap_or_default();
            let belongs = about == name
                || about
                    .strip_prefix(&name)
                    .and_then(|rest| rest.strip_prefix('-'))
                    .is_some_and(|ordinal| ordinal.bytes().all(|b| b.is_ascii_digit()));
            object.namespace == namespace && belongs
        })
        .collect();
    events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
    for event in events.iter().rev().take(EVENTS) {
        let object = &event.involved_object;
        findings.push(Finding::note(
            format!(
                "event of {} {}",
                object.kind.as_deref().unwrap_or_default(),
                object.name.as_deref().unwrap_or_default()
            ),
            format!(
                "{}: {}",
                event.reason.as_deref().unwrap_or_default(),
                event.message.as_deref().unwrap_or_default().trim()
            ),
        ));
    }
}

fn of_conditions(
    subject: &str,
    conditions: &[Condition],
    generation: Option<i64>,
    findings: &mut Vec<Finding>,
) {
    if conditions.is_empty() {
        findings.push(
            Finding::wrong(subject, "the operator has said nothing about it yet")
                .remedy("Look whether the operator runs, and whether it watches this namespace."),
        );
    }
    for condition in conditions {
        // These two say again why another one is false.
        if [RECONCILING, STALLED].contains(&condition.type_.as_str()) {
            continue;
        }
        let message = format!(
            "{} is {}: {}",
            condition.type_, condition.status, condition.message
        );
        let message = message.trim_end_matches('.');
        let old = condition.observed_generation < generation;
        if old {
            findings.push(
                Finding::wrong(
                    subject,
                    format!(
                        "{} speaks of an older version of the object",
                        condition.type_
                    ),
                )
                .remedy("Wait a moment and look again; if it stays, look at the operator's log."),
            );
        } else if holds_well(condition) {
            findings.push(Finding::right(subject, message));
        } else if [RISKY, SUSPENDED].contains(&condition.type_.as_str()) {
            // Somebody has chosen it.
            findings.push(Finding::note(subject, message));
        } else {
            findings.push(Finding::wrong(subject, message));
        }
    }
}

/// Whether a condition is what one wants. Those that are there only to warn are not, while they hold.
fn holds_well(condition: &Condition) -> bool {
    const WARNINGS: [&str; 4] = [NOT_ENFORCEABLE, NOT_PULLABLE, RISKY, SUSPENDED];
    let warns = WARNINGS.contains(&condition.type_.as_str());
    (condition.status == "True") != warns
}

/// Why a pod does not serve.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    if conditions
        .iter()
        .any(|one| one.type_ == "Ready" && one.status == "True")
    {
        return None;
    }
    let containers = status.container_statuses.unwrap_or_default();
    let waiting = containers.iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting.reason.clone().unwrap_or_default();
        Some(match &waiting.message {
            Some(message) => format!("it waits: {reason}: {message}"),
            None => format!("it waits: {reason}"),
        })
    });
    let unscheduled = conditions
        .iter()
        .find(|one| one.type_ == "PodScheduled" && one.status == "False")
        .map(|one| {
            format!(
                "no node takes it: {}",
                one.message.clone().unwrap_or_default()
            )
        });
    Some(unscheduled.or(waiting).unwrap_or_else(|| {
        let phase = status.phase.unwrap_or_else(|| "Unknown".to_owned());
        format!("it is not ready ({phase})")
    }))
}

fn logs(pod: &Pod) -> String {
    let namespace = pod.namespace().unwrap_or_default();
    format!(
        "kubectl --namespace {namespace} describe pod {0}; kubectl --namespace {namespace} logs {0}",
        pod.name_any()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::finding::text;
    use super::*;

    fn object<T: DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn condition(kind: &str, status: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": "X", "message": message, "observedGeneration": 2, "lastTransitionTime": "2026-11-24T07:00:00Z"})
    }

    fn cache(conditions: &[Value], status: &Value) -> RegistryCache {
        let mut cache = json!({
            "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryCache",
            "metadata": {"namespace": "team-a", "name": "images", "generation": 2},
            "spec": {"upstreams": [{"host": "docker.io"}], "storage": {"volume": {"size": "1Gi"}}},
            "status": status,
        });
        cache["status"]["conditions"] = json!(conditions);
        object(cache)
    }

    fn pod(name: &str, status: &Value) -> Pod {
        object(
            json!({"metadata": {"namespace": "team-a", "name": name, "labels": {"app.kubernetes.io/instance": "images"}}, "status": status}),
        )
    }

    fn ready() -> Value {
        json!({"conditions": [{"type": "Ready", "status": "True"}]})
    }

    #[test]
    fn each_state_of_a_cluster_is_told_with_a_remedy() {
        let definitions = || {
            Some(vec![
                "registrycaches.larder.dev".to_owned(),
                "cachepolicies.larder.dev".to_owned(),
            ])
        };
        let policy = object(json!({
            "apiVersion": "larder.dev/v1alpha1", "kind": "CachePolicy",
            "metadata": {"namespace": "team-a", "name": "ours", "generation": 3},
            "spec": {"rules": [{"name": "all", "action": "Cache"}]},
            "status": {"conditions": [condition("Accepted", "True", "The rules can be used.")]},
        }));
        let well = Facts {
            definitions: definitions(),
            operators: vec![pod("larder-operator-1", &ready())],
            caches: vec![cache(
                &[condition("Ready", "True", "The replica is ready.")],
                &json!({"nodes": {"ready": 2, "total": 2, "summary": ""}}),
            )],
            pods: vec![pod("images-0", &ready())],
            ..Facts::default()
        };
        let ill = Facts {
            definitions: definitions(),
            malformed: vec![("CachePolicy team-a/old".to_owned(), "missing field `rules`".to_owned())],
            caches: vec![
                cache(
                    &[
                        condition("Ready", "False", "0 of 1 replicas are ready."),
                        condition("Reconciling", "True", "0 of 1 replicas are ready."),
                    ],
                    &json!({"policy": {"desiredHash": "0123456789abcdef", "appliedReplicas": 0, "replicas": 1, "summary": ""}}),
                ),
                cache(&[], &json!({})),
            ],
            policies: vec![policy],
            pods: vec![
                pod("images-0", &json!({"containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]})),
                pod("images-1", &json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available"}]})),
            ],
            events: ["images-0", "images-other"].map(|name| object(json!({
                "metadata": {"name": "e"}, "type": "Warning", "reason": "Failed", "message": "Back-off",
                "involvedObject": {"kind": "Pod", "namespace": "team-a", "name": name},
            }))).into(),
            ..Facts::default()
        };
        let bare = Facts {
            definitions: Some(Vec::new()),
            ..Facts::default()
        };
        let warned = Facts {
            definitions: definitions(),
            operators: vec![pod("larder-operator-1", &ready())],
            caches: vec![cache(
                &[
                    condition("Ready", "True", "The replica is ready."),
                    condition(
                        "Suspended",
                        "True",
                        "Nothing is changed while suspend is true.",
                    ),
                    condition(
                        "NotEnforceable",
                        "True",
                        "Nodes may get docker.io/library/* from the upstream.",
                    ),
                    condition(
                        "NotPullable",
                        "True",
                        "Nodes can get docker.io/library/* from nowhere.",
                    ),
                    condition("Risky", "True", "The volume has no retention."),
                ],
                &json!({}),
            )],
            ..Facts::default()
        };
        let cases = [
            ("well", well),
            ("ill", ill),
            ("warned", warned),
            ("bare", bare),
        ];
        let texts = cases.map(|(name, facts)| format!("# {name}\n{}", text(&findings(&facts))));
        insta::assert_snapshot!(texts.join("\n"));
    }
}
