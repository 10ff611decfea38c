//! One round after the other: hands the files over where they differ, asks every agent, and wakes the caches of which there is news.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::node_agent::{AgentStatus, ProblemKind, WiredCache, hash};
use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::time::Instant;

use crate::FIELD_MANAGER;
use crate::confirm::Question;
use crate::containerd::Version;
use crate::context::Context;
use crate::observe::CachePod;
use crate::render::names;
use crate::report::chain;
use crate::watches::Scope;

use super::count::{self, Answer, Answers, NodesSeen, Trouble};
use super::hand_over::{self, hand_over};
use super::wiring::{CacheKey, taken_message};
use super::{Settings, lock};

/// Time between two rounds of questions.
const ROUND: Duration = Duration::from_secs(15);
/// And while agents have not taken up what was handed to them.
const SOON: Duration = Duration::from_secs(2);
/// After this long they are asked at the usual pace again.
const HURRY: Duration = Duration::from_mins(2);
/// Agents that are asked at the same time.
const CONCURRENCY: usize = 32;

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to read {what} of the node agents")]
    Read {
        what: &'static str,
        source: Box<kube::Error>,
    },
    #[error("failed to hand files to the node agents")]
    HandOver { source: hand_over::Error },
}

/// Hands over the files of all caches and asks the agents until dropped. Without agents it does nothing.
pub async fn run(context: Arc<Context>, scopes: &[Scope]) {
    let Some(settings) = context.nodes.settings.clone() else {
        return std::future::pending().await;
    };
    // What exists is not known before, and what does not exist is taken from the nodes.
    for scope in scopes {
        if scope.caches.wait_until_ready().await.is_err() {
            return std::future::pending().await;
        }
    }
    let mut round = Round {
        context: &context,
        settings: &settings,
        versions: BTreeMap::new(),
    };
    let mut since = Instant::now();
    loop {
        let known: BTreeSet<CacheKey> = scopes
            .iter()
            .flat_map(|scope| scope.caches.state())
            .map(|cache| (cache.namespace().unwrap_or_default(), cache.name_any()))
            .collect();
        let declared = lock(&context.nodes.declared).clone();
        let outcome = round.run(&known, &declared).await;
        let hurry = match outcome {
            Ok((seen, lagging)) => {
                for (namespace, name) in context.nodes.take(&declared, seen) {
                    Scope::wake_one(scopes, ObjectRef::new(&name).within(&namespace));
                }
                lagging
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the node agents are asked again later");
                false
            }
        };
        let pause = if hurry && since.elapsed() < HURRY {
            SOON
        } else {
            ROUND
        };
        if tokio::time::timeout(pause, context.nodes.changed.notified())
            .await
            .is_ok()
        {
            since = Instant::now();
        }
    }
}

struct Round<'a> {
    context: &'a Context,
    settings: &'a Settings,
    /// containerd's version on nodes where it was asked for.
    versions: BTreeMap<String, Version>,
}

