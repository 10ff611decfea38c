//! Requests to one upstream, over its endpoints in order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crds::policy;
use crds::values::RegistryHost;
use prometheus::IntCounter;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Url};

use super::authorize::Target;
use super::credentials::Credentials;
use super::files::Files;
use super::http_clients::HttpClients;
use super::token::Tokens;
use super::{Error, Response, Timeouts};
use crate::metrics::Metrics;
use crate::oci::{Digest, Reference, Repository, media_type};

/// One place where the upstream's API is.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) index: usize,
    pub(super) url: Url,
    /// Whether it has asked for credentials of the scheme Basic: then they are sent at once.
    pub(super) wants_basic: AtomicBool,
}

/// A registry to pull from.
#[derive(Debug)]
pub struct Upstream {
    configuration: policy::Upstream,
    files: Files,
    name: Arc<str>,
    endpoints: Vec<Endpoint>,
    pub(super) auth_realms: Vec<Url>,
    pub(super) credentials: Credentials,
    pub(super) client: reqwest::Client,
    pub(super) timeouts: Timeouts,
    pub(super) tokens: Tokens,
    pub(super) received: IntCounter,
    pub(super) metrics: Arc<Metrics>,
}

impl Upstream {
    pub fn new(
        configuration: policy::Upstream,
        files: Files,
        timeouts: Timeouts,
        clients: &HttpClients,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let name: Arc<str> = configuration.host.as_str().into();
        let setup = |reason: Arc<str>| Error::Setup {
            host: name.clone(),
            reason,
        };
        let urls = |endpoints: &[crds::values::Endpoint]| {
            endpoints
                .iter()
                .map(|endpoint| Url::parse(&endpoint.to_string()))
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| setup(error.to_string().into()))
        };
        let endpoints = urls(&configuration.effective_endpoints())?
            .into_iter()
            .enumerate()
            .map(|(index, url)| Endpoint {
                index,
                url,
                wants_basic: AtomicBool::new(false),
            })
            .collect();
        let authorities = configuration
            .ca_file
            .as_deref()
            .and_then(|path| files.get(path));
        let client = clients.get(authorities, timeouts).map_err(setup)?;
        let credentials =
            Credentials::read(&configuration, &files).map_err(|reason| setup(reason.into()))?;
        Ok(Self {
            endpoints,
            auth_realms: urls(&configuration.auth_realms)?,
            credentials,
            client,
            timeouts,
            tokens: Tokens::default(),
            received: metrics.upstream_bytes.with_label_values(&[&name]),
            metrics,
            name,
            files,
            configuration,
        })
    }

    /// Whether a client made from these would be this one.
    pub fn is_made_from(&self, configuration: &policy::Upstream, files: &Files) -> bool {
        self.configuration == *configuration && self.files == *files
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
        let target = self.target(repository);
        let mut last = None;
        for endpoint in &self.endpoints {
            let mut url = endpoint.url.clone();
            url.set_path(&format!("/v2/{}/{path}", target.name));
            url.set_query(query);
            match self
                .authorized(method, endpoint, &target, url, headers.clone())
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

    /// What a repository is called there, and who asks for it.
    fn target(&self, repository: &Repository) -> Target<'_> {
        let asked = repository.to_string();
        let credential = self.credentials.for_repository(&asked);
        let name = match &self.configuration.repository_prefix {
            Some(prefix) => format!("{prefix}/{asked}"),
            None => asked,
        };
        Target { name, credential }
    }

    pub(super) fn status_error(&self, status: u16) -> Error {
        let host = self.name();
        match status {
            401 | 403 | 404 => Error::NotFound { host, status },
            _ => Error::Status { host, status },
        }
    }
}
