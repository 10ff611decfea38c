//! Health and metrics of the operator itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kube::runtime::reflector::Store;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::watches::GuardedCache;

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

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct Admin {
    pub metrics: Arc<Metrics>,
    /// Whether the watches have shown what the cluster has, or another operator is at work and this one could take over.
    pub ready: Arc<AtomicBool>,
    /// The caches as they are known, one store for each namespace that is looked after. Empty while this operator waits.
    pub caches: watch::Receiver<Vec<Store<GuardedCache>>>,
}

/// Serves until told to stop.
pub async fn serve(
    address: SocketAddr,
    admin: Admin,
    stop: CancellationToken,
) -> Result<(), Error> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| Error::Listen { address, source })?;
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .map_err(|source| Error::Serve { source })
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if admin.ready.load(Ordering::Relaxed) {
        "ok".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the RegistryCaches of the cluster are not known yet, nor whether another operator works",
        )
            .into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let caches: Vec<_> = admin
        .caches
        .borrow()
        .iter()
        .flat_map(Store::state)
        .collect();
    let readable = caches.iter().filter_map(|cache| cache.0.as_ref().ok());
    match admin.metrics.text(readable) {
        Ok(text) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
