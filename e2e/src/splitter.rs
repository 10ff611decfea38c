//! A reverse proxy that makes a registry of two: what writes goes to the real one, what reads to the cache in front of it.
//! With it a client that pushes and pulls, as the conformance suite does, checks the cache.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderMap, TRANSFER_ENCODING};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use reqwest::redirect::Policy;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::node::ADDRESS;

/// A running splitter. Dropping it ends it.
#[derive(Debug)]
pub struct Splitter {
    address: SocketAddr,
    _runtime: Runtime,
}

#[derive(Debug, Clone)]
struct Targets {
    reads: String,
    writes: String,
    client: reqwest::Client,
}

impl Splitter {
    /// Listens on the node's address; both targets are URLs without a path.
    pub fn start(reads: &str, writes: &str) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .context("failed to build the splitter's client")?;
        let targets = Targets {
            reads: reads.to_owned(),
            writes: writes.to_owned(),
            client,
        };
        let runtime = Runtime::new().context("failed to build the splitter's runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind((ADDRESS, 0)))
            .context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        runtime.spawn(serve(listener, targets));
        Ok(Self {
            address,
            _runtime: runtime,
        })
    }

    /// `address:port`
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

async fn serve(listener: TcpListener, targets: Targets) {
    while let Ok((stream, _)) = listener.accept().await {
        let targets = targets.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let targets = targets.clone();
                async move { Ok::<_, Infallible>(answer(&targets, request).await) }
            });
            // A client that leaves is none of the splitter's business.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(targets: &Targets, request: Request<Incoming>) -> Response<Full<Bytes>> {
    forward(targets, request).await.unwrap_or_else(|error| {
        let mut response = Response::new(Full::new(Bytes::from(format!("{error:#}"))));
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    })
}

async fn forward(targets: &Targets, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    // The state of an upload is read with GET, and known to the one that takes it.
    let reads = matches!(parts.method, Method::GET | Method::HEAD)
        && !parts.uri.path().contains("/blobs/uploads/");
    let target = if reads {
        &targets.reads
    } else {
        &targets.writes
    };
    let body = body.collect().await.context("failed to read the request")?;
    let mut forwarded = targets
        .client
        .request(parts.method, format!("{target}{}", parts.uri))
        // With the host that the client wrote, of which the registry makes the addresses of uploads.
        .headers(end_to_end(&parts.headers));
    let body = body.to_bytes();
    if !reads {
        forwarded = forwarded.body(body);
    }
    let answer = forwarded.send().await.context("failed to forward")?;
    let (status, headers) = (answer.status(), end_to_end(answer.headers()));
    let body = answer.bytes().await.context("failed to read the answer")?;
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    headers.remove(CONNECTION);
    headers.remove(TRANSFER_ENCODING);
    headers
}
