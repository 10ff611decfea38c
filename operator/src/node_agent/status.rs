//! What the agent says of its node: pure, and the endpoint that says it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use crds::node_agent::{AgentStatus, CacheOnNode, NodeProblem};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::bundle::{Bundle, CacheFiles, Entry, Target};
use super::converge::Failures;
use super::health::{PATIENCE, Verdict};
use super::wishes::{self, Healths, Wishes};
use crate::report::chain;

/// Why the endpoint does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("failed to serve")]
    Serve { source: std::io::Error },
}

/// What a round of work ended with.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    pub bundle: &'a Bundle,
    pub healths: &'a Healths,
    pub wishes: &'a Wishes,
    pub failures: &'a Failures,
    /// Directories whose files come from the present bundle.
    pub recorded: &'a BTreeMap<String, String>,
    /// Why targets are of no use; those that serve are not here.
    pub silent: &'a BTreeMap<Target, String>,
}

/// The status after a round.
pub fn status(node: &str, problems: Vec<NodeProblem>, round: Round<'_>) -> AgentStatus {
    let caches = round
        .bundle
        .iter()
        .filter_map(|(source, entry)| match entry {
            Entry::Cache(files) => Some(cache(source, files, round)),
            Entry::Refused { namespace, cache } => Some(CacheOnNode {
                namespace: namespace.clone(),
                cache: cache.clone(),
                hash: String::new(),
                wired: false,
                message: format!(
                    "namespace {namespace} is not among those that this agent may wire"
                ),
            }),
            // The file's name tells whose it is, but nothing can be trusted in it.
            Entry::Broken { reason } => {
                tracing::warn!(%source, %reason, "{source} can't be used");
                None
            }
        });
    AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.to_owned(),
        problems,
        caches: caches.collect(),
    }
}

fn cache(source: &str, files: &CacheFiles, round: Round<'_>) -> CacheOnNode {
    let health = round.healths.get(&files.targets);
    let answers = health.is_some_and(super::health::Health::answers);
    let missing: BTreeSet<&str> = files
        .directories
        .keys()
        .map(String::as_str)
        .filter(|directory| round.recorded.get(*directory).map(String::as_str) != Some(source))
        .collect();
    let mut reasons: Vec<String> = files
        .directories
        .keys()
        .filter_map(|directory| round.failures.get(directory))
        .map(|error| chain(error))
        .collect();
    if let Some(taken) = round.wishes.taken.get(source) {
        reasons.push(format!("another cache is wired for {}", taken.join(", ")));
    }
    let serves = |target: &Target| !round.silent.contains_key(target);
    if !answers || !files.targets.iter().any(serves) {
        let silent = files
            .targets
            .iter()
            .find_map(|target| round.silent.get(target));
        reasons.push(
            silent
                .cloned()
                .unwrap_or_else(|| "the cache was not asked yet".to_owned()),
        );
    }
    if wishes::verdict(files, round.healths) == Verdict::Withdraw {
        reasons.push(format!(
            "its files are withdrawn, because it did not answer for {} s",
            PATIENCE.as_secs()
        ));
    } else if reasons.is_empty() && !missing.is_empty() {
        reasons.push("its files are not in place yet".to_owned());
    }
    CacheOnNode {
        namespace: files.namespace.clone(),
        cache: files.cache.clone(),
        hash: files.hash.clone(),
        wired: reasons.is_empty() && missing.is_empty(),
        message: reasons.join("; "),
    }
}

/// Serves `/healthz`, `/readyz` and `/status` until told to stop. `None`: the first round is not done yet.
pub async fn serve(
    address: SocketAddr,
    status: watch::Receiver<Option<AgentStatus>>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(answer))
        .route("/status", get(answer))
        .with_state(status);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|source| Error::Serve { source })
}

async fn answer(State(status): State<watch::Receiver<Option<AgentStatus>>>) -> Response {
    match &*status.borrow() {
        Some(status) => Json(status.clone()).into_response(),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the files of the node are not known yet",
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crds::node_agent::WiredCache;

    use super::*;
    use crate::node_agent::bundle::parse;
    use crate::node_agent::health::Health;

    /// What is said of a cache that answers, whose file is in place, and that is of no use for that reason.
    fn said(reason: Option<&str>) -> CacheOnNode {
        let hosts = "[host.\"http://cache:5000\"]\n".to_owned();
        let wired = WiredCache {
            format: 1,
            namespace: "a".to_owned(),
            cache: "images".to_owned(),
            salt: None,
            directories: BTreeMap::from([(
                "docker.io".to_owned(),
                BTreeMap::from([("hosts.toml".to_owned(), hosts)]),
            )]),
        };
        let entry = parse(&wired.to_text(), &["a".to_owned()]);
        let Entry::Cache(files) = &entry else {
            panic!("{entry:?}");
        };
        let mut health = Health::default();
        health.probed(true, Instant::now());
        let refused = files.targets.first().cloned().zip(reason);
        let round = Round {
            healths: &Healths::from([(files.targets.clone(), health)]),
            bundle: &Bundle::from([("images.json".to_owned(), entry.clone())]),
            wishes: &Wishes::default(),
            failures: &Failures::new(),
            recorded: &BTreeMap::from([("docker.io".to_owned(), "images.json".to_owned())]),
            silent: &refused
                .map(|(target, reason)| (target, reason.to_owned()))
                .into_iter()
                .collect(),
        };
        status("n", Vec::new(), round).caches.remove(0)
    }

    #[test]
    fn a_node_that_is_not_let_in_is_not_wired_although_the_cache_is_well() {
        let well = said(None);
        assert_eq!((well.wired, well.message.as_str()), (true, ""));
        let refused = said(Some("it answers 401"));
        assert_eq!(
            (refused.wired, refused.message.as_str()),
            (false, "it answers 401")
        );
    }
}
