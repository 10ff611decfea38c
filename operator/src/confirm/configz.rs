//! Asks one pod what it has to say: a cache server which policy it follows, a node agent how its node is.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crds::configz::Configz;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::Client;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::resolve::ADMIN_PORT;

/// Where a cache server answers.
const CONFIGZ: Question = Question {
    port: ADMIN_PORT,
    path: "/configz",
};

/// An answer takes milliseconds; a pod that takes longer is asked again.
const TIMEOUT: Duration = Duration::from_millis(800);
const MAXIMUM_BODY: usize = 64 * 1024;

/// The way to the pods.
#[derive(Clone)]
pub enum PodAccess {
    /// By their addresses: from within the cluster.
    Direct,
    /// Through the API server: from outside.
    Proxy(Client),
}

/// What to ask for, and at which port of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    pub port: u16,
    /// Begins with a slash.
    pub path: &'static str,
}

/// Why a pod gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to parse the pod's address {address:?}")]
    Address { address: String },
    #[error("failed to connect to {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("failed to get {path}: {reason}")]
    Exchange { path: &'static str, reason: String },
    #[error("failed to get {path}: the pod answered {status}")]
    Status {
        path: &'static str,
        status: http::StatusCode,
    },
    #[error("failed to read the answer of {path}: {reason}")]
    Body { path: &'static str, reason: String },
    #[error("failed to get {path} within {} ms", TIMEOUT.as_millis())]
    Timeout { path: &'static str },
}

impl PodAccess {
    /// Asks a cache server.
    pub async fn configz(
        &self,
        namespace: &str,
        pod: &str,
        address: &str,
    ) -> Result<Configz, Error> {
        self.ask(namespace, pod, address, CONFIGZ).await
    }

    /// Asks a pod for JSON.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        namespace: &str,
        pod: &str,
        address: &str,
        question: Question,
    ) -> Result<T, Error> {
        let path = question.path;
        let body = async {
            match self {
                Self::Direct => direct(address, question).await,
                Self::Proxy(client) => proxy(client, namespace, pod, question).await,
            }
        };
        let body = tokio::time::timeout(TIMEOUT, body)
            .await
            .map_err(|_| Error::Timeout { path })??;
        serde_json::from_slice(&body).map_err(|error| Error::Body {
            path,
            reason: error.to_string(),
        })
    }
}

async fn direct(address: &str, question: Question) -> Result<Vec<u8>, Error> {
    let ip: IpAddr = address.parse().map_err(|_| Error::Address {
        address: address.to_owned(),
    })?;
    let Question { port, path } = question;
    let address = SocketAddr::from((ip, port));
    let exchange = |error: &dyn std::fmt::Display| Error::Exchange {
        path,
        reason: error.to_string(),
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Error::Connect { address, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| exchange(&error))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get(path)
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| exchange(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| exchange(&error))?;
    if !response.status().is_success() {
        return Err(Error::Status {
            path,
            status: response.status(),
        });
    }
    let body = Limited::new(response.into_body(), MAXIMUM_BODY)
        .collect()
        .await
        .map_err(|error| Error::Body {
            path,
            reason: error.to_string(),
        })?;
    Ok(body.to_bytes().to_vec())
}

async fn proxy(
    client: &Client,
    namespace: &str,
    pod: &str,
    question: Question,
) -> Result<Vec<u8>, Error> {
    let Question { port, path } = question;
    let whole = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{port}/proxy{path}");
    let exchange = |error: &dyn std::fmt::Display| Error::Exchange {
        path,
        reason: error.to_string(),
    };
    let request = http::Request::get(whole)
        .body(Vec::new())
        .map_err(|error| exchange(&error))?;
    let text = client
        .request_text(request)
        .await
        .map_err(|error| exchange(&error))?;
    Ok(text.into_bytes())
}
