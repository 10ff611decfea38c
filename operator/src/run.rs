//! `larder-operator run`: puts the parts together. The only place where they are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kube::client::{Body, ClientBuilder};
use kube::runtime::reflector::Store;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tower::util::MapRequestLayer;

use crate::admin::{self, Admin};
use crate::args::{self, RunArguments};
use crate::confirm::PodAccess;
use crate::context::Context;
use crate::metrics::{self, Metrics};
use crate::monitoring_api::{self, MonitoringApi};
use crate::nodes::{self, Nodes};
use crate::resolve::Settings;
use crate::watches::GuardedCache;
use crate::{controller, policy_status};

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
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(arguments: RunArguments) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new().map_err(|source| Error::Metrics { source })?);
    let (config, in_cluster) = configuration().await?;
    let client = client(config, &metrics)?;
    let access = match arguments.pod_access {
        args::PodAccess::Auto if in_cluster => PodAccess::Direct,
        args::PodAccess::Auto | args::PodAccess::Proxy => PodAccess::Proxy(client.clone()),
        args::PodAccess::Direct => PodAccess::Direct,
    };
    let settings = Settings {
        cache_server_image: arguments.cache_server_image,
        cache_server_pull_policy: arguments
            .cache_server_pull_policy
            .map(|policy| policy.as_str().to_owned()),
    };
    // Known before the first reconcile, or the first status would say that it is missing.
    let known = monitoring_api::discover(&client)
        .await
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to look which monitoring kinds exist");
            MonitoringApi::default()
        });
    let (monitoring, receiver) = watch::channel(known);
    let context = Context::new(client, settings, access, metrics.clone(), receiver)
        .with_nodes(Nodes::new(nodes::Settings::new(&arguments.nodes)));
    let context = Arc::new(context);

    let stop = stop_on_signal()?;
    let ready = Arc::new(AtomicBool::new(false));
    let (store_sender, store) = oneshot::channel::<Store<GuardedCache>>();
    let namespace = arguments.watch_namespace;
    tracing::info!(in_cluster, ?namespace, "the operator starts");
    let admin = admin::serve(
        arguments.health_listen,
        Admin {
            metrics,
            ready: ready.clone(),
        },
        stop.clone(),
    );
    let readiness = async {
        if let Ok(store) = store.await
            && store.wait_until_ready().await.is_ok()
        {
            ready.store(true, Ordering::Relaxed);
        }
        // Both controllers go on without this.
    };
    let controllers = async {
        tokio::join!(
            controller::run(
                context.clone(),
                namespace.clone(),
                monitoring,
                stop.clone(),
                store_sender
            ),
            policy_status::run(context.clone(), namespace.clone(), stop.clone()),
            readiness,
        );
        Ok(())
    };
    tokio::try_join!(
        async { admin.await.map_err(|source| Error::Admin { source }) },
        controllers,
    )?;
    tracing::info!("the operator ends");
    Ok(())
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

/// A client that counts what it writes.
pub fn client(config: Config, metrics: &Arc<Metrics>) -> Result<Client, Error> {
    let metrics = metrics.clone();
    let count = MapRequestLayer::new(move |request: http::Request<Body>| {
        metrics.count_request(request.method(), request.uri().path());
        request
    });
    let builder = ClientBuilder::try_from(config).map_err(|source| Error::Client {
        source: Box::new(source),
    })?;
    Ok(builder.with_layer(&count).build())
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
