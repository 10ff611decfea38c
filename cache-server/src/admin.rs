//! The admin port: health, metrics, what is in force and what is stored. Keep it away from clients.

mod answered;
mod figures;
mod status;
mod store;
mod warm;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use crds::configz::Configz;

use crate::cache::Cache;
use crate::metrics::Metrics;
use crate::reload::Status;
use crate::storage::Store;

pub use answered::LastHour;

/// What the admin port looks at.
#[derive(Debug)]
pub struct Admin {
    pub status: Arc<Status>,
    pub metrics: Arc<Metrics>,
    pub store: Arc<Store>,
    pub cache: Cache,
    /// File with the token for calls that change things.
    pub token_file: Option<PathBuf>,
    pub static_hash: String,
    pub draining: AtomicBool,
    pub last_hour: LastHour,
}

pub fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/configz", get(configz))
        .route("/", get(status::page))
        .route("/v1/status", get(status::json))
        .route("/v1/figures", get(figures::json))
        .route("/v1/ls", get(store::list))
        .route("/v1/purge", post(store::purge))
        .with_state(admin.clone())
        .route("/v1/warm", post(warm::warm))
        .with_state((admin, warm::places()))
}

async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    match reason_against(&admin).await {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

/// Why no traffic should come here, in one line.
async fn reason_against(admin: &Arc<Admin>) -> Option<String> {
    if admin.draining.load(Ordering::SeqCst) {
        return Some("draining".to_owned());
    }
    let policy = admin.status.get();
    if policy.policy_hash.is_none() {
        let reason = policy.last_error.unwrap_or_default().replace('\n', " ");
        return Some(format!("no policy is in force: {reason}"));
    }
    let store = admin.store.clone();
    match tokio::task::spawn_blocking(move || store.space()).await {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("failed to look at the store".to_owned()),
    }
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let page = tokio::task::spawn_blocking(move || {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        admin.metrics.store_used.set(gauge(admin.store.used()));
        let count = admin.store.index().count();
        admin.metrics.store_blobs.set(gauge(count));
        if let Ok(space) = admin.store.space() {
            admin.metrics.store_capacity.set(gauge(space.capacity));
            admin.metrics.store_free.set(gauge(space.free));
        }
        admin.metrics.page()
    });
    let page = page.await.unwrap_or_default();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        page,
    )
}

async fn configz(State(admin): State<Arc<Admin>>) -> Json<Configz> {
    let policy = admin.status.get();
    Json(Configz {
        policy_hash: policy.policy_hash,
        static_hash: admin.static_hash.clone(),
        loaded_at: policy.loaded_at,
        last_error: policy.last_error,
        source: policy.source,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
