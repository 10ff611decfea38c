//! One request and the head of its answer.

use std::sync::Arc;

use reqwest::header::HeaderMap;
use reqwest::{Method, Url};
use tracing::Instrument as _;

use super::client::Upstream;
use super::trust::Reach;
use super::{Error, inward, rate_limit, reason};
use crate::spans;

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Sent<'a> {
    pub(super) method: &'a Method,
    pub(super) url: &'a Url,
    pub(super) headers: HeaderMap,
    /// A form, for a POST.
    pub(super) form: Option<String>,
    pub(super) reach: Reach,
}

impl Upstream {
    /// An idle connection that the upstream closes at the very moment it is used looks like a failure: such a request
    /// is sent once more.
    pub(super) async fn exchange(&self, sent: Sent<'_>) -> Result<reqwest::Response, Error> {
        let host = self.name();
        let response = match self.attempt(sent.clone()).await {
            Err(Failed::Broken {
                repeatable: true, ..
            }) => self.attempt(sent).await,
            other => other,
        }
        .map_err(|failed| match failed {
            Failed::Broken { reason, .. } => Error::Unreachable {
                host: host.clone(),
                reason,
            },
            Failed::Silent => Error::Silent { host: host.clone() },
            Failed::Inward => self.redirect_error(
                "it leads to a name of an address inside the network, which redirectHosts does not name",
            ),
        })?;
        self.show_rate_limit(response.headers());
        match rate_limit::pause(response.status(), response.headers(), self.clock.now()) {
            Some(pause) => Err(Error::Paused { host, pause }),
            None => Ok(response),
        }
    }

    fn show_rate_limit(&self, headers: &HeaderMap) {
        for (header, gauge) in [
            ("ratelimit-limit", &self.metrics.upstream_rate_limit),
            (
                "ratelimit-remaining",
                &self.metrics.upstream_rate_limit_remaining,
            ),
        ] {
            if let Some(count) = rate_limit::count(headers, header) {
                gauge.with_label_values(&[&*self.name()]).set(count);
            }
        }
    }

    async fn attempt(&self, sent: Sent<'_>) -> Result<reqwest::Response, Failed> {
        let client = match sent.reach {
            Reach::Named => &self.client,
            Reach::Outward => &self.outward_client,
        };
        let mut request = client
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
        let span = spans::upstream(sent.method.as_str(), &name, sent.url);
        let sending = request.send().instrument(span.clone());
        match tokio::time::timeout(self.timeouts.header, sending).await {
            Ok(Ok(response)) => {
                count(response.status().as_str());
                span.record("http.response.status_code", response.status().as_u16());
                Ok(response)
            }
            Ok(Err(error)) if inward::is_refusal(&error) => Err(Failed::Inward),
            Ok(Err(error)) if !error.is_timeout() => {
                count("error");
                span.record("error.type", "error");
                Err(Failed::Broken {
                    repeatable: !error.is_connect() && error.is_request(),
                    reason: reason(error),
                })
            }
            // The client itself has a bound for connections only.
            Ok(Err(_)) | Err(_) => {
                count("timeout");
                span.record("error.type", "timeout");
                Err(Failed::Silent)
            }
        }
    }
}

/// A request without an answer.
enum Failed {
    Broken {
        repeatable: bool,
        reason: Arc<str>,
    },
    Silent,
    /// The name of a redirect leads inside the network.
    Inward,
}