impl Round<'_> {
    /// What nodes say of each cache, and whether agents lag behind what was handed to them.
    async fn run(
        &mut self,
        known: &BTreeSet<CacheKey>,
        declared: &BTreeMap<CacheKey, Option<WiredCache>>,
    ) -> Result<(BTreeMap<CacheKey, NodesSeen>, bool), Error> {
        let (settings, client) = (self.settings, &self.context.client);
        let daemon_sets: Api<DaemonSet> = Api::namespaced(client.clone(), &settings.namespace);
        let daemon_set = daemon_sets
            .get_opt(&settings.name)
            .await
            .map_err(read("the DaemonSet"))?;
        let Some(daemon_set) = daemon_set else {
            let message = format!(
                "There is no DaemonSet {}/{} of node agents. Install it with the chart, or leave out --node-agent-namespace.",
                settings.namespace, settings.name
            );
            return Ok((troubled(declared, &Trouble::Other { message }), false));
        };
        let uid = daemon_set.uid().unwrap_or_default();
        let outcome = hand_over(client, settings, &uid, known, declared)
            .await
            .map_err(|source| Error::HandOver { source })?;
        if let Some(trouble) = outcome.trouble {
            return Ok((troubled(declared, &trouble), false));
        }
        let wiring = outcome.wiring;
        let answers = self.ask(&daemon_set).await?;
        let hashes: BTreeMap<CacheKey, String> = known
            .iter()
            .filter_map(|key| {
                let text = wiring.handed.text(key)?;
                Some((key.clone(), hash(text)))
            })
            .collect();
        let lagging: Vec<&Answer> = count::lagging(&hashes, &answers.answers).collect();
        self.nudge(&lagging).await;
        let mut seen = BTreeMap::new();
        for (key, hash) in &hashes {
            seen.insert(key.clone(), count::count(key, hash, &answers));
        }
        let confidential = |key: &CacheKey| {
            let wired = declared.get(key).and_then(Option::as_ref);
            wired.is_some_and(|wired| wired.salt.is_some())
        };
        if let Some(trouble) = &outcome.confidential_trouble {
            for (_, entry) in seen.iter_mut().filter(|(key, _)| confidential(key)) {
                entry.ready = 0;
                entry.trouble = Some(trouble.clone());
            }
        }
        for (key, taken) in &wiring.taken {
            let entry = seen.entry(key.clone()).or_default();
            entry.total = answers.total;
            entry.ready = 0;
            entry.trouble = Some(Trouble::Other {
                message: taken_message(taken),
            });
        }
        Ok((seen, !lagging.is_empty()))
    }

    async fn ask(&mut self, daemon_set: &DaemonSet) -> Result<Answers, Error> {
        let settings = self.settings;
        let labels = daemon_set
            .spec
            .as_ref()
            .and_then(|spec| spec.selector.match_labels.clone())
            .unwrap_or_default();
        let selector: Vec<String> = labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let pods: Api<Pod> = Api::namespaced(self.context.client.clone(), &settings.namespace);
        let parameters = ListParams::default()
            .labels(&selector.join(","))
            .match_any();
        let pods = pods.list(&parameters).await.map_err(read("the pods"))?;
        let question = Question {
            port: settings.port,
            path: "/status",
        };
        let access = &self.context.access;
        let running = pods.items.iter().filter_map(|pod| {
            let node = pod.spec.as_ref()?.node_name.clone()?;
            let pod = CachePod::new(pod);
            Some((node, pod.name, pod.running_at.filter(|_| !pod.deleting)?))
        });
        let answers: Vec<Answer> = futures::stream::iter(running)
            .map(|(node, pod, address)| async move {
                let outcome = access
                    .ask::<AgentStatus>(&settings.namespace, &pod, &address, question)
                    .await
                    .map_err(|error| error.to_string());
                Answer { node, pod, outcome }
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for answer in &answers {
            self.learn_version(answer).await;
        }
        let total = daemon_set
            .status
            .as_ref()
            .map_or(0, |status| status.desired_number_scheduled);
        Ok(Answers {
            total,
            answers,
            versions: self.versions.clone(),
        })
    }

    /// Asks for the version of a node's containerd where it decides whether the node is wired.
    async fn learn_version(&mut self, answer: &Answer) {
        let matters = answer.outcome.as_ref().is_ok_and(|status| {
            let mut problems = status.problems.iter();
            problems.any(|problem| problem.kind == ProblemKind::SeveralRoots)
        });
        if !matters {
            // It may be another one when it matters again.
            self.versions.remove(&answer.node);
            return;
        }
        if self.versions.contains_key(&answer.node) {
            return;
        }
        let api: Api<Node> = Api::all(self.context.client.clone());
        match api.get_opt(&answer.node).await {
            Ok(node) => {
                let info = node.and_then(|node| node.status?.node_info);
                let version = info.and_then(|info| Version::find(&info.container_runtime_version));
                self.versions
                    .extend(version.map(|version| (answer.node.clone(), version)));
            }
            Err(error) => {
                tracing::warn!(node = %answer.node, error = %chain(&error), "failed to read the version of a node's containerd");
            }
        }
    }

    /// A changed annotation makes kubelet bring new files into the pod at once. A failure is only logged: the next round,
    /// or kubelet's own sync, makes up for it.
    async fn nudge(&self, lagging: &[&Answer]) {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), &self.settings.namespace);
        let nonce = format!("{:08x}", fastrand::u32(..));
        let patch =
            Patch::Merge(json!({"metadata": {"annotations": {names::POLICY_NONCE: nonce}}}));
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        for answer in lagging {
            if let Err(error) = api.patch_metadata(&answer.pod, &parameters, &patch).await {
                tracing::warn!(pod = %answer.pod, error = %chain(&error), "failed to annotate a pod of the node agents");
            }
        }
    }
}

/// The same for every cache that wants to be wired.
fn troubled(
    declared: &BTreeMap<CacheKey, Option<WiredCache>>,
    trouble: &Trouble,
) -> BTreeMap<CacheKey, NodesSeen> {
    let wanting = declared.iter().filter(|(_, wired)| wired.is_some());
    wanting
        .map(|(key, _)| {
            let seen = NodesSeen {
                trouble: Some(trouble.clone()),
                ..NodesSeen::default()
            };
            (key.clone(), seen)
        })
        .collect()
}

fn read(what: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Read {
        what,
        source: Box::new(source),
    }
}
