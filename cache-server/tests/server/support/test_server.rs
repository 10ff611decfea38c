//! A running server with a store and a configuration of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use cache_server::app::{App, Options};
use cache_server::clock::Clock;
use cache_server::config::Location;
use cache_server::oci::Digest;
use crds::static_config::StaticConfig;
use http::Method;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Authority, Download, FakeUpstream, HOST, Pair, Reply};

/// Seconds since 1970 at which the tests' clocks begin.
const START: i64 = 1_800_000_000;

/// How a server is to be.
pub struct Builder {
    upstreams: Vec<(String, Vec<String>)>,
    tail: String,
    policy: Option<String>,
    directory: Option<Arc<TempDir>>,
    drain_seconds: u64,
    authority: Option<Arc<Authority>>,
    mutual: bool,
    first_version: bool,
    tune: Box<dyn FnOnce(&mut Options) + Send>,
}

pub struct TestServer {
    app: App,
    /// `store/` and `config/`. Given on to the next server of a restart.
    pub directory: Arc<TempDir>,
    clock: Arc<AtomicI64>,
    shutdown: Option<oneshot::Sender<()>>,
    client: reqwest::Client,
    /// Of the certificate that clients see, if the data port speaks TLS.
    pub authority: Option<Arc<Authority>>,
}

impl Builder {
    pub fn upstream(mut self, host: &str, upstream: &FakeUpstream) -> Self {
        self.upstreams
            .push((host.into(), vec![upstream.endpoint()]));
        self
    }

    pub fn endpoints(mut self, host: &str, endpoints: &[String]) -> Self {
        self.upstreams.push((host.into(), endpoints.to_vec()));
        self
    }

    /// More lines of the policy.
    pub fn tail(mut self, text: &str) -> Self {
        text.clone_into(&mut self.tail);
        self
    }

    /// The whole text of the policy file, instead.
    pub fn policy(mut self, text: &str) -> Self {
        self.policy = Some(text.to_owned());
        self
    }

    /// Goes on with the store and configuration of an earlier server.
    pub fn directory(mut self, directory: &Arc<TempDir>) -> Self {
        self.directory = Some(directory.clone());
        self
    }

    pub fn drain_seconds(mut self, seconds: u64) -> Self {
        self.drain_seconds = seconds;
        self
    }

    /// The data port speaks TLS, with files in `tls/`. The client speaks HTTP/2.
    pub fn tls(mut self) -> Self {
        self.authority = Some(Arc::new(Authority::new()));
        self
    }

    /// TLS that asks clients for certificates, which the same authority makes.
    pub fn mutual_tls(mut self) -> Self {
        self.mutual = true;
        self.tls()
    }

    /// The client speaks HTTP/1.1 over TLS too.
    pub fn first_version(mut self) -> Self {
        self.first_version = true;
        self
    }

    pub fn tune(mut self, tune: impl FnOnce(&mut Options) + Send + 'static) -> Self {
        self.tune = Box::new(tune);
        self
    }

    fn policy_text(&self) -> Option<String> {
        if self.policy.is_some() {
            return self.policy.clone();
        }
        (!self.upstreams.is_empty()).then(|| policy(&self.upstreams, &self.tail))
    }

    pub async fn start(self) -> TestServer {
        // Fails in all tests but the first of a process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let policy = self.policy_text();
        let directory = self
            .directory
            .unwrap_or_else(|| Arc::new(tempfile::tempdir().unwrap()));
        let config = directory.path().join("config");
        std::fs::create_dir_all(&config).unwrap();
        if let Some(text) = policy {
            std::fs::write(config.join("policy.yaml"), text).unwrap();
        }
        let clock = Arc::new(AtomicI64::new(START * 1000));
        let mut options = Options::new(
            StaticConfig {
                data_listen: "127.0.0.1:0".parse().unwrap(),
                admin_listen: "127.0.0.1:0".parse().unwrap(),
                store: directory.path().join("store"),
                drain_timeout: crds::values::Duration::from_secs(self.drain_seconds),
                ..StaticConfig::default()
            },
            Location::Directory(config),
        );
        options.clock = Clock::Manual(clock.clone());
        if let Some(authority) = &self.authority {
            let tls = authority.write(&directory.path().join("tls"), self.mutual);
            options.static_config.tls = Some(tls);
        }
        let client = client(self.authority.as_deref(), None, self.first_version);
        (self.tune)(&mut options);
        let (shutdown, told) = oneshot::channel();
        let app = App::start(options, async {
            let _ = told.await;
        })
        .await
        .unwrap();
        TestServer {
            app,
            directory,
            clock,
            shutdown: Some(shutdown),
            client,
            authority: self.authority,
        }
    }
}

