//! `larder-operator node-agent`: keeps containerd's mirror files on one node as the operator hands them over.
//!
//! It asks the API server for nothing: the files are mounted, and what it has to say is on its `/status`. Each round reads
//! ([`bundle`], [`probe`], [`disk`]), decides ([`health`], [`wishes`], [`plan`]: pure) and does what is left to do ([`converge`]).
//!
//! Invariants:
//! - A node is sent to a cache only once that answered, and no longer than it does, but for mirrors that forbid the fallback.
//! - At any moment, after a crash too, each file is the old or the new one, and a `hosts.toml` comes after what it refers to.
//! - What was there before the agent came is kept, and comes back when the agent's files go.
//! - The end of the agent changes nothing on the node: an upgrade must not unwire it. `--uninstall` does.

pub mod bundle;
pub mod probe;

pub mod health;
pub mod plan;
pub mod wishes;

pub mod converge;
pub mod disk;

pub mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crds::node_agent::{AgentStatus, NodeProblem, ProblemKind};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::args::NodeAgentArguments;
use crate::containerd::files as configuration;
use crate::report::chain;
use bundle::{Bundle, Entry, Target};
use disk::Disk;
use health::Health;
use wishes::Healths;

/// Time between two looks at the mounted files.
const LOOK: Duration = Duration::from_secs(1);
/// Time between two rounds while the mounted files stay the same.
const ROUND: Duration = Duration::from_secs(5);

/// Why the agent does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to lock {}", .path.display())]
    Lock {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("failed to serve")]
    Serve { source: status::Error },
    #[error("failed to bring the files back that were there before")]
    Restore { source: disk::Error },
}

/// Runs until told to stop.
pub async fn run(arguments: NodeAgentArguments, stop: CancellationToken) -> Result<(), Error> {
    let address = SocketAddr::new(arguments.listen_address, arguments.port);
    let (sender, receiver) = watch::channel(None);
    // Ends the endpoint when the work ends, whatever way it does.
    let ended = stop.child_token();
    let served = status::serve(address, receiver, ended.clone());
    let work = async {
        let _ended = ended.clone().drop_guard();
        let Some(_lock) = lock(&arguments.certs_directory, &stop).await? else {
            return Ok(());
        };
        if arguments.uninstall {
            uninstall(&arguments, &sender, &stop).await
        } else {
            let mut agent = Agent::new(arguments);
            agent.work(&sender, &stop).await;
            Ok(())
        }
    };
    tokio::try_join!(
        async { served.await.map_err(|source| Error::Serve { source }) },
        work
    )
    .map(drop)
}

