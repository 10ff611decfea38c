//! Asks a cache whether it serves this node.

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
    let response = client.get(url).send().await.map_err(|error| Error::Reach {
        url: url.clone(),
        reason: causes(&error.without_url()),
    })?;
    match response.status() {
        // One that wants credentials serves who has them.
        StatusCode::OK | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Ok(()),
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

    /// The outcome of asking a server that answers once with this status.
    async fn outcome(status: &'static str) -> Result<(), String> {
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
        };
        let outcome = probe([target].into()).await.into_values().next().unwrap();
        assert!(server.await.unwrap().starts_with("GET /v2/ HTTP/1.1\r\n"));
        outcome.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_cache_that_answers_serves() {
        assert_eq!(outcome("200 OK").await, Ok(()));
        assert_eq!(outcome("401 Unauthorized").await, Ok(()));
        let busy = outcome("503 Service Unavailable").await.unwrap_err();
        assert!(
            busy.ends_with("it answers 503 Service Unavailable"),
            "{busy}"
        );
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
        };
        let outcome = probe([target].into()).await.into_values().next().unwrap();
        let error = outcome.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("failed to reach {url}: ")),
            "{error}"
        );
    }
}
