//! The pods that are said to run: their addresses, the policy that each follows, and their answers.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crds::configz::{Configz, Source};
use crds::policy::Policy;
use crds::static_config::StaticConfig;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// All pods by UID.
#[derive(Debug, Default)]
pub(super) struct Pods(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    pods: HashMap<String, Pod>,
    /// Addresses are never given twice.
    addresses: HashMap<Ipv4Addr, String>,
    refusing: bool,
}

#[derive(Debug)]
struct Pod {
    address: Ipv4Addr,
    /// `None`: it has not started yet.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    annotations: Value,
    configz: Configz,
}

impl Pods {
    fn with<T>(&self, visit: impl FnOnce(&mut State) -> T) -> T {
        visit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn refuse(&self, refuse: bool) {
        self.with(|state| state.refusing = refuse);
    }

    /// Gives a pod its address; `None`: it has one, and whoever asked for it starts the pod.
    pub(super) fn begin(&self, uid: &str) -> Option<Ipv4Addr> {
        self.with(|state| {
            if state.pods.contains_key(uid) {
                return None;
            }
            let number = u16::try_from(state.addresses.len() + 1).ok()?;
            let [high, low] = number.to_be_bytes();
            let address = Ipv4Addr::new(10, 90, high, low);
            state.addresses.insert(address, uid.to_owned());
            let pod = Pod {
                address,
                running: None,
            };
            state.pods.insert(uid.to_owned(), pod);
            Some(address)
        })
    }

    /// The pod reads its files, and answers from now on.
    pub(super) fn start(&self, uid: &str, pod: &Value, files: &Value) {
        let mut running = Running {
            annotations: pod["metadata"]["annotations"].clone(),
            configz: Configz {
                policy_hash: None,
                static_hash: StaticConfig::parse(file(files, "static.yaml"))
                    .map(|config| config.hash())
                    .unwrap_or_default(),
                loaded_at: None,
                last_error: None,
                source: None,
                version: "0.0.0".to_owned(),
            },
        };
        read_policy(&mut running.configz, files);
        self.with(|state| {
            if let Some(pod) = state.pods.get_mut(uid) {
                pod.running = Some(running);
            }
        });
    }

    /// Whether the kubelet has a reason to look at the pod's volumes again.
    pub(super) fn annotations_changed(&self, uid: &str, pod: &Value) -> bool {
        self.with(|state| {
            let known = state.pods.get_mut(uid);
            known
                .and_then(|known| known.running.as_mut())
                .is_some_and(|running| {
                    let annotations = &pod["metadata"]["annotations"];
                    let changed = running.annotations != *annotations;
                    running.annotations = annotations.clone();
                    changed
                })
        })
    }

    /// The pod sees its files anew.
    pub(super) fn sync(&self, uid: &str, files: &Value) {
        self.with(|state| {
            let refusing = state.refusing;
            let known = state.pods.get_mut(uid);
            if let Some(running) = known.and_then(|known| known.running.as_mut()) {
                if refusing {
                    running.configz.last_error = Some("this pod takes no new policy".to_owned());
                } else {
                    read_policy(&mut running.configz, files);
                }
            }
        });
    }

    pub(super) fn remove(&self, uid: &str) {
        self.with(|state| state.pods.remove(uid));
    }

    fn configz(&self, address: Ipv4Addr) -> Option<Configz> {
        self.with(|state| {
            let pod = state.pods.get(state.addresses.get(&address)?)?;
            debug_assert_eq!(pod.address, address);
            Some(pod.running.as_ref()?.configz.clone())
        })
    }
}

/// A policy that can't be taken leaves the last one in force, as in the server.
fn read_policy(configz: &mut Configz, files: &Value) {
    match Policy::parse(file(files, "policy.yaml")) {
        Ok(policy) => {
            configz.policy_hash = Some(policy.hash());
            configz.source = Some(Source::File);
            configz.last_error = None;
        }
        Err(error) => configz.last_error = Some(error.to_string()),
    }
}

fn file<'a>(files: &'a Value, name: &str) -> &'a str {
    files[name].as_str().unwrap_or_default()
}

/// Answers `/configz` for the pod whose address was dialled.
pub(super) async fn serve(listener: TcpListener, pods: Arc<Pods>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let Ok(address) = stream.local_addr() else {
            continue;
        };
        let pods = pods.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(&pods, address.ip(), &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            // A client that leaves is none of the pod's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(pods: &Pods, address: IpAddr, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let configz = match address {
        IpAddr::V4(address) if request.uri().path() == "/configz" => pods.configz(address),
        _ => None,
    };
    let text = configz.and_then(|configz| serde_json::to_vec(&configz).ok());
    let status = if text.is_some() {
        StatusCode::OK
    } else {
        StatusCode::NOT_FOUND
    };
    let mut response = Response::new(Full::new(Bytes::from(text.unwrap_or_default())));
    *response.status_mut() = status;
    response
}