/// Only one agent may change the files: another may still be ending, or undoing everything. `None`: told to stop meanwhile.
async fn lock(root: &Path, stop: &CancellationToken) -> Result<Option<File>, Error> {
    let failed = |source| Error::Lock {
        path: root.to_owned(),
        source,
    };
    std::fs::create_dir_all(root).map_err(failed)?;
    let directory = File::open(root).map_err(failed)?;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(Some(directory)),
            Err(TryLockError::WouldBlock) => {
                tracing::info!("another agent is at work; waiting for its end");
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Brings everything back, then says so until told to stop: whoever uninstalls waits for that.
async fn uninstall(
    arguments: &NodeAgentArguments,
    sender: &watch::Sender<Option<AgentStatus>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut disk = Disk::new(&arguments.certs_directory);
    loop {
        let failures = tokio::task::block_in_place(|| converge::restore_all(&mut disk))
            .map_err(|source| Error::Restore { source })?;
        if failures.is_empty() {
            break;
        }
        for (directory, error) in failures {
            tracing::warn!(%directory, error = %chain(&error), "failed to restore {directory}; trying again");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(ROUND) => {}
        }
    }
    tracing::info!("the node's files are as they were");
    sender.send_replace(Some(AgentStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        node: arguments.node_name.clone(),
        ..AgentStatus::default()
    }));
    stop.cancelled().await;
    Ok(())
}

struct Agent {
    arguments: NodeAgentArguments,
    disk: Disk,
    healths: Healths,
}

impl Agent {
    fn new(arguments: NodeAgentArguments) -> Self {
        Self {
            disk: Disk::new(&arguments.certs_directory),
            healths: Healths::default(),
            arguments,
        }
    }

    async fn work(
        &mut self,
        sender: &watch::Sender<Option<AgentStatus>>,
        stop: &CancellationToken,
    ) {
        let mut before: Option<(Bundle, Instant)> = None;
        loop {
            let read = tokio::task::block_in_place(|| {
                let arguments = &self.arguments;
                bundle::read(
                    &arguments.bundle_directory,
                    &arguments.confidential_bundle_directory,
                    &arguments.namespaces,
                )
            });
            match read {
                Ok(bundle) => {
                    let due = before
                        .as_ref()
                        .is_none_or(|(known, at)| *known != bundle || at.elapsed() >= ROUND);
                    if due {
                        let status = tokio::select! {
                            () = stop.cancelled() => return,
                            status = self.round(&bundle) => status,
                        };
                        publish(sender, status);
                        before = Some((bundle, Instant::now()));
                    }
                }
                // Nothing is decided without knowing what is wanted.
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "the files of the node stay as they are");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn round(&mut self, bundle: &Bundle) -> AgentStatus {
        let caches: Vec<&BTreeSet<Target>> = bundle
            .values()
            .filter_map(|entry| match entry {
                Entry::Cache(files) => Some(&files.targets),
                Entry::Refused { .. } | Entry::Broken { .. } => None,
            })
            .collect();
        let outcomes = probe::probe(caches.iter().copied().flatten().cloned().collect()).await;
        let now = Instant::now();
        self.healths.retain(|targets, _| caches.contains(&targets));
        for targets in caches.into_iter().collect::<BTreeSet<_>>() {
            // One that lets nobody in who shows what this node shows is no better for being left alone.
            let answers = |target: &Target| match outcomes.get(target) {
                Some(outcome) => outcome.as_ref().err().is_none_or(probe::Error::is_refusal),
                None => false,
            };
            let health: &mut Health = self.healths.entry(targets.clone()).or_default();
            health.probed(targets.iter().any(answers), now);
        }
        let silent = outcomes
            .into_iter()
            .filter_map(|(target, outcome)| Some((target, outcome.err()?.to_string())))
            .collect();
        tokio::task::block_in_place(|| self.settle(bundle, &silent))
    }

    /// What of a round needs no network.
    fn settle(&mut self, bundle: &Bundle, silent: &BTreeMap<Target, String>) -> AgentStatus {
        let mut problems = self.configuration();
        let mut unreadable = |error: &disk::Error| {
            problems.push(NodeProblem {
                kind: ProblemKind::Other,
                message: chain(error) + ".",
            });
        };
        let mut recorded = || {
            converge::recorded(&self.disk).unwrap_or_else(|error| {
                unreadable(&error);
                BTreeMap::new()
            })
        };
        let wishes = wishes::decide(bundle, &self.healths, &recorded());
        let failures = converge::converge(&mut self.disk, &wishes.directories);
        let recorded = converge::recorded(&self.disk).unwrap_or_default();
        let round = status::Round {
            bundle,
            healths: &self.healths,
            wishes: &wishes,
            failures: &failures,
            recorded: &recorded,
            silent,
        };
        status::status(&self.arguments.node_name, problems, round)
    }

    /// Why containerd would not follow the files.
    fn configuration(&self) -> Vec<NodeProblem> {
        let Some(path) = &self.arguments.containerd_config else {
            return Vec::new();
        };
        match configuration::read(path) {
            // The version is not known here; the operator knows it.
            Ok(config) => config.problems(self.disk.root(), None),
            Err(error) => vec![NodeProblem {
                kind: ProblemKind::Other,
                message: chain(&error) + ".",
            }],
        }
    }
}

/// Logs what has changed.
fn publish(sender: &watch::Sender<Option<AgentStatus>>, status: AgentStatus) {
    sender.send_if_modified(|known| {
        if known.as_ref() == Some(&status) {
            return false;
        }
        for problem in &status.problems {
            tracing::warn!("{}", problem.message);
        }
        for cache in &status.caches {
            let (namespace, name) = (&cache.namespace, &cache.cache);
            tracing::info!(%namespace, %name, wired = cache.wired, message = %cache.message, "RegistryCache {namespace}/{name} on this node");
        }
        *known = Some(status);
        true
    });
}
