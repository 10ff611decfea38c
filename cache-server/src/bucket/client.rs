//! The client of the API: whom it trusts, how long it waits, how often it tries.

use std::sync::Arc;
use std::time::Duration;

use crds::static_config::ObjectStorage;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{ClientOptions, HttpClient, HttpConnector};
use object_store::{BackoffConfig, RetryConfig};
use reqwest::Certificate;

use super::Times;
use super::credentials::{Files, Nobody};
use super::trust::Authorities;

const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));
const CONNECT: Duration = Duration::from_secs(5);
/// Tries after the first one: 503 `SlowDown`, a broken connection, the rest of a broken body.
const RETRIES: usize = 3;

pub(super) fn client(
    config: &ObjectStorage,
    said: &dyn Fn(&str) -> Option<String>,
    times: Times,
) -> Result<AmazonS3, String> {
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&config.bucket)
        .with_region(&config.region)
        .with_virtual_hosted_style_request(!config.path_style)
        .with_disable_bulk_delete(true)
        .with_http_connector(Connector(http_client(config, times)?))
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: Duration::from_mins(1),
        });
    if let Some(endpoint) = &config.endpoint {
        let scheme = if endpoint.is_secure() {
            "https"
        } else {
            "http"
        };
        let authority = endpoint.authority();
        builder = builder.with_endpoint(if config.path_style {
            format!("{scheme}://{authority}")
        } else {
            format!("{scheme}://{}.{authority}", config.bucket)
        });
    }
    if let Some(files) = &config.credentials {
        return build(builder.with_credentials(Arc::new(Files::new(files.clone()))));
    }
    let role = (said("AWS_ROLE_ARN"), said("AWS_WEB_IDENTITY_TOKEN_FILE"));
    let agent = (
        said("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        said("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    );
    build(match (role, agent) {
        ((Some(role), Some(token_file)), _) => builder
            .with_config(AmazonS3ConfigKey::RoleArn, role)
            .with_config(AmazonS3ConfigKey::RoleSessionName, "larder")
            .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file),
        (_, (Some(url), Some(token_file))) => builder
            .with_config(AmazonS3ConfigKey::ContainerCredentialsFullUri, url)
            .with_config(
                AmazonS3ConfigKey::ContainerAuthorizationTokenFile,
                token_file,
            ),
        // The machine's own role is never used: it is not the cache's.
        _ => builder.with_credentials(Arc::new(Nobody)),
    })
}

fn build(builder: AmazonS3Builder) -> Result<AmazonS3, String> {
    builder.build().map_err(|error| error.to_string())
}

/// What the environment says of proxies counts nowhere, as for upstreams, and nobody is followed elsewhere.
fn http(stall: Duration) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .user_agent(USER_AGENT)
        .connect_timeout(CONNECT)
        .read_timeout(stall)
        .pool_max_idle_per_host(16)
        .tcp_nodelay(true)
}

fn trusting(certificates: Vec<Certificate>, stall: Duration) -> reqwest::Result<reqwest::Client> {
    http(stall).tls_certs_only(certificates).build()
}

fn http_client(config: &ObjectStorage, times: Times) -> Result<HttpClient, String> {
    if let Some(path) = &config.ca_file {
        let authorities = Authorities::new(path.clone(), trusting, times.stall);
        return Ok(HttpClient::new(authorities));
    }
    let client = http(times.stall).build().or_else(|error| {
        // Plain http must work in an image without ca-certificates.
        tracing::warn!(%error, "failed to load the system's certificate authorities; no bucket with TLS will be trusted");
        trusting(Vec::new(), times.stall)
    });
    client
        .map(HttpClient::new)
        .map_err(|error| error.to_string())
}

/// Hands out the one client, for the bucket and for whoever gives keys.
#[derive(Debug)]
struct Connector(HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(self.0.clone())
    }
}
