//! An API server on loopback, as far as an election uses one: it keeps a Lease under its version, and everything else is empty. It has the kind
//! `ServiceMonitor`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::sync::Notify;

#[derive(Default)]
struct Kept {
    lease: Option<Value>,
    version: u64,
    silent: bool,
    asked: BTreeSet<String>,
}

/// A handle to the server.
#[derive(Clone, Default)]
pub(crate) struct LeaseServer {
    kept: Arc<Mutex<Kept>>,
    changed: Arc<Notify>,
    pub(crate) url: String,
}

/// Longest wait for what an operator does.
const LIMIT: Duration = Duration::from_mins(2);

const INTENDED: &str = "the test uses the server as intended";

impl LeaseServer {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect(INTENDED);
        let address = listener.local_addr().expect(INTENDED);
        let server = Self {
            url: format!("http://{address}"),
            ..Self::default()
        };
        let router = Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move {
            axum::serve(listener, router).await.expect(INTENDED);
        });
        server
    }

    /// A client of it.
    pub(crate) fn client(&self) -> Client {
        Client::try_from(Config::new(self.url.parse().expect(INTENDED))).expect(INTENDED)
    }

    /// Who holds the Lease; empty: nobody, or there is none.
    pub(crate) fn holder(&self) -> String {
        let kept = self.kept.lock().expect(INTENDED);
        let holder = kept
            .lease
            .as_ref()
            .map(|lease| &lease["spec"]["holderIdentity"]);
        holder
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// Returns when the Lease's holder is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut now = String::new();
        self.wait_for("another holder of the Lease", || {
            now = self.holder();
            wanted(&now)
        })
        .await;
        now
    }

    /// Returns when a path was asked for.
    pub(crate) async fn until_asked(&self, path: &str) {
        self.wait_for(path, || {
            self.kept.lock().expect(INTENDED).asked.contains(path)
        })
        .await;
    }

    async fn wait_for(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if holds() {
                    return;
                }
                changed.await;
            }
        };
        let in_time = tokio::time::timeout(LIMIT, wait).await;
        assert!(in_time.is_ok(), "waited in vain for {what}");
    }

    /// Writes the Lease, as somebody who has the right to.
    pub(crate) fn write(&self, spec: &Value) {
        let mut kept = self.kept.lock().expect(INTENDED);
        kept.keep(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "larder-operator"}, "spec": spec}));
        self.changed.notify_waiters();
    }

    /// Makes each request hang from now on.
    pub(crate) fn fall_silent(&self) {
        self.kept.lock().expect(INTENDED).silent = true;
    }
}

impl Kept {
    fn keep(&mut self, mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        lease["metadata"]["uid"] = json!("uid");
        self.lease = Some(lease.clone());
        lease
    }
}

async fn answer(
    State(server): State<LeaseServer>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let silent = {
        let mut kept = server.kept.lock().expect(INTENDED);
        kept.asked.insert(uri.path().to_owned());
        kept.silent
    };
    server.changed.notify_waiters();
    let watches = uri
        .query()
        .is_some_and(|query| query.contains("watch=true"));
    if watches || silent {
        return std::future::pending().await;
    }
    if uri.path() == "/apis/monitoring.coreos.com/v1" {
        let kind = json!({"name": "servicemonitors", "singularName": "", "namespaced": true, "kind": "ServiceMonitor", "verbs": ["list", "watch"]});
        let list = json!({"kind": "APIResourceList", "groupVersion": "monitoring.coreos.com/v1", "resources": [kind]});
        return list.to_string().into_response();
    }
    let is_version = uri.path().starts_with("/apis/") && uri.path().split('/').count() == 4;
    if uri.path() == "/apis/gateway.networking.k8s.io/v1" {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if is_version {
        return StatusCode::NOT_FOUND.into_response();
    }
    if !uri.path().contains("/leases") {
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "1"}, "items": []});
        return list.to_string().into_response();
    }
    let mut kept = server.kept.lock().expect(INTENDED);
    let current = kept.lease.clone();
    let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
    let outcome = match (method, current) {
        (Method::GET, Some(lease)) => Ok(lease),
        (Method::POST, None) => Ok(kept.keep(serde_json::from_slice(&body).expect(INTENDED))),
        (Method::PUT, Some(current)) => {
            let lease: Value = serde_json::from_slice(&body).expect(INTENDED);
            if version(&lease) == version(&current) {
                Ok(kept.keep(lease))
            } else {
                Err((StatusCode::CONFLICT, "Conflict"))
            }
        }
        (Method::POST, Some(_)) => Err((StatusCode::CONFLICT, "AlreadyExists")),
        (_, None) => Err((StatusCode::NOT_FOUND, "NotFound")),
        (other, _) => unreachable!("{other} of a Lease"),
    };
    server.changed.notify_waiters();
    match outcome {
        Ok(lease) => lease.to_string().into_response(),
        Err((code, reason)) => {
            let status = json!({"kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code.as_u16()});
            (code, status.to_string()).into_response()
        }
    }
}
