//! A proxy between one operator and the API server, which counts what passes and can shut itself at a chosen write: so that a
//! test ends the operator, or the API server, at every step.

use std::convert::Infallible;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use reqwest::Certificate;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Cluster, api};
use crate::wait;

const LIMIT: Duration = Duration::from_mins(1);

/// A running gate, open at first. It ends with the cluster.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// When a write is caught.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It does not reach the API server.
    Before,
    /// It is done, and whoever wrote does not hear of it.
    After,
}

#[derive(Debug)]
struct Shared {
    client: reqwest::Client,
    traffic: Mutex<Traffic>,
    open: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Traffic {
    reads: Vec<String>,
    writes: Vec<String>,
    /// Number of the write at which the gate shuts, from 1.
    shut_at: Option<(usize, Moment)>,
}

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

impl Cluster {
    /// Starts a gate.
    pub fn start_gate(&self) -> Result<Gate> {
        let path = self.directory.join("pki/ca.crt");
        let authority =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([
                Certificate::from_pem(&authority).context("failed to read the authority")?
            ])
            .build()
            .context("failed to build the gate's client")?;
        let shared = Arc::new(Shared {
            client,
            traffic: Mutex::default(),
            open: watch::Sender::new(true),
        });
        let listener = self
            .runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        self.runtime.spawn(serve(listener, shared.clone()));
        Ok(Gate { address, shared })
    }
}

impl Gate {
    /// The URL at which the API server seems to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Shuts the gate at that write from the start, counted from 1: from then on nothing passes in either direction.
    pub fn shut_at(&self, write: usize, moment: Moment) {
        self.shared
            .with(|traffic| traffic.shut_at = Some((write, moment)));
    }

    /// Shuts the gate now.
    pub fn shut(&self) {
        self.shared.open.send_replace(false);
    }

    /// Whether it is.
    pub fn is_shut(&self) -> bool {
        !*self.shared.open.borrow()
    }

    /// Returns when the gate has shut.
    pub fn wait_until_shut(&self) -> Result<()> {
        wait::until("the gate to shut", LIMIT, || {
            ensure!(self.is_shut(), "there were {} writes", self.writes().len());
            Ok(())
        })
    }

    /// Lets everything pass again; what was caught is answered with an error.
    pub fn open(&self) {
        self.shared.with(|traffic| traffic.shut_at = None);
        self.shared.open.send_replace(true);
    }

    /// Forgets what has passed.
    pub fn forget(&self) {
        self.shared.with(|traffic| {
            traffic.reads.clear();
            traffic.writes.clear();
        });
    }

    /// The reads so far: `GET /path?query`.
    pub fn reads(&self) -> Vec<String> {
        self.shared.with(|traffic| traffic.reads.clone())
    }

    /// The writes so far, without those of Leases: `PATCH /path?query`.
    pub fn writes(&self) -> Vec<String> {
        self.shared.with(|traffic| traffic.writes.clone())
    }
}

impl Shared {
    fn with<T>(&self, visit: impl FnOnce(&mut Traffic) -> T) -> T {
        visit(&mut self.traffic.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a request; the moment if the gate is to shut at it.
    fn count(&self, method: &Method, target: &str) -> Option<Moment> {
        self.with(|traffic| {
            let line = format!("{method} {target}");
            if method == Method::GET {
                traffic.reads.push(line);
                return None;
            }
            if target.starts_with("/apis/coordination.k8s.io/") {
                return None;
            }
            traffic.writes.push(line);
            let (write, moment) = traffic.shut_at?;
            (write == traffic.writes.len()).then_some(moment)
        })
    }

    async fn is_open(&self) {
        // The sender is in `self`.
        let mut open = self.open.subscribe();
        let _ = open.wait_for(|open| *open).await;
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let shared = shared.clone();
                async move { Ok::<_, Infallible>(answer(&shared, request).await) }
            });
            // An operator that was killed leaves its connections.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    if !*shared.open.borrow() {
        shared.is_open().await;
    }
    let caught = shared.count(request.method(), &request.uri().to_string());
    if caught.is_some() {
        shared.open.send_replace(false);
    }
    if caught == Some(Moment::Before) {
        shared.is_open().await;
        return failure("the gate was shut");
    }
    let answer = forward(shared, request).await;
    // What was under way when the gate shut stays without an answer, the caught write first of all.
    if !*shared.open.borrow() {
        shared.is_open().await;
        return failure("the gate was shut");
    }
    answer.unwrap_or_else(|error| failure(&format!("{error:#}")))
}

async fn forward(shared: &Shared, request: Request<Incoming>) -> Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.context("failed to read the request")?;
    let answer = shared
        .client
        .request(parts.method, format!("{}{}", api::URL, parts.uri))
        .headers(end_to_end(&parts.headers))
        .body(body.to_bytes())
        .send()
        .await
        .context("failed to forward")?;
    let mut response = Response::<reqwest::Body>::from(answer).map(BodyExt::boxed_unsync);
    let headers = end_to_end(response.headers());
    *response.headers_mut() = headers;
    // The gate speaks another version of HTTP than the API server.
    *response.version_mut() = Version::HTTP_11;
    Ok(response)
}

fn failure(reason: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(reason.to_owned())).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(HOST);
    headers
}
