//! One upstream: how it is set up, and what can be asked of it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crds::policy;
use crds::values::RegistryHost;
use prometheus::IntCounter;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Url};

use super::authorize::{Shown, Target};
use super::credentials::Credentials;
use super::files::Files;
use super::health::Health;
use super::http_clients::HttpClients;
use super::identity::{Provider, Session, Setting, Surroundings, Wire};
use super::limits::Limits;
use super::request::Question;
use super::token::Tokens;
use super::trust::Reach;
use super::{Error, Response, Timeouts};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::oci::{Digest, Reference, Repository, media_type};

/// One place where the upstream's API is.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) index: usize,
    /// For messages and metrics.
    pub(super) name: String,
    pub(super) url: Url,
    pub(super) health: Mutex<Health>,
    /// Whether it has asked for credentials of the scheme Basic: then they are sent at once.
    pub(super) wants_basic: AtomicBool,
}

/// A registry to pull from.
#[derive(Debug)]
pub struct Upstream {
    configuration: policy::Upstream,
    files: Files,
    name: Arc<str>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) auth_realms: Vec<Url>,
    pub(super) credentials: Credentials,
    pub(super) client: reqwest::Client,
    /// For what is not named: it connects to public addresses only.
    pub(super) outward_client: reqwest::Client,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) tokens: Tokens,
    pub(super) received: IntCounter,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
}

/// What all upstreams have in common.
#[derive(Debug)]
pub struct Environment {
    pub timeouts: Timeouts,
    pub clients: HttpClients,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub surroundings: Surroundings,
}

impl Upstream {
    pub fn new(
        configuration: policy::Upstream,
        files: Files,
        environment: &Environment,
    ) -> Result<Self, Error> {
        let name: Arc<str> = configuration.host.as_str().into();
        let setup = |reason: Arc<str>| Error::Setup {
            host: name.clone(),
            reason,
        };
        let metrics = environment.metrics.clone();
        let usual = environment.timeouts;
        let timeouts = configuration
            .header_timeout
            .map_or(usual, |time| usual.with_header(time.into()));
        let url = |endpoint: &crds::values::Endpoint| {
            Url::parse(&endpoint.to_string()).map_err(|error| setup(error.to_string().into()))
        };
        let endpoints = configuration
            .effective_endpoints()
            .iter()
            .enumerate()
            .map(|(index, endpoint)| {
                Ok(Endpoint {
                    index,
                    name: endpoint.to_string(),
                    url: url(endpoint)?,
                    health: Mutex::default(),
                    wants_basic: AtomicBool::new(false),
                })
            })
            .collect::<Result<_, _>>()?;
        let auth_realms = configuration.auth_realms.iter().map(url);
        let auth_realms = auth_realms.collect::<Result<_, _>>()?;
        let client = |reach| {
            environment
                .clients
                .get(&configuration, &files, reach, timeouts)
                .map_err(setup)
        };
        let (client, outward_client) = (client(Reach::Named)?, client(Reach::Outward)?);
        let begin = |identity: &policy::Identity| {
            let setting = Setting {
                upstream: &configuration,
                files: &files,
                surroundings: &environment.surroundings,
            };
            let proxy = configuration.proxy.as_ref();
            let client = |proxy| environment.clients.plain(proxy, timeouts);
            let wire = Wire {
                outside: client(proxy).map_err(|reason| reason.to_string())?,
                inside: client(None).map_err(|reason| reason.to_string())?,
                timeout: timeouts.header,
            };
            Ok(Session::new(
                name.clone(),
                Provider::new(identity, setting)?,
                wire,
                environment.clock.clone(),
                metrics.clone(),
            ))
        };
        let credentials = Credentials::read(&configuration, &files, begin)
            .map_err(|reason| setup(reason.into()))?;
        Ok(Self {
            endpoints,
            auth_realms,
            credentials,
            client,
            outward_client,
            limits: Limits::new(configuration.limits),
            timeouts,
            tokens: Tokens::default(),
            received: metrics.upstream_bytes.with_label_values(&[&name]),
            metrics,
            clock: environment.clock.clone(),
            name,
            files,
            configuration,
        })
    }

    /// How long clients wait for a manifest of it.
    pub fn patience(&self) -> Duration {
        self.timeouts.manifest
    }

    /// Whether a client made from these would be this one.
    pub fn is_made_from(&self, configuration: &policy::Upstream, files: &Files) -> bool {
        self.configuration == *configuration && self.files == *files
    }

    /// Shows itself in the metrics.
    pub fn show(&self) {
        for endpoint in &self.endpoints {
            self.show_breaker(endpoint, endpoint.health().is_open());
        }
    }

    /// Takes itself out of the metrics.
    pub fn hide(&self) {
        for endpoint in &self.endpoints {
            let labels = [&*self.name, &endpoint.name];
            // Fails if it was never shown, which is as good.
            let _ = self
                .metrics
                .upstream_breaker_open
                .remove_label_values(&labels);
        }
        for gauge in [
            &self.metrics.upstream_rate_limit,
            &self.metrics.upstream_rate_limit_remaining,
        ] {
            let _ = gauge.remove_label_values(&[&*self.name]);
        }
    }

    pub fn host(&self) -> &RegistryHost {
        &self.configuration.host
    }

    pub(super) fn redirect_hosts(&self) -> &[RegistryHost] {
        &self.configuration.redirect_hosts
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
        self.ask(method, repository, path, headers).await
    }

    pub async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Response, Error> {
        let path = format!("blobs/{digest}");
        self.ask(Method::HEAD, repository, path, HeaderMap::new())
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
        self.ask(Method::GET, repository, path, headers).await
    }

    /// Tags or referrers: what stands behind the repository's name, and the query.
    pub async fn get_list(
        &self,
        repository: &Repository,
        path: &str,
        query: Option<&str>,
    ) -> Result<Response, Error> {
        self.request(Question {
            method: Method::GET,
            repository,
            path: path.to_owned(),
            query,
            headers: HeaderMap::new(),
        })
        .await
    }

    async fn ask(
        &self,
        method: Method,
        repository: &Repository,
        path: String,
        headers: HeaderMap,
    ) -> Result<Response, Error> {
        self.request(Question {
            method,
            repository,
            path,
            query: None,
            headers,
        })
        .await
    }

    /// What a repository is called there, and who asks for it.
    pub(super) async fn target(&self, repository: &Repository) -> Result<Target<'_>, Error> {
        let asked = repository.to_string();
        let credential = self.credentials.for_repository(&asked);
        let name = match &self.configuration.repository_prefix {
            Some(prefix) => format!("{prefix}/{asked}"),
            None => asked,
        };
        let shown = match credential {
            Some(credential) => Some(Shown {
                credential,
                secret: credential.secret().await?,
            }),
            None => None,
        };
        Ok(Target { name, shown })
    }

    pub(super) fn status_error(&self, status: u16) -> Error {
        let host = self.name();
        match status {
            401 | 403 | 404 => Error::NotFound { host, status },
            _ => Error::Status { host, status },
        }
    }
}
