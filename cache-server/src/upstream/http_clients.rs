//! HTTP clients: who is trusted, and how connections are made.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crds::policy;
use reqwest::Certificate;

use super::{Timeouts, reason};

const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));

/// Makes HTTP clients; upstreams with the same certificate authorities share one, and its connections.
#[derive(Debug, Default)]
pub struct HttpClients {
    by_authorities: Mutex<HashMap<Option<Vec<u8>>, reqwest::Client>>,
}

impl HttpClients {
    /// The client that trusts the authorities in the PEM text, or the system's.
    pub(super) fn get(
        &self,
        authorities: Option<&[u8]>,
        timeouts: Timeouts,
    ) -> Result<reqwest::Client, Arc<str>> {
        let mut clients = self
            .by_authorities
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&authorities.map(<[u8]>::to_vec)) {
            return Ok(client.clone());
        }
        let client = match authorities {
            Some(pem) => {
                let certificates = Certificate::from_pem_bundle(pem).map_err(reason)?;
                if certificates.is_empty() {
                    return Err("its CA file has no certificate".into());
                }
                builder(timeouts).tls_certs_only(certificates).build()
            }
            None => builder(timeouts).build().or_else(|error| {
                // Plain http must work in an image without ca-certificates.
                tracing::warn!(%error, "failed to load the system's certificate authorities; no upstream with TLS will be trusted");
                builder(timeouts).tls_certs_only([]).build()
            }),
        }
        .map_err(reason)?;
        // Replaced certificate authorities would pile up otherwise.
        if clients.len() > policy::MAXIMUM_UPSTREAMS {
            clients.clear();
        }
        clients.insert(authorities.map(<[u8]>::to_vec), client.clone());
        Ok(client)
    }
}

// HTTP/1.1 only: each transfer has a connection of its own, and its window.
fn builder(timeouts: Timeouts) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(USER_AGENT)
        .connect_timeout(timeouts.connect)
        .pool_max_idle_per_host(16)
        .tcp_nodelay(true)
}
