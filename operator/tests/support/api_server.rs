//! An API server on loopback, as far as the operator uses one: it keeps objects, and plays the kubelet of the pods.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use crds::policy::Policy;
use kube::{Client, Config};
use serde_json::{Value, json};

/// The objects by path, what was written, and what the pods do.
#[derive(Default)]
pub(crate) struct Cluster {
    pub(crate) objects: BTreeMap<String, Value>,
    /// `PATCH /api/v1/…`
    pub(crate) writes: Vec<String>,
    /// `Normal Resumed: …`
    pub(crate) events: Vec<String>,
    /// Pods that run the newest template, if not all.
    pub(crate) updated_replicas: Option<i32>,
    /// Hash that each pod's `/configz` shows.
    pub(crate) pods: BTreeMap<String, String>,
    /// Bumps that come before the kubelet has seen the new `ConfigMap`.
    pub(crate) overtaking_bumps: usize,
    /// Whether the pods refuse new policies.
    pub(crate) refusing: bool,
    next: u64,
}

/// A handle to the server.
#[derive(Clone, Default)]
pub(crate) struct ApiServer(Arc<Mutex<Cluster>>);

impl ApiServer {
    /// Starts one, and returns a client of it.
    pub(crate) async fn start() -> (Self, Client) {
        let server = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the test uses the server as intended");
        let address = listener
            .local_addr()
            .expect("the test uses the server as intended");
        let router = Router::new().fallback(handle).with_state(server.clone());
        tokio::spawn(async move {
            axum::serve(listener, router)
                .await
                .expect("the test uses the server as intended");
        });
        let config = Config::new(
            format!("http://{address}")
                .parse()
                .expect("the test uses the server as intended"),
        );
        (
            server,
            Client::try_from(config).expect("the test uses the server as intended"),
        )
    }

    /// Looks at the cluster, or changes it.
    pub(crate) fn with<T>(&self, visit: impl FnOnce(&mut Cluster) -> T) -> T {
        visit(&mut self.0.lock().expect("the test uses the server as intended"))
    }
}

impl Cluster {
    /// Creates or replaces an object.
    pub(crate) fn put(&mut self, path: &str, mut object: Value) {
        self.next += 1;
        let metadata = &mut object["metadata"];
        metadata["resourceVersion"] = json!(self.next.to_string());
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", self.next));
        }
        self.objects.insert(path.to_owned(), object);
    }

    /// What was written since the last call.
    pub(crate) fn take_writes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.writes)
    }

    /// Starts a pod, which reads its configuration as any new pod does.
    pub(crate) fn start_pod(&mut self, cache: &str, name: &str) {
        let hash = self.policy_hash(cache);
        self.pods.insert(name.to_owned(), hash);
        self.put(
            &format!("/api/v1/namespaces/team-a/pods/{name}"),
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "team-a", "labels": {
                    "app.kubernetes.io/managed-by": "larder", "app.kubernetes.io/instance": cache,
                }},
                "status": {
                    "podIP": "10.0.0.1",
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "containerStatuses": [{"name": "cache-server", "ready": true, "restartCount": 0, "image": "", "imageID": "", "state": {"running": {}}}],
                },
            }),
        );
    }

    fn policy_hash(&self, cache: &str) -> String {
        let path = format!("/api/v1/namespaces/team-a/configmaps/{cache}-config");
        let text = self.objects[&path]["data"]["policy.yaml"]
            .as_str()
            .expect("the test uses the server as intended");
        Policy::parse(text)
            .expect("the test uses the server as intended")
            .hash()
    }

    fn patch(&mut self, path: &str, body: &Value) -> Value {
        let (path, status_only) = match path.strip_suffix("/status") {
            Some(path) => (path, true),
            None => (path, false),
        };
        let mut object = self.objects.get(path).cloned().unwrap_or(json!({}));
        let before = object.clone();
        if status_only {
            object["status"] = body["status"].clone();
        } else {
            merge(&mut object, body);
        }
        match body["kind"].as_str() {
            Some("Service") if object["spec"]["clusterIP"].is_null() => {
                object["spec"]["clusterIP"] = json!("10.96.0.7");
            }
            Some("StatefulSet") => {
                let replicas = object["spec"]["replicas"].clone();
                let updated = self.updated_replicas.map_or(replicas.clone(), Value::from);
                object["status"] = json!({"replicas": replicas, "readyReplicas": replicas, "updatedReplicas": updated});
            }
            _ => {}
        }
        if object != before {
            self.put(path, object);
        }
        self.objects[path].clone()
    }

    /// The kubelet syncs a pod whose annotation changed.
    fn sync(&mut self, pod: &str) {
        if self.overtaking_bumps > 0 {
            self.overtaking_bumps -= 1;
        } else if !self.refusing {
            let cache = pod
                .rsplit_once('-')
                .expect("the test uses the server as intended")
                .0
                .to_owned();
            let hash = self.policy_hash(&cache);
            self.pods.insert(pod.to_owned(), hash);
        }
    }
}

