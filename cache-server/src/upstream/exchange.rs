//! One request and the head of its answer.

use std::sync::Arc;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};

use super::client::Upstream;
use super::{Error, reason};

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Sent<'a> {
    pub(super) method: &'a Method,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    /// A form, for a POST.
    pub(super) form: Option<String>,
}

impl Upstream {
    /// An idle connection that the upstream closes at the very moment it is used looks like a failure: such a request
    /// is sent once more.
    pub(super) async fn exchange(&self, sent: Sent<'_>) -> Result<reqwest::Response, Error> {
        match self.attempt(sent.clone()).await {
            Err(Failed {
                repeatable: true, ..
            }) => self.attempt(sent).await,
            other => other,
        }
        .map_err(|failed| Error::Unreachable {
            host: self.name(),
            reason: failed.reason,
        })
    }

    async fn attempt(&self, sent: Sent<'_>) -> Result<reqwest::Response, Failed> {
        let mut request = self
            .client
            .request(sent.method.clone(), sent.url.clone())
            .headers(sent.headers);
        if let Some(form) = sent.form {
            request = request.body(form);
        }
        let name = self.name();
        let count = |code: &str| {
            let labels = [&*name, code];
            self.metrics
                .upstream_requests
                .with_label_values(&labels)
                .inc();
        };
        match tokio::time::timeout(self.timeouts.header, request.send()).await {
            Ok(Ok(response)) => {
                count(response.status().as_str());
                Ok(response)
            }
            Ok(Err(error)) => {
                count("error");
                Err(Failed {
                    repeatable: !error.is_connect() && !error.is_timeout() && error.is_request(),
                    reason: reason(error),
                })
            }
            Err(_) => {
                count("timeout");
                Err(Failed {
                    repeatable: false,
                    reason: "it did not answer in time".into(),
                })
            }
        }
    }
}

/// A request without an answer.
struct Failed {
    repeatable: bool,
    reason: Arc<str>,
}