/// The text of a policy; the first upstream is the default one.
pub fn policy(upstreams: &[(String, Vec<String>)], tail: &str) -> String {
    use std::fmt::Write as _;
    let mut text = "upstreams:\n".to_owned();
    for (host, endpoints) in upstreams {
        let _ = writeln!(text, "- host: {host}\n  endpoints: {endpoints:?}");
    }
    let _ = writeln!(text, "defaultUpstream: {}\n{tail}", upstreams[0].0);
    text
}

fn client(
    authority: Option<&Authority>,
    identity: Option<&Pair>,
    first_version: bool,
) -> reqwest::Client {
    let roots = authority
        .map(|authority| reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap());
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only(roots);
    if first_version {
        builder = builder.http1_only();
    }
    if let Some(pair) = identity {
        let pem = format!("{}{}", pair.key, pair.certificate);
        builder = builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}

impl TestServer {
    pub fn builder() -> Builder {
        Builder {
            upstreams: Vec::new(),
            tail: String::new(),
            policy: None,
            directory: None,
            drain_seconds: 20,
            authority: None,
            mutual: false,
            first_version: false,
            tune: Box::new(|_| {}),
        }
    }

    /// A cache of one upstream.
    pub async fn of(upstream: &FakeUpstream) -> Self {
        Self::builder().upstream(HOST, upstream).start().await
    }

    /// A cache of one upstream, over TLS.
    pub async fn secure(upstream: &FakeUpstream) -> Self {
        let builder = Self::builder().upstream(HOST, upstream);
        builder.tls().start().await
    }

    /// A cache of one upstream with more policy, which looks after its store all the time.
    pub async fn attentive(upstream: &FakeUpstream, tail: &str) -> Self {
        Self::builder()
            .upstream(HOST, upstream)
            .tail(tail)
            .tune(|options| options.patience.upkeep = Duration::from_millis(20))
            .start()
            .await
    }

    pub fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    pub fn data_address(&self) -> std::net::SocketAddr {
        self.app.data_address
    }

    /// Scheme and address of the data port.
    pub fn data_url(&self) -> String {
        let scheme = self.authority.as_ref().map_or("http", |_| "https");
        format!("{scheme}://{}", self.app.data_address)
    }

    pub fn tls_address(&self) -> Option<std::net::SocketAddr> {
        self.app.tls_address
    }

    /// Another client, with connections of its own and perhaps a certificate.
    pub fn other_client(&self, identity: Option<&Pair>) -> reqwest::Client {
        client(self.authority.as_deref(), identity, false)
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.app.admin_address)
    }

    pub fn advance(&self, duration: Duration) {
        let milliseconds = i64::try_from(duration.as_millis()).unwrap();
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }

    /// Sets the clock back, as nothing but a broken one does.
    pub fn rewind(&self, duration: Duration) {
        let milliseconds = i64::try_from(duration.as_millis()).unwrap();
        self.clock.fetch_sub(milliseconds, Ordering::SeqCst);
    }

    pub async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Download {
        let mut request = self
            .client
            .request(method, format!("{}{path}", self.data_url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Download::new(request.send().await)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(Method::GET, path, &[]).await.rest().await
    }

    pub async fn head(&self, path: &str) -> Reply {
        self.send(Method::HEAD, path, &[]).await.rest().await
    }

    pub async fn get_range(&self, path: &str, range: &str) -> Reply {
        let headers = [("range", range)];
        self.send(Method::GET, path, &headers).await.rest().await
    }

    pub async fn admin(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.app.admin_address);
        let response = self.client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub async fn configz(&self) -> serde_json::Value {
        serde_json::from_str(&self.admin("/configz").await.1).unwrap()
    }

    /// The value of one line of the metrics page; 0 if it is not there.
    pub async fn metric(&self, line: &str) -> u64 {
        let (_, page) = self.admin("/metrics").await;
        page.lines()
            .find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0)
    }

    pub fn begin_drain(&mut self) {
        let _ = self.shutdown.take().unwrap().send(());
    }

    pub async fn finished(self) {
        self.app.finished().await;
    }

    /// Ends, and gives on the directory.
    pub async fn stop(mut self) -> Arc<TempDir> {
        self.begin_drain();
        let directory = self.directory.clone();
        self.finished().await;
        directory
    }

    pub fn has_blob(&self, digest: &Digest) -> bool {
        blob_path(&self.store(), digest).exists()
    }

    /// Waits until what was fetched is durable and in its place: a client has the whole earlier.
    pub async fn settled(&self) {
        super::eventually("no fill runs", || async {
            self.metric("larder_fills_running").await == 0
        })
        .await;
    }

    pub fn temporary_files(&self) -> usize {
        std::fs::read_dir(self.store().join("tmp")).unwrap().count()
    }
}

pub fn blob_path(store: &Path, digest: &Digest) -> PathBuf {
    store
        .join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex())
}
