//! A kubelet without containers: it binds pods to a node that does not exist, says that they run, and answers `/configz` for
//! them. It reads the mounted `ConfigMap` when a pod starts, and again when an annotation of the pod changes, as a kubelet does;
//! the slow refresh that comes without a reason is left out. Volume claims are bound, and grow to what they ask for.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

use super::api::{Api, is_gone};
use super::pods::{Pods, serve};
use super::{NODE, objects};
use crate::node::{ADDRESS, network};

/// The addresses of pods: each leads to the one listener.
const RANGE: &str = "10.90.0.0/16";

/// Where pods answer `/configz`.
const ADMIN_PORT: u16 = 5001;

/// Calls to the API server at a time.
const CALLS: usize = 16;

/// Between two attempts at what can't be done yet, such as mounting a `ConfigMap` that does not exist.
const RETRY: Duration = Duration::from_millis(100);

/// A running fake kubelet. It ends with the runtime that it was started on.
#[derive(Debug, Clone)]
pub struct FakeKubelet {
    api: Api,
    pods: Arc<Pods>,
    calls: Arc<Semaphore>,
}

impl FakeKubelet {
    pub(super) fn start(runtime: &Runtime, api: Api) -> Result<Self> {
        network::make_local(RANGE)?;
        let kubelet = Self {
            api,
            pods: Arc::default(),
            calls: Arc::new(Semaphore::new(CALLS)),
        };
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::UNSPECIFIED, ADMIN_PORT)))
            .context("failed to listen for the pods")?;
        runtime.spawn(serve(listener, kubelet.pods.clone()));
        let pods = kubelet.clone();
        runtime.spawn(follow(kubelet.api.clone(), "/api/v1/pods", move |pod| {
            let kubelet = pods.clone();
            tokio::spawn(async move {
                let outcome = kubelet.tend_pod(&pod).await;
                report("pod", &pod, outcome);
            });
        }));
        let claims = kubelet.clone();
        let path = "/api/v1/persistentvolumeclaims";
        runtime.spawn(follow(kubelet.api.clone(), path, move |claim| {
            let kubelet = claims.clone();
            tokio::spawn(async move {
                let outcome = kubelet.tend_claim(&claim).await;
                report("claim", &claim, outcome);
            });
        }));
        Ok(kubelet)
    }

    /// Whether pods take a new policy; while they don't, they tell why, and keep the one they have.
    pub fn refuse_policies(&self, refuse: bool) {
        self.pods.refuse(refuse);
    }

    async fn tend_pod(&self, pod: &Value) -> Result<()> {
        let uid = text(&pod["metadata"]["uid"]);
        let path = path_of("pods", pod);
        if pod["metadata"]["deletionTimestamp"].is_string() {
            self.pods.remove(uid);
            let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": uid}});
            let _call = self.calls.acquire().await?;
            return self.api.delete(&path, &now).await.map(drop);
        }
        if pod["spec"]["nodeName"].is_null() {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod["metadata"]["name"], "uid": uid},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            });
            let _call = self.calls.acquire().await?;
            let path = format!("{path}/binding");
            return self.api.create(&path, &binding).await.map(drop);
        }
        if pod["status"]["phase"] == "Running" {
            if self.pods.annotations_changed(uid, pod) {
                let files = self.files(pod).await?;
                self.pods.sync(uid, &files);
            }
            return Ok(());
        }
        match self.pods.begin(uid) {
            Some(address) => self.run_pod(pod, &path, address).await,
            None => Ok(()),
        }
    }

    async fn run_pod(&self, pod: &Value, path: &str, address: Ipv4Addr) -> Result<()> {
        let uid = text(&pod["metadata"]["uid"]);
        // As a kubelet that waits for a volume.
        let files = loop {
            match self.files(pod).await {
                Ok(files) => break files,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
            if self.api.get(path).await.is_err_and(|error| is_gone(&error)) {
                self.pods.remove(uid);
                return Ok(());
            }
        };
        self.pods.start(uid, pod, &files);
        let since = &pod["metadata"]["creationTimestamp"];
        let kinds = ["PodScheduled", "Initialized", "ContainersReady", "Ready"];
        let conditions =
            kinds.map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": since}));
        let statuses: Vec<Value> = pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "", "containerID": format!("fake://{uid}"),
                    "ready": true, "started": true, "restartCount": 0, "state": {"running": {"startedAt": since}},
                })
            })
            .collect();
        let status = json!({"metadata": {"uid": uid}, "status": {
            "phase": "Running", "startTime": since, "hostIP": ADDRESS,
            "podIP": address.to_string(), "podIPs": [{"ip": address.to_string()}],
            "conditions": conditions,
            "containerStatuses": statuses,
        }});
        // Nobody shows the pod to this kubelet again, whether the API server is away now or not.
        loop {
            let call = self.calls.acquire().await?;
            match self.api.merge(&format!("{path}/status"), &status).await {
                Ok(_) => return Ok(()),
                Err(error) if is_gone(&error) => return Ok(()),
                Err(_) => drop(call),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// What the pod's `ConfigMap` holds.
    async fn files(&self, pod: &Value) -> Result<Value> {
        let volumes = pod["spec"]["volumes"].as_array();
        let name = volumes
            .into_iter()
            .flatten()
            .find_map(|volume| volume["configMap"]["name"].as_str())
            .context("the pod has no ConfigMap")?;
        let path = objects("configmaps", text(&pod["metadata"]["namespace"]));
        let _call = self.calls.acquire().await?;
        let map = self.api.get(&format!("{path}/{name}")).await?;
        Ok(map["data"].clone())
    }

    async fn tend_claim(&self, claim: &Value) -> Result<()> {
        let wanted = &claim["spec"]["resources"]["requests"]["storage"];
        let status = &claim["status"];
        if status["phase"] == "Bound" && status["capacity"]["storage"] == *wanted {
            return Ok(());
        }
        let path = path_of("persistentvolumeclaims", claim);
        let status = json!({"metadata": {"uid": claim["metadata"]["uid"]}, "status": {
            "phase": "Bound", "accessModes": claim["spec"]["accessModes"], "capacity": {"storage": wanted},
        }});
        let _call = self.calls.acquire().await?;
        self.api
            .merge(&format!("{path}/status"), &status)
            .await
            .map(drop)
    }
}

/// Shows every object of a list, then each change, for ever: from a new list on when the API server was away.
async fn follow(api: Api, path: &'static str, mut seen: impl FnMut(Value) + Send) {
    loop {
        // Why it broke does not matter: what was missed is in the next list.
        let _ = follow_once(&api, path, &mut seen).await;
        tokio::time::sleep(RETRY).await;
    }
}

async fn follow_once(api: &Api, path: &str, seen: &mut (impl FnMut(Value) + Send)) -> Result<()> {
    let mut list = api.get(path).await?;
    if let Some(items) = list["items"].as_array_mut() {
        items.drain(..).for_each(&mut *seen);
    }
    let version = text(&list["metadata"]["resourceVersion"]);
    let watch = format!("{path}?watch=true&resourceVersion={version}");
    let mut events = api.watch(&watch).await?;
    while let Some(mut event) = events.next().await? {
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => seen(event["object"].take()),
            Some("ERROR") => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// An object that is gone needs nothing more; for another failure, the next event or list comes.
fn report(kind: &str, object: &Value, outcome: Result<()>) {
    if let Err(error) = outcome
        && !is_gone(&error)
    {
        let name = text(&object["metadata"]["name"]);
        eprintln!("fake kubelet: {kind} {name}: {error:#}");
    }
}

fn path_of(plural: &str, object: &Value) -> String {
    let namespace = text(&object["metadata"]["namespace"]);
    let name = text(&object["metadata"]["name"]);
    format!("{}/{name}", objects(plural, namespace))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
