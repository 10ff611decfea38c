//! Asks one pod which policy it follows.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crds::configz::Configz;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::resolve::ADMIN_PORT;

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
    #[error("failed to get /configz: {reason}")]
    Exchange { reason: String },
    #[error("failed to get /configz: the pod answered {status}")]
    Status { status: http::StatusCode },
    #[error("failed to read the answer of /configz: {reason}")]
    Body { reason: String },
    #[error("failed to get /configz within {} ms", TIMEOUT.as_millis())]
    Timeout,
}

impl PodAccess {
    /// Asks a pod.
    pub async fn configz(
        &self,
        namespace: &str,
        pod: &str,
        address: &str,
    ) -> Result<Configz, Error> {
        let body = async {
            match self {
                Self::Direct => direct(address).await,
                Self::Proxy(client) => proxy(client, namespace, pod).await,
            }
        };
        let body = tokio::time::timeout(TIMEOUT, body)
            .await
            .map_err(|_| Error::Timeout)??;
        serde_json::from_slice(&body).map_err(|error| Error::Body {
            reason: error.to_string(),
        })
    }
}

async fn direct(address: &str) -> Result<Vec<u8>, Error> {
    let ip: IpAddr = address.parse().map_err(|_| Error::Address {
        address: address.to_owned(),
    })?;
    let address = SocketAddr::from((ip, ADMIN_PORT));
    let exchange = |error: &dyn std::fmt::Display| Error::Exchange {
        reason: error.to_string(),
    };
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| Error::Connect { address, source })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| exchange(&error))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let request = http::Request::get("/configz")
        .header(http::header::HOST, address.to_string())
        .body(Empty::<Bytes>::new())
        .map_err(|error| exchange(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| exchange(&error))?;
    if !response.status().is_success() {
        return Err(Error::Status {
            status: response.status(),
        });
    }
    let body = Limited::new(response.into_body(), MAXIMUM_BODY)
        .collect()
        .await
        .map_err(|error| Error::Body {
            reason: error.to_string(),
        })?;
    Ok(body.to_bytes().to_vec())
}

async fn proxy(client: &Client, namespace: &str, pod: &str) -> Result<Vec<u8>, Error> {
    let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:{ADMIN_PORT}/proxy/configz");
    let exchange = |error: &dyn std::fmt::Display| Error::Exchange {
        reason: error.to_string(),
    };
    let request = http::Request::get(path)
        .body(Vec::new())
        .map_err(|error| exchange(&error))?;
    let text = client
        .request_text(request)
        .await
        .map_err(|error| exchange(&error))?;
    Ok(text.into_bytes())
}
