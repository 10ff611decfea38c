//! `larder-operator run`: puts the parts together. The only place where they are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use kube::client::{Body, ClientBuilder};
use kube::runtime::reflector::Store;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use crate::admin::{self, Admin};
use crate::args::{self, ElectionArguments, RunArguments};
use crate::confirm::PodAccess;
use crate::context::Context;
use crate::election::{self, Election, Timing};
use crate::memory::Memory;
use crate::memory::layer::MemoryLayer;
use crate::metrics::{self, Metrics};
use crate::nodes::{self, Nodes};
use crate::optional_apis::{self, OptionalApis};
use crate::report::chain;
use crate::resolve::Settings;
use crate::watches::{GuardedCache, Scope};
use crate::{controller, figures, policy_status};

/// Why the operator does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to find the cluster: there is no service account, and no kubeconfig")]
    Configuration {
        source: kube::config::KubeconfigError,
    },
    #[error("failed to make a client")]
    Client { source: Box<kube::Error> },
    #[error("failed to make the metrics")]
    Metrics { source: metrics::Error },
    #[error("failed to listen for signals")]
    Signal { source: std::io::Error },
    #[error("failed to serve health and metrics")]
    Admin { source: admin::Error },
    #[error("failed to go on as the operator that works")]
    Lease { source: election::Error },
}

/// Runs until SIGTERM or SIGINT, or until the Lease is lost. In the latter case the process has to end at once.
pub async fn run(arguments: RunArguments) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new().map_err(|source| Error::Metrics { source })?);
    let (config, in_cluster) = configuration().await?;
    let stop = stop_on_signal()?;
    let ready = Arc::new(AtomicBool::new(false));
    let (stores, caches) = watch::channel(Vec::new());
    let admin = admin::serve(
        arguments.health_listen,
        Admin {
            metrics: metrics.clone(),
            ready: ready.clone(),
            caches,
        },
        stop.clone(),
    );
    tracing::info!(in_cluster, namespaces = ?arguments.watch_namespaces, "the operator starts");
    let work = async {
        let mut election = candidate(&arguments.election, &config)?;
        if let Some(election) = &mut election {
            let acquire = election.acquire(|| ready.store(true, Ordering::Relaxed));
            tokio::select! {
                () = acquire => {}
                () = stop.cancelled() => return Ok(()),
            }
            tracing::info!(identity = election.identity(), "this operator works");
        }
        // From here on, ready means that the caches are known.
        ready.store(false, Ordering::Relaxed);
        metrics.leader.set(1);
        let memory = Memory::default();
        let parts = Parts {
            arguments: &arguments,
            in_cluster,
            client: client(config.clone(), &metrics, &memory)?,
            own_namespace: in_cluster.then(|| config.default_namespace.clone()),
            memory,
            metrics: metrics.clone(),
            ready: &ready,
            stores: &stores,
            stop: &stop,
        };
        tokio::select! {
            () = lead(parts) => {}
            source = keep(election.as_mut()) => return Err(Error::Lease { source }),
        }
        metrics.leader.set(0);
        if let Some(election) = &mut election
            && let Err(error) = election.release().await
        {
            tracing::warn!(error = %chain(&error), "the Lease was not given back; another operator takes over when it has run out");
        }
        Ok(())
    };
    tokio::try_join!(
        async { admin.await.map_err(|source| Error::Admin { source }) },
        work,
    )?;
    tracing::info!("the operator ends");
    Ok(())
}

/// This process as a candidate, with connections of its own. `None`: there is no election.
fn candidate(arguments: &ElectionArguments, config: &Config) -> Result<Option<Election>, Error> {
    if !arguments.leader_election {
        return Ok(None);
    }
    let client = Client::try_from(config.clone()).map_err(|source| Error::Client {
        source: Box::new(source),
    })?;
    let namespace = arguments
        .pod_namespace
        .as_ref()
        .unwrap_or(&config.default_namespace);
    let (lease, pod) = (&arguments.lease_name, &arguments.pod_name);
    Ok(Some(Election::new(
        client,
        namespace,
        lease,
        pod,
        Timing::default(),
    )))
}

/// Ends only when the Lease is lost.
async fn keep(election: Option<&mut Election>) -> election::Error {
    match election {
        Some(election) => election.hold().await,
        None => std::future::pending().await,
    }
}

/// What [`lead`] needs.
struct Parts<'a> {
    arguments: &'a RunArguments,
    in_cluster: bool,
    client: Client,
    /// `None`: the operator does not run in the cluster.
    own_namespace: Option<String>,
    memory: Memory,
    metrics: Arc<Metrics>,
    ready: &'a AtomicBool,
    stores: &'a watch::Sender<Vec<Store<GuardedCache>>>,
    stop: &'a CancellationToken,
}

