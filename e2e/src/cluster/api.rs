//! The API server's own protocol in JSON: many calls at once, for which kubectl would be a process each.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::BytesMut;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Certificate, Client, Identity, Method, Response};
use serde_json::Value;

pub(super) const URL: &str = "https://127.0.0.1:6443";

/// A client with the administrator's rights.
#[derive(Debug, Clone)]
pub struct Api {
    client: Client,
}

/// What the API server did not do. Found in an [`anyhow::Error`] by `downcast_ref`.
#[derive(Debug)]
pub struct Refused {
    pub status: u16,
    pub message: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refused {}

/// Whether the object is not there, or no longer the one that was meant.
pub fn is_gone(error: &anyhow::Error) -> bool {
    let refused = error.downcast_ref::<Refused>();
    refused.is_some_and(|refused| matches!(refused.status, 404 | 409))
}

impl Api {
    /// With the certificates of the directory.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join("pki").join(name);
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
        };
        let identity = [read("admin.crt")?, read("admin.key")?].concat();
        let client = Client::builder()
            .no_proxy()
            .identity(Identity::from_pem(&identity).context("failed to read the certificate")?)
            .tls_certs_only([Certificate::from_pem(&read("ca.crt")?)
                .context("failed to read the authority's certificate")?])
            .build()
            .context("failed to build a client of the API server")?;
        Ok(Self { client })
    }

    /// An object or a list, by its path.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, "application/json", None).await
    }

    /// Makes an object; `path` is that of its list.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.call(Method::POST, path, "application/json", Some(object))
            .await
    }

    /// Changes an object by a JSON merge patch.
    pub async fn merge(&self, path: &str, change: &Value) -> Result<Value> {
        let kind = "application/merge-patch+json";
        self.call(Method::PATCH, path, kind, Some(change)).await
    }

    /// Applies on the server, with force, as that field manager.
    pub async fn apply(&self, path: &str, object: &Value, manager: &str) -> Result<Value> {
        let path = format!("{path}?fieldManager={manager}&force=true");
        let kind = "application/apply-patch+yaml";
        self.call(Method::PATCH, &path, kind, Some(object)).await
    }

    /// Deletes an object, or all of a list; `options` are `DeleteOptions`.
    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value> {
        self.call(Method::DELETE, path, "application/json", Some(options))
            .await
    }

    /// Follows the events of a list, whose path has a query already.
    pub(super) async fn watch(&self, path: &str) -> Result<Events> {
        let response = self
            .send(Method::GET, path, "application/json", None)
            .await?;
        Ok(Events {
            response,
            buffer: BytesMut::new(),
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let response = self.send(method, path, kind, body).await?;
        let body = response
            .bytes()
            .await
            .with_context(|| format!("failed to read the answer of {path}"))?;
        serde_json::from_slice(&body)
            .with_context(|| format!("failed to read the answer of {path}"))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> Result<Response> {
        let what = format!("{method} {path}");
        let mut request = self.client.request(method, format!("{URL}{path}"));
        if let Some(body) = body {
            request = request
                .header(CONTENT_TYPE, kind)
                .body(serde_json::to_vec(body).context("failed to write a request")?);
        }
        let response = request
            .send()
            .await
            .with_context(|| format!("failed to send {what}"))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let message = response.text().await.unwrap_or_default();
        let refused = Refused {
            status: status.as_u16(),
            message,
        };
        Err(anyhow::Error::new(refused).context(format!("the API server refused {what}")))
    }
}

/// The events of a watch, one JSON text a line.
#[derive(Debug)]
pub(super) struct Events {
    response: Response,
    buffer: BytesMut,
}

impl Events {
    /// `None`: the API server has ended the watch.
    pub(super) async fn next(&mut self) -> Result<Option<Value>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(end + 1);
                return serde_json::from_slice(&line)
                    .context("failed to read an event")
                    .map(Some);
            }
            match self.response.chunk().await.context("a watch broke")? {
                Some(chunk) => self.buffer.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}
