//! How the server is, as JSON and as a page for people. Nothing in it is a secret, and nothing of it needs a script.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Json};
use serde::Serialize;

use super::Admin;
use super::answered::Answered;
use crate::last_error::LastError;
use crate::upstream::EndpointCondition;

/// How the server is.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    policy_hash: Option<String>,
    policy_loaded_at: Option<String>,
    policy_error: Option<String>,
    /// Requests for manifests and blobs since the start.
    requests: u64,
    /// Part of them that was answered with what was stored, or being stored; `None` without any.
    hit_ratio: Option<f64>,
    stale: u64,
    store: Store,
    fills_running: i64,
    upstreams: Vec<Upstream>,
}

/// Sizes are in bytes.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    contents: u64,
    used: u64,
    maximum: i64,
    /// On the filesystem; `None` if it can't be looked at.
    free: Option<u64>,
    admission_stopped: bool,
    write_failures: u64,
    last_write_error: Option<LastError>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Upstream {
    host: String,
    endpoints: Vec<EndpointCondition>,
}

/// `GET /v1/status`
pub(super) async fn json(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    Json(look(admin).await)
}

/// `GET /`
pub(super) async fn page(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    let head = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ];
    (head, look(admin).await.page())
}

async fn look(admin: Arc<Admin>) -> Status {
    let store = admin.store.clone();
    let space = tokio::task::spawn_blocking(move || store.space()).await;
    let policy = admin.status.get();
    let metrics = &admin.metrics;
    let Answered {
        requests,
        hits,
        stale,
    } = Answered::so_far(metrics);
    let rules = admin.cache.rules();
    let mut upstreams: Vec<_> = rules
        .iter()
        .flat_map(|rules| rules.upstreams())
        .map(|upstream| Upstream {
            host: upstream.host().to_string(),
            endpoints: upstream.conditions(),
        })
        .collect();
    upstreams.sort_by(|one, other| one.host.cmp(&other.host));
    #[expect(clippy::cast_precision_loss, reason = "a ratio of counts is rounded")]
    let ratio = |part: u64, whole: u64| part as f64 / whole as f64;
    Status {
        version: env!("CARGO_PKG_VERSION"),
        policy_hash: policy.policy_hash,
        policy_loaded_at: policy.loaded_at,
        policy_error: policy.last_error,
        requests,
        hit_ratio: (requests > 0).then(|| ratio(hits, requests)),
        stale,
        store: Store {
            contents: admin.store.index().count(),
            used: admin.store.used(),
            maximum: metrics.store_max.get(),
            free: space.ok().and_then(Result::ok).map(|space| space.free),
            admission_stopped: metrics.admission_stopped.get() == 1,
            write_failures: metrics.store_write_failures.get(),
            last_write_error: admin.cache.last_write_error(),
        },
        fills_running: metrics.fills_running.get(),
        upstreams,
    }
}

const STYLE: &str = ":root{color-scheme:light dark;font:15px/1.5 system-ui,sans-serif}body{margin:2rem auto;max-width:52rem;padding:0 1rem}h1{font-size:1.3rem}h2{font-size:1rem;margin-top:2rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent);overflow-wrap:anywhere}th{font-weight:600;width:14rem}[scope=col],h2+table [scope=row]{width:auto}h2+table{table-layout:fixed}[scope=col]:last-child{width:40%}.bad{color:light-dark(#b3261e,#ff8a80);font-weight:600}";

impl Status {
    fn page(&self) -> String {
        let mut rows = String::new();
        let mut row = |name: &str, value: &str, is_bad: bool| {
            let class = if is_bad { " class=\"bad\"" } else { "" };
            let _ = write!(
                rows,
                "<tr><th scope=\"row\">{}</th><td{class}>{}</td></tr>",
                escaped(name),
                escaped(value)
            );
        };
        let ratio = match self.hit_ratio {
            Some(ratio) => format!("{:.1} % of {} requests", ratio * 100.0, self.requests),
            None => "no requests yet".to_owned(),
        };
        row("Answered from the cache", &ratio, false);
        row("Stale answers", &self.stale.to_string(), self.stale > 0);
        let store = &self.store;
        let maximum = u64::try_from(store.maximum).unwrap_or(0);
        let used = format!(
            "{} of {}, {} manifests and blobs",
            size(store.used),
            size(maximum),
            store.contents
        );
        row("Stored", &used, false);
        let free = store.free.map(size);
        let free_text = free.as_deref().unwrap_or("the disk can't be looked at");
        row("Free on the disk", free_text, free.is_none());
        let admission = if store.admission_stopped {
            "stopped: what must be kept fills the store"
        } else {
            "open"
        };
        row("New content", admission, store.admission_stopped);
        let failures = store.write_failures;
        row("Failed writes", &failures.to_string(), failures > 0);
        if let Some(error) = &store.last_write_error {
            row("Last failed write", &error.to_string(), false);
        }
        row("Being fetched", &self.fills_running.to_string(), false);
        let hash = self.policy_hash.as_deref();
        row("Policy", hash.unwrap_or("none is in force"), hash.is_none());
        if let Some(at) = &self.policy_loaded_at {
            row("In force since", at, false);
        }
        if let Some(error) = &self.policy_error {
            row("Why a newer one is refused", error, true);
        }
        let mut upstreams = String::new();
        for upstream in &self.upstreams {
            for endpoint in &upstream.endpoints {
                let class = if endpoint.is_good() {
                    ""
                } else {
                    " class=\"bad\""
                };
                let last = endpoint.last_error.as_ref().map(ToString::to_string);
                let _ = write!(
                    upstreams,
                    "<tr><th scope=\"row\">{}</th><td>{}</td><td{class}>{}</td><td>{}</td></tr>",
                    escaped(&upstream.host),
                    escaped(&endpoint.endpoint),
                    escaped(&endpoint.text()),
                    escaped(last.as_deref().unwrap_or("no error yet"))
                );
            }
        }
        let version = self.version;
        format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Larder</title><style>{STYLE}</style></head><body><h1>Larder cache server {version}</h1><table>{rows}</table><h2>Upstreams</h2><table><tr><th scope=\"col\">Upstream</th><th scope=\"col\">Endpoint</th><th scope=\"col\">State</th><th scope=\"col\">Last error</th></tr>{upstreams}</table></body></html>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes >> 20),
        _ => format!("{} GiB", bytes >> 30),
    }
}