async fn handle(
    State(server): State<ApiServer>,
    method: Method,
    uri: Uri,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    server.with(|cluster| {
        let dry_run = uri
            .query()
            .is_some_and(|query| query.contains("dryRun=All"));
        if method != Method::GET && !dry_run {
            cluster.writes.push(format!("{method} {path}"));
        }
        match method {
            Method::GET if path.ends_with("/proxy/configz") => configz(cluster, &path),
            Method::GET => read(cluster, &uri),
            Method::PATCH => {
                let body: Value =
                    serde_json::from_slice(&body).expect("the test uses the server as intended");
                if dry_run {
                    let mut object = cluster.objects.get(&path).cloned().unwrap_or(json!({}));
                    merge(&mut object, &body);
                    return object.to_string().into_response();
                }
                let object = cluster.patch(&path, &body);
                if let Some((_, pod)) = path.split_once("/pods/") {
                    let pod = pod.to_owned();
                    cluster.sync(&pod);
                }
                object.to_string().into_response()
            }
            Method::DELETE => {
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                if body["propagationPolicy"] == "Orphan" {
                    // It goes when the garbage collector has freed what it owns.
                    let object = cluster.objects.get_mut(&path);
                    let object = object.expect("the test uses the server as intended");
                    assert_eq!(body["preconditions"]["uid"], object["metadata"]["uid"]);
                    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                } else {
                    cluster.objects.remove(&path);
                }
                json!({"kind": "Status", "status": "Success"})
                    .to_string()
                    .into_response()
            }
            // Events.
            _ => {
                let event: Value = serde_json::from_slice(&body).unwrap_or_default();
                let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
                cluster.events.push(format!(
                    "{} {}: {}",
                    text("type"),
                    text("reason"),
                    text("note")
                ));
                String::from_utf8(body.to_vec())
                    .expect("the test uses the server as intended")
                    .into_response()
            }
        }
    })
}

fn configz(cluster: &Cluster, path: &str) -> Response {
    let pod = path
        .split('/')
        .nth(6)
        .expect("the test uses the server as intended")
        .split(':')
        .next()
        .expect("the test uses the server as intended");
    let error = cluster.refusing.then_some("the file is not to my taste");
    json!({"policyHash": cluster.pods[pod], "staticHash": "", "loadedAt": null, "lastError": error, "source": "file", "version": "0"})
        .to_string()
        .into_response()
}

fn read(cluster: &Cluster, uri: &Uri) -> Response {
    if let Some(object) = cluster.objects.get(uri.path()) {
        return object.to_string().into_response();
    }
    let Some(selector) = uri.query().and_then(|query| {
        query
            .split('&')
            .find_map(|one| one.strip_prefix("labelSelector="))
    }) else {
        let status = json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "message": "not found", "code": 404});
        return (StatusCode::NOT_FOUND, status.to_string()).into_response();
    };
    let selector = selector
        .replace("%3D", "=")
        .replace("%2C", ",")
        .replace("%2F", "/");
    let selected = |object: &&Value| {
        selector.split(',').all(|one| {
            let (key, value) = one
                .split_once('=')
                .expect("the test uses the server as intended");
            object["metadata"]["labels"][key] == value
        })
    };
    let items: Vec<&Value> = cluster
        .objects
        .iter()
        .filter(|(path, _)| {
            path.rsplit_once('/')
                .expect("the test uses the server as intended")
                .0
                == uri.path()
        })
        .map(|(_, object)| object)
        .filter(selected)
        .collect();
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
        .to_string()
        .into_response()
}

fn merge(object: &mut Value, patch: &Value) {
    match (object, patch) {
        (Value::Object(object), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(object.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (object, patch) => *object = patch.clone(),
    }
}