/// Keeps all caches in line until told to stop.
async fn lead(parts: Parts<'_>) {
    let Parts {
        arguments,
        in_cluster,
        client,
        own_namespace,
        memory,
        metrics,
        ready,
        stores,
        stop,
    } = parts;
    let access = match arguments.pod_access {
        args::PodAccess::Auto if in_cluster => PodAccess::Direct,
        args::PodAccess::Auto | args::PodAccess::Proxy => PodAccess::Proxy(client.clone()),
        args::PodAccess::Direct => PodAccess::Direct,
    };
    let settings = Settings {
        cache_server_image: arguments.cache_server_image.clone(),
        cache_server_pull_policy: arguments
            .cache_server_pull_policy
            .map(|policy| policy.as_str().to_owned()),
        namespace: own_namespace,
    };
    // Known before the first reconcile, or the first status would say that it is missing.
    let known = optional_apis::discover(&client, &OptionalApis::default()).await;
    let (apis, receiver) = watch::channel(known);
    let context = Context::new(client.clone(), settings, access, metrics, receiver)
        .with_nodes(Nodes::new(nodes::Settings::new(&arguments.nodes)));
    let context = Arc::new(context);
    let (scope_sender, mut scope_receiver) = mpsc::unbounded_channel::<Scope>();
    // One pair of controllers for each namespace: a store that several watches fill would lose the objects of all others each time that one of
    // the watches lists its own anew.
    let controllers = join_all(
        scopes(&arguments.watch_namespaces)
            .into_iter()
            .map(|namespace| {
                let scope_sender = scope_sender.clone();
                let (context, stop) = (context.clone(), stop.clone());
                let memory = memory.clone();
                async move {
                    tokio::join!(
                        controller::run(
                            context.clone(),
                            namespace.clone(),
                            memory,
                            stop.clone(),
                            scope_sender
                        ),
                        policy_status::run(context, namespace, stop),
                    );
                }
            }),
    );
    drop(scope_sender);
    let across = async {
        let mut all = Vec::new();
        while let Some(scope) = scope_receiver.recv().await {
            all.push(scope);
        }
        let caches: Vec<_> = all.iter().map(|scope| scope.caches.clone()).collect();
        stores.send_replace(caches.clone());
        let synced = join_all(caches.iter().map(Store::wait_until_ready)).await;
        if synced.iter().all(Result::is_ok) {
            ready.store(true, Ordering::Relaxed);
        }
        // The agents mount one object for the caches of all namespaces.
        tokio::join!(
            nodes::run(context.clone(), &all),
            figures::run(context.clone(), &all),
        );
    };
    tokio::select! {
        _ = controllers => {}
        () = across => {}
        () = optional_apis::follow(&client, apis) => {}
    }
}

/// The namespaces to look after, each once; `None` stands for all.
fn scopes(namespaces: &[String]) -> Vec<Option<String>> {
    if namespaces.is_empty() {
        return vec![None];
    }
    let unique: BTreeSet<&String> = namespaces.iter().collect();
    unique.into_iter().cloned().map(Some).collect()
}

/// The service account's configuration, or that of a kubeconfig; and whether it is the former.
async fn configuration() -> Result<(Config, bool), Error> {
    if let Ok(config) = Config::incluster() {
        return Ok((config, true));
    }
    let config = Config::from_kubeconfig(&kube::config::KubeConfigOptions::default())
        .await
        .map_err(|source| Error::Configuration { source })?;
    Ok((config, false))
}

/// A client that remembers, and counts what gets to the API server.
pub fn client(config: Config, metrics: &Arc<Metrics>, memory: &Memory) -> Result<Client, Error> {
    let metrics = metrics.clone();
    let count = MapRequestLayer::new(move |request: http::Request<Body>| {
        metrics.count_request(request.method(), request.uri());
        request
    });
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::Client {
        source: Box::new(source),
    })?;
    let remember = MemoryLayer(memory.clone());
    Ok(builder.with_layer(&count).with_layer(&remember).build())
}

/// Cancelled by SIGTERM or SIGINT.
pub fn stop_on_signal() -> Result<CancellationToken, Error> {
    let failed = |source| Error::Signal { source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_is_looked_after_once() {
        let namespaces = ["b", "a", "b"].map(str::to_owned);
        let expected = ["a", "b"].map(|name| Some(name.to_owned()));
        assert_eq!(scopes(&namespaces), expected);
        assert_eq!(scopes(&[]), [None]);
    }
}
