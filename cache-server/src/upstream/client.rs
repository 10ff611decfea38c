//! Requests to one upstream, over its endpoints in order.

use std::sync::Arc;

use crds::policy;
use crds::values::RegistryHost;
use prometheus::IntCounter;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Method, Url};

use super::auth::Challenge;
use super::http_clients::HttpClients;
use super::token::Tokens;
use super::{Error, Response, Timeouts, reason};
use crate::metrics::Metrics;
use crate::oci::{Digest, Reference, Repository, media_type};

/// A registry to pull from.
#[derive(Debug)]
pub struct Upstream {
    configuration: policy::Upstream,
    authorities: Option<Vec<u8>>,
    name: Arc<str>,
    endpoints: Vec<Url>,
    client: reqwest::Client,
    pub(super) timeouts: Timeouts,
    pub(super) tokens: Tokens,
    pub(super) received: IntCounter,
    metrics: Arc<Metrics>,
}

impl Upstream {
    pub fn new(
        configuration: policy::Upstream,
        authorities: Option<Vec<u8>>,
        timeouts: Timeouts,
        clients: &HttpClients,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let name: Arc<str> = configuration.host.as_str().into();
        let setup = |reason: Arc<str>| Error::Setup {
            host: name.clone(),
            reason,
        };
        let endpoints = configuration
            .effective_endpoints()
            .iter()
            .map(|endpoint| Url::parse(&endpoint.to_string()))
            .collect::<Result<_, _>>()
            .map_err(|error| setup(error.to_string().into()))?;
        let client = clients
            .get(authorities.as_deref(), timeouts)
            .map_err(setup)?;
        Ok(Self {
            endpoints,
            client,
            timeouts,
            tokens: Tokens::default(),
            received: metrics.upstream_bytes.with_label_values(&[&name]),
            metrics,
            name,
            authorities,
            configuration,
        })
    }

    /// Whether a client made from these would be this one.
    pub fn is_made_from(
        &self,
        configuration: &policy::Upstream,
        authorities: Option<&[u8]>,
    ) -> bool {
        self.configuration == *configuration && self.authorities.as_deref() == authorities
    }

    pub fn host(&self) -> &RegistryHost {
        &self.configuration.host
    }

    /// For messages and metrics.
    pub(super) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Response, Error> {
        self.manifest(Method::GET, repository, reference).await
    }

    /// Asks what a manifest is, which Docker Hub does not count as a pull.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Response, Error> {
        self.manifest(Method::HEAD, repository, reference).await
    }

    async fn manifest(
        &self,
        method: Method,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
        let path = format!("manifests/{reference}");
        self.request(&method, repository, &path, None, headers)
            .await
    }

    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Response, Error> {
        let path = format!("blobs/{digest}");
        self.request(&Method::HEAD, repository, &path, None, HeaderMap::new())
            .await
    }

    /// `range` is the value of a Range header.
    pub async fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        range: Option<&str>,
    ) -> Result<Response, Error> {
        let mut headers = HeaderMap::new();
        if let Some(value) = range.and_then(|range| HeaderValue::from_str(range).ok()) {
            headers.insert(RANGE, value);
        }
        let path = format!("blobs/{digest}");
        self.request(&Method::GET, repository, &path, None, headers)
            .await
    }

    /// Tags or referrers: what stands behind the repository's name, and the query.
    pub async fn get_list(
        &self,
        repository: &Repository,
        path: &str,
        query: Option<&str>,
    ) -> Result<Response, Error> {
        self.request(&Method::GET, repository, path, query, HeaderMap::new())
            .await
    }

    async fn request(
        &self,
        method: &Method,
        repository: &Repository,
        path: &str,
        query: Option<&str>,
        mut headers: HeaderMap,
    ) -> Result<Response, Error> {
        // What is stored is what the digest names: never a compressed form of it.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let repository = match &self.configuration.repository_prefix {
            Some(prefix) => format!("{prefix}/{repository}"),
            None => repository.to_string(),
        };
        let mut last = None;
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let mut url = endpoint.clone();
            url.set_path(&format!("/v2/{repository}/{path}"));
            url.set_query(query);
            match self
                .authorized(method, (index, endpoint), &repository, url, headers.clone())
                .await
            {
                Err(error) if error.is_worth_another_endpoint() => last = Some(error),
                other => return other.map(|response| self.response(response)),
            }
        }
        Err(last.unwrap_or_else(|| Error::Unreachable {
            host: self.name(),
            reason: "it has no endpoint".into(),
        }))
    }

    async fn authorized(
        &self,
        method: &Method,
        (index, endpoint): (usize, &Url),
        repository: &str,
        url: Url,
        mut headers: HeaderMap,
    ) -> Result<reqwest::Response, Error> {
        let scope = format!("repository:{repository}:pull");
        let token = self.tokens.known(index, &scope).await;
        if let Some(token) = &token {
            headers.insert(AUTHORIZATION, bearer(token));
        }
        let mut response = self
            .follow(method, endpoint, url.clone(), headers.clone())
            .await?;
        if response.status().as_u16() == 401
            && let Some(challenge) = challenge(response.headers())
        {
            let token = self
                .token((index, endpoint), &scope, &challenge, token.as_deref())
                .await?;
            headers.insert(AUTHORIZATION, bearer(&token));
            response = self.follow(method, endpoint, url, headers).await?;
        }
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            status => Err(self.status_error(status)),
        }
    }

    /// One request and the head of its answer. An idle connection that the upstream closes at the very moment it is
    /// used looks like a failure: such a request is sent once more.
    pub(super) async fn exchange(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, Error> {
        match self.attempt(method, url, headers.clone()).await {
            Err(Failed {
                repeatable: true, ..
            }) => self.attempt(method, url, headers).await,
            other => other,
        }
        .map_err(|failed| Error::Unreachable {
            host: self.name(),
            reason: failed.reason,
        })
    }

    async fn attempt(
        &self,
        method: &Method,
        url: &Url,
        headers: HeaderMap,
    ) -> Result<reqwest::Response, Failed> {
        let request = self
            .client
            .request(method.clone(), url.clone())
            .headers(headers)
            .send();
        let count = |code: &str| {
            let labels = [&*self.name, code];
            self.metrics
                .upstream_requests
                .with_label_values(&labels)
                .inc();
        };
        match tokio::time::timeout(self.timeouts.header, request).await {
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

    pub(super) fn status_error(&self, status: u16) -> Error {
        let host = self.name();
        match status {
            401 | 403 | 404 => Error::NotFound { host, status },
            _ => Error::Status { host, status },
        }
    }
}

/// A request without an answer.
struct Failed {
    repeatable: bool,
    reason: Arc<str>,
}

fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(Challenge::parse)
}

fn bearer(token: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer invalid"));
    value.set_sensitive(true);
    value
}
