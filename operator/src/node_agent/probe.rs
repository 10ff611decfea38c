//! Asks a cache whether it serves this node, with what containerd would send.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::{Certificate, Client, ClientBuilder, StatusCode};

use super::bundle::Target;

/// A cache in the same cluster answers in milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);
const CONCURRENCY: usize = 8;

/// Why a cache does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to make a client for {url}: {reason}")]
    Client { url: String, reason: String },
    #[error("failed to reach {url}: {reason}")]
    Reach { url: String, reason: String },
    #[error("failed to use {url}: it answers {status}")]
    Status { url: String, status: StatusCode },
    #[error(
        "failed to use {url}: it answers {status}, so what this node shows it is not what access of the cache asks for"
    )]
    Refused { url: String, status: StatusCode },
}

impl Error {
    /// Whether the cache is well, and does not let this node in.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// The outcome for each target.
pub type Outcomes = BTreeMap<Target, Result<(), Error>>;

/// Asks each target once.
pub async fn probe(targets: BTreeSet<Target>) -> Outcomes {
    futures::stream::iter(targets)
        .map(|target| async {
            let outcome = one(&target).await;
            (target, outcome)
        })
        .buffer_unordered(CONCURRENCY)
        .collect()
        .await
}

/// A client for one question: a connection that is kept would say nothing about new ones, which is what containerd makes.
async fn one(target: &Target) -> Result<(), Error> {
    let url = &target.url;
    let client = client(target).map_err(|error| Error::Client {
        url: url.clone(),
        reason: causes(&error),
    })?;
    let mut request = client.get(url);
    for (name, value) in &target.headers.0 {
        request = request.header(name, value);
    }
    let response = request.send().await.map_err(|error| Error::Reach {
        url: url.clone(),
        reason: causes(&error.without_url()),
    })?;
    match response.status() {
        StatusCode::OK => Ok(()),
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(Error::Refused {
            url: url.clone(),
            status,
        }),
        status => Err(Error::Status {
            url: url.clone(),
            status,
        }),
    }
}

fn client(target: &Target) -> Result<Client, reqwest::Error> {
    let builder = || -> ClientBuilder {
        Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
    };
    if target.authorities.is_empty() {
        // A machine without certificates of its own can still be asked without TLS.
        builder()
            .build()
            .or_else(|_| builder().tls_certs_only([]).build())
    } else {
        let authorities = Certificate::from_pem_bundle(target.authorities.as_bytes())?;
        builder().tls_certs_only(authorities).build()
    }
}

/// The last cause is what tells: "connection refused".
fn causes(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::containerd::hosts::Headers;

    /// What the server was sent, and the outcome of asking it, which answers once with this status.
    async fn outcome(status: &'static str) -> (String, Result<(), Error>) {
        // Several tests may install it; all mean the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2/", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let target = Target {
            url,
            authorities: String::new(),
            headers: Headers(vec![("Authorization".to_owned(), "Basic YTpi".to_owned())]),
        };
        let outcome = probe([target].into()).await.into_values().next().unwrap();
        (server.await.unwrap(), outcome)
    }

    #[tokio::test]
    async fn a_cache_that_answers_serves() {
        let (sent, answer) = outcome("200 OK").await;
        assert!(answer.is_ok());
        assert!(sent.starts_with("GET /v2/ HTTP/1.1\r\n"), "{sent}");
        assert!(sent.contains("\r\nauthorization: Basic YTpi\r\n"), "{sent}");
        let busy = outcome("503 Service Unavailable").await.1.unwrap_err();
        assert!(!busy.is_refusal());
        let busy = busy.to_string();
        assert!(
            busy.ends_with("it answers 503 Service Unavailable"),
            "{busy}"
        );
    }

    #[tokio::test]
    async fn a_cache_that_does_not_let_the_node_in_serves_others() {
        for status in ["401 Unauthorized", "403 Forbidden"] {
            let refused = outcome(status).await.1.unwrap_err();
            assert!(refused.is_refusal());
            let said = format!("it answers {status}, so what this node shows");
            assert!(refused.to_string().contains(&said), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_cache_that_is_gone_does_not() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2/", listener.local_addr().unwrap());
        drop(listener);
        let target = Target {
            url: url.clone(),
            authorities: String::new(),
            headers: Headers::default(),
        };
        let outcome = probe([target].into()).await.into_values().next().unwrap();
        let error = outcome.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("failed to reach {url}: ")),
            "{error}"
        );
    }
}
