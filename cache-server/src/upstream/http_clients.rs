//! HTTP clients: who is trusted, who is shown, and how connections are made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crds::policy;
use reqwest::{Certificate, Identity, Proxy};

use super::files::Files;
use super::inward::OutwardResolver;
use super::trust::Reach;
use super::{Timeouts, reason};

const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));

/// Makes HTTP clients; upstreams with the same profile share one, and its connections.
#[derive(Debug, Default)]
pub struct HttpClients {
    by_profile: Mutex<HashMap<Profile, reqwest::Client>>,
}

/// What makes two clients different.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Profile {
    /// PEM text; absent: the system's.
    authorities: Option<Vec<u8>>,
    /// PEM text of certificate and key.
    identity: Option<Vec<u8>>,
    proxy: Option<String>,
    is_outward: bool,
}

// Not derived: a key must not be able to reach a log.
impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile")
            .field("proxy", &self.proxy)
            .field("is_outward", &self.is_outward)
            .finish_non_exhaustive()
    }
}

impl HttpClients {
    /// The client for an upstream's own hosts, or for those that its redirects lead to.
    pub(super) fn get(
        &self,
        upstream: &policy::Upstream,
        files: &Files,
        reach: Reach,
        timeouts: Timeouts,
    ) -> Result<reqwest::Client, Arc<str>> {
        let content = |path| files.get(path).map(<[u8]>::to_vec);
        let is_outward = reach == Reach::Outward;
        let certificate = upstream.client_certificate.as_ref().filter(|_| !is_outward);
        let profile = Profile {
            authorities: upstream.ca_file.as_deref().and_then(content),
            identity: certificate.and_then(|certificate| {
                let mut pem = content(&certificate.certificate_file)?;
                pem.push(b'\n');
                pem.extend(content(&certificate.key_file)?);
                Some(pem)
            }),
            proxy: upstream.proxy.as_ref().map(ToString::to_string),
            is_outward,
        };
        self.of_profile(profile, timeouts)
    }

    /// A client that trusts what the system trusts and shows nothing.
    pub(super) fn plain(
        &self,
        proxy: Option<&crds::values::Endpoint>,
        timeouts: Timeouts,
    ) -> Result<reqwest::Client, Arc<str>> {
        let profile = Profile {
            authorities: None,
            identity: None,
            proxy: proxy.map(ToString::to_string),
            is_outward: false,
        };
        self.of_profile(profile, timeouts)
    }

    fn of_profile(
        &self,
        profile: Profile,
        timeouts: Timeouts,
    ) -> Result<reqwest::Client, Arc<str>> {
        let mut clients = self
            .by_profile
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&profile) {
            return Ok(client.clone());
        }
        let client = profile.client(timeouts)?;
        // Replaced certificate authorities would pile up otherwise.
        if clients.len() > 2 * policy::MAXIMUM_UPSTREAMS {
            clients.clear();
        }
        clients.insert(profile, client.clone());
        Ok(client)
    }
}

impl Profile {
    fn client(&self, timeouts: Timeouts) -> Result<reqwest::Client, Arc<str>> {
        let Some(pem) = &self.authorities else {
            return self.builder(timeouts)?.build().or_else(|error| {
                // Plain http must work in an image without ca-certificates.
                tracing::warn!(%error, "failed to load the system's certificate authorities; no upstream with TLS will be trusted");
                self.builder(timeouts)?.tls_certs_only([]).build().map_err(reason)
            });
        };
        let certificates = Certificate::from_pem_bundle(pem).map_err(reason)?;
        if certificates.is_empty() {
            return Err("its CA file has no certificate".into());
        }
        self.builder(timeouts)?
            .tls_certs_only(certificates)
            .build()
            .map_err(reason)
    }

    // HTTP/1.1 only: each transfer has a connection of its own, and its window.
    fn builder(&self, timeouts: Timeouts) -> Result<reqwest::ClientBuilder, Arc<str>> {
        let mut builder = reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .user_agent(USER_AGENT)
            .connect_timeout(timeouts.connect)
            .pool_max_idle_per_host(16)
            .tcp_nodelay(true);
        if let Some(pem) = &self.identity {
            // The parser's message could show a piece of the key.
            let identity = Identity::from_pem(pem)
                .map_err(|_| "its client certificate or the key is not PEM")?;
            builder = builder.identity(identity);
        }
        // What the environment says of proxies counts nowhere: each upstream's configuration is the whole truth.
        builder = match (&self.proxy, self.is_outward) {
            // The proxy resolves names, and may be inside itself.
            (Some(proxy), _) => builder.proxy(Proxy::all(proxy).map_err(reason)?),
            (None, true) => builder.no_proxy().dns_resolver(OutwardResolver),
            (None, false) => builder.no_proxy(),
        };
        Ok(builder)
    }
}
