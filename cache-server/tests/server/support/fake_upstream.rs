//! A registry on loopback that does what the test says, and counts.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use cache_server::oci::{Digest, media_type};

use super::digest;
use super::protection::{Protection, Verdict};
use super::tls::Issued;

/// Bytes of one piece of a gated body.
pub const PIECE: usize = 16 * 1024;

type Body = BoxBody<Bytes, std::io::Error>;

/// What goes wrong.
#[derive(Clone)]
pub enum Fault {
    Status(u16),
    /// That status, with a header.
    StatusWith(u16, &'static str, &'static str),
    /// The right answer, with more headers.
    Headers(&'static [(&'static str, &'static str)]),
    /// No answer at all.
    Hang,
    /// No answer before the test lets one piece go.
    Late(Gate),
    /// The same, and Range is ignored then.
    LateNoRange(Gate),
    /// The right length, other content.
    WrongBytes,
    /// The connection ends after so many bytes.
    Truncate(usize),
    /// The same, of an answer with that `ETag`.
    TruncateTagged(usize, &'static str),
    /// Each piece waits for the test.
    Gated(Gate),
    /// The answer does not say its length.
    NoLength,
    /// Range is ignored.
    NoRange,
    /// To another place, which gets the same path.
    Redirect(String),
    /// HEAD does not say the digest.
    NoDigest,
    /// The answer does not say what it is.
    NoType,
    /// Nothing, said to be all.
    Empty,
    /// That content instead, with more headers, as if it were right.
    Instead(Bytes, &'static [(&'static str, &'static str)]),
}

impl Fault {
    fn ignores_range(&self) -> bool {
        matches!(
            self,
            Self::NoRange | Self::LateNoRange(_) | Self::NoLength | Self::Empty
        )
    }
}

/// Lets pieces of a body go.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub fn open(&self, pieces: usize) {
        self.0.add_permits(pieces);
    }

    pub fn open_for_good(&self) {
        self.0.add_permits(1 << 20);
    }
}

/// An image of one manifest.
#[derive(Debug, Clone)]
pub struct Image {
    pub manifest: Bytes,
    pub digest: Digest,
    pub config: Digest,
    pub layers: Vec<Digest>,
}

impl Image {
    /// Where the layers are asked for.
    pub fn layer_paths(&self, repository: &str) -> Vec<String> {
        let path = |layer| format!("/v2/{repository}/blobs/{layer}");
        self.layers.iter().map(path).collect()
    }
}

struct Script {
    /// Part of `METHOD /path`.
    matches: String,
    fault: Fault,
    left: usize,
}

#[derive(Default)]
struct State {
    blobs: Mutex<HashMap<(String, String), Bytes>>,
    manifests: Mutex<HashMap<(String, String), (String, Bytes)>>,
    /// Lists by repository and subject.
    referrers: Mutex<HashMap<(String, String), Bytes>>,
    scripts: Mutex<Vec<Script>>,
    log: Mutex<Vec<(String, HeaderMap)>>,
    protection: Mutex<Protection>,
    tokens: AtomicU64,
    body_bytes: AtomicU64,
    /// Bytes of bodies, by connection.
    connections: Mutex<Vec<Arc<AtomicU64>>>,
}

pub struct FakeUpstream {
    pub address: SocketAddr,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
    secure: bool,
}

impl FakeUpstream {
    pub async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With TLS, by a certificate of an authority of its own. The second value: the authority's certificate.
    pub async fn start_tls() -> (Self, String) {
        let (acceptor, issued) = super::tls::acceptor(false);
        (Self::start_with(Some(acceptor)).await, issued.authority)
    }

    /// With TLS that wants a certificate of the client too.
    pub async fn start_mutual_tls() -> (Self, Issued) {
        let (acceptor, issued) = super::tls::acceptor(true);
        (Self::start_with(Some(acceptor)).await, issued)
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let secure = tls.is_some();
        let server = tokio::spawn(serve(listener, state.clone(), tls));
        Self {
            address,
            state,
            server,
            secure,
        }
    }

    pub fn endpoint(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Refuses connections from now on, and cuts those it has.
    pub async fn stop(&self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    pub fn blob(&self, repository: &str, content: impl Into<Bytes>) -> Digest {
        let content = content.into();
        let digest = digest(&content);
        self.blob_named(repository, &digest, content);
        digest
    }

    /// A blob under that name.
    pub fn blob_named(&self, repository: &str, name: &Digest, content: impl Into<Bytes>) {
        self.state
            .blobs
            .lock()
            .unwrap()
            .insert((repository.into(), name.to_string()), content.into());
    }

    pub fn manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        content: impl Into<Bytes>,
    ) -> Digest {
        let content = content.into();
        let digest = digest(&content);
        let mut manifests = self.state.manifests.lock().unwrap();
        for reference in [tag.to_owned(), digest.to_string()] {
            manifests.insert(
                (repository.into(), reference),
                (media_type.into(), content.clone()),
            );
        }
        digest
    }

    /// An image whose config and layers are served too.
    pub fn image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Image {
        let config_content = Bytes::from(format!(r#"{{"for":"{repository}:{tag}"}}"#));
        let config_size = config_content.len();
        let config = self.blob(repository, config_content);
        let descriptors: Vec<_> = layers
            .iter()
            .map(|layer| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": self.blob(repository, layer.clone()), "size": layer.len()}))
            .collect();
        let manifest = Bytes::from(
            serde_json::json!({
                "schemaVersion": 2,
                "mediaType": media_type::OCI_MANIFEST,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
                "layers": descriptors,
            })
            .to_string(),
        );
        Image {
            digest: self.manifest(repository, tag, media_type::OCI_MANIFEST, manifest.clone()),
            manifest,
            config,
            layers: layers.iter().map(|layer| digest(layer)).collect(),
        }
    }

    /// Has the referrers API, and answers so for that subject.
    pub fn referrers(&self, repository: &str, subject: &Digest, list: impl Into<Bytes>) {
        self.state
            .referrers
            .lock()
            .unwrap()
            .insert((repository.into(), subject.to_string()), list.into());
    }

    /// Does that to the next so many requests whose `METHOD /path` has the text in it.
    pub fn fault(&self, matches: impl Into<String>, fault: Fault, times: usize) {
        self.state.scripts.lock().unwrap().push(Script {
            matches: matches.into(),
            fault,
            left: times,
        });
    }

    pub fn heal(&self) {
        self.state.scripts.lock().unwrap().clear();
    }

    /// Wants a token from that realm, or from `/token` here.
    pub fn require_token(&self, realm: Option<&str>) {
        let own = format!("{}/token", self.endpoint());
        self.protect(|protection| protection.realm = Some(realm.unwrap_or(&own).to_owned()));
    }

    pub fn protect(&self, change: impl FnOnce(&mut Protection)) {
        change(&mut self.state.protection.lock().unwrap());
    }

    pub fn requests(&self) -> Vec<String> {
        self.state
            .log
            .lock()
            .unwrap()
            .iter()
            .map(|(line, _)| line.clone())
            .collect()
    }

    /// Headers of the requests whose line has the text in it.
    pub fn headers(&self, matches: &str) -> Vec<HeaderMap> {
        let log = self.state.log.lock().unwrap();
        log.iter()
            .filter(|(line, _)| line.contains(matches))
            .map(|(_, headers)| headers.clone())
            .collect()
    }

    pub fn count(&self, matches: &str) -> usize {
        self.headers(matches).len()
    }

    pub fn forget(&self) {
        self.state.log.lock().unwrap().clear();
    }

    /// Bytes of bodies that each connection carried, of those that carried any.
    pub fn bytes_by_connection(&self) -> Vec<u64> {
        let connections = self.state.connections.lock().unwrap();
        connections
            .iter()
            .map(|bytes| bytes.load(Ordering::SeqCst))
            .filter(|bytes| *bytes > 0)
            .collect()
    }

    pub fn body_bytes(&self) -> u64 {
        self.state.body_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for FakeUpstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>, tls: Option<TlsAcceptor>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (state, tls) = (state.clone(), tls.clone());
        let carried = Arc::new(AtomicU64::new(0));
        state.connections.lock().unwrap().push(carried.clone());
        connections.spawn(async move {
            let service = service_fn(|mut request: Request<Incoming>| {
                request.extensions_mut().insert(carried.clone());
                let state = state.clone();
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            if let Some(tls) = tls {
                if let Ok(stream) = tls.accept(stream).await {
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                }
            } else {
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

async fn answer(state: &Arc<State>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let line = format!("{} {}", request.method(), request.uri());
    state
        .log
        .lock()
        .unwrap()
        .push((line.clone(), request.headers().clone()));
    if path == "/oauth2/exchange" {
        let form = request.into_body().collect().await.unwrap().to_bytes();
        let form = String::from_utf8(form.to_vec()).unwrap();
        let answer = state.protection.lock().unwrap().exchanged(&form);
        return answer.map_or_else(|| full(401, Bytes::new()), |text| full(200, text.into()));
    }
    if path == "/token" {
        return token(state, request).await;
    }
    let fault = take_fault(state, &line);
    let verdict = {
        let protection = state.protection.lock().unwrap();
        protection.judge(&path, request.headers())
    };
    match verdict {
        Verdict::Welcome => {}
        Verdict::Hidden => return full(404, Bytes::from_static(b"{}")),
        Verdict::Challenge(challenge) => {
            let mut response = full(401, Bytes::new());
            response
                .headers_mut()
                .insert("www-authenticate", challenge.parse().unwrap());
            return response;
        }
    }
    match &fault {
        Some(Fault::Status(status)) => return full(*status, Bytes::from_static(b"{}")),
        Some(Fault::StatusWith(status, name, value)) => {
            let mut response = full(*status, Bytes::from_static(b"{}"));
            response.headers_mut().insert(*name, value.parse().unwrap());
            return response;
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Late(gate) | Fault::LateNoRange(gate)) => {
            gate.0.acquire().await.unwrap().forget();
        }
        Some(Fault::Redirect(to)) => {
            let mut response = full(307, Bytes::new());
            response.headers_mut().insert(
                "location",
                format!("{to}{path}?signature=secret").parse().unwrap(),
            );
            return response;
        }
        _ => {}
    }
    let Some((media_type, content)) = find(state, &path) else {
        return full(404, Bytes::from_static(b"{}"));
    };
    respond(state, &request, &media_type, content, fault)
}

async fn token(state: &State, request: Request<Incoming>) -> Response<Body> {
    let headers = request.headers().clone();
    let form = request.into_body().collect().await.unwrap().to_bytes();
    let form = String::from_utf8(form.to_vec()).unwrap();
    let prefix = {
        let protection = state.protection.lock().unwrap();
        protection.token_prefix(&headers, &form)
    };
    let Some(prefix) = prefix else {
        return full(401, Bytes::from_static(b"{}"));
    };
    let number = state.tokens.fetch_add(1, Ordering::SeqCst);
    let text = format!(r#"{{"token":"{prefix}{number}","expires_in":300}}"#);
    full(200, text.into())
}

fn take_fault(state: &State, line: &str) -> Option<Fault> {
    let mut scripts = state.scripts.lock().unwrap();
    let script = scripts
        .iter_mut()
        .find(|script| script.left > 0 && line.contains(&script.matches))?;
    script.left -= 1;
    Some(script.fault.clone())
}

fn find(state: &State, path: &str) -> Option<(String, Bytes)> {
    let (before, last) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
    let (repository, kind) = before.rsplit_once('/')?;
    let key = (repository.to_owned(), last.to_owned());
    match kind {
        "blobs" => {
            let blob = state.blobs.lock().unwrap().get(&key)?.clone();
            Some(("application/octet-stream".into(), blob))
        }
        "manifests" => state.manifests.lock().unwrap().get(&key).cloned(),
        "referrers" => {
            let index = state.referrers.lock().unwrap().get(&key)?.clone();
            Some((media_type::OCI_INDEX.into(), index))
        }
        "tags" => Some((
            "application/json".into(),
            Bytes::from_static(br#"{"tags":["a"]}"#),
        )),
        _ => None,
    }
}

fn respond(
    state: &Arc<State>,
    request: &Request<Incoming>,
    media_type: &str,
    content: Bytes,
    fault: Option<Fault>,
) -> Response<Body> {
    let name = digest(&content);
    let content = match fault {
        Some(Fault::Empty) => Bytes::new(),
        Some(Fault::Instead(ref other, _)) => other.clone(),
        _ => content,
    };
    let total = content.len();
    let range = request
        .headers()
        .get("range")
        .filter(|_| !fault.as_ref().is_some_and(Fault::ignores_range))
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'))
        .map(|(first, last)| match first.parse::<usize>() {
            Ok(first) => {
                first
                    ..last
                        .parse::<usize>()
                        .map_or(total, |last| total.min(last + 1))
            }
            Err(_) => total.saturating_sub(last.parse().unwrap())..total,
        });
    if range.as_ref().is_some_and(std::ops::Range::is_empty) {
        let mut response = full(416, Bytes::new());
        let value = format!("bytes */{total}").parse().unwrap();
        response.headers_mut().insert("content-range", value);
        return response;
    }
    let (status, part) = match &range {
        Some(range) => (206, content.slice(range.clone())),
        None => (200, content),
    };
    let mut response = Response::builder().status(status);
    if !matches!(fault, Some(Fault::NoType)) {
        response = response.header("content-type", media_type);
    }
    if !matches!(fault, Some(Fault::NoDigest)) {
        response = response.header("docker-content-digest", name.to_string());
    }
    if let Some(Fault::Headers(headers) | Fault::Instead(_, headers)) = &fault {
        for (name, value) in *headers {
            response = response.header(*name, *value);
        }
    }
    if let Some(Fault::TruncateTagged(_, etag)) = &fault {
        response = response.header("etag", *etag);
    }
    if let Some(range) = range {
        let value = format!("bytes {}-{}/{total}", range.start, range.end - 1);
        response = response.header("content-range", value);
    }
    if !matches!(fault, Some(Fault::NoLength)) {
        response = response.header("content-length", part.len());
    }
    if request.method() == Method::HEAD {
        return response.body(empty()).unwrap();
    }
    let carried = request.extensions().get::<Arc<AtomicU64>>().unwrap();
    response.body(body(state, carried, part, fault)).unwrap()
}

fn body(
    state: &Arc<State>,
    carried: &Arc<AtomicU64>,
    content: Bytes,
    fault: Option<Fault>,
) -> Body {
    let (content, broken) = match &fault {
        Some(Fault::WrongBytes) => {
            let mut wrong = content.to_vec();
            if let Some(byte) = wrong.get_mut(0) {
                *byte ^= 1;
            }
            (Bytes::from(wrong), false)
        }
        Some(Fault::Truncate(at) | Fault::TruncateTagged(at, _)) => (content.slice(..*at), true),
        _ => (content, false),
    };
    let gate = match fault {
        Some(Fault::Gated(gate)) => Some(gate),
        _ => None,
    };
    let pieces: Vec<Bytes> = (0..content.len())
        .step_by(PIECE)
        .map(|start| content.slice(start..content.len().min(start + PIECE)))
        .collect();
    let (state, carried) = (state.clone(), carried.clone());
    let sent = futures::stream::iter(pieces).then(move |piece| {
        let (gate, state, carried) = (gate.clone(), state.clone(), carried.clone());
        async move {
            if let Some(gate) = gate {
                gate.0.acquire().await.unwrap().forget();
            }
            carried.fetch_add(piece.len() as u64, Ordering::SeqCst);
            state
                .body_bytes
                .fetch_add(piece.len() as u64, Ordering::SeqCst);
            Ok(Frame::data(piece))
        }
    });
    let end: BoxStream<'static, Result<Frame<Bytes>, std::io::Error>> = if broken {
        // hyper writes out what it has while a body makes it wait, and drops it when a body fails.
        futures::stream::once(async {
            tokio::task::yield_now().await;
            Err(std::io::Error::other("cut on purpose"))
        })
        .boxed()
    } else {
        futures::stream::empty().boxed()
    };
    BodyExt::boxed(StreamBody::new(SyncStream(Mutex::new(
        sent.chain(end).boxed(),
    ))))
}

/// `BoxBody` wants `Sync`; the mutex is never contended.
struct SyncStream(Mutex<BoxStream<'static, Result<Frame<Bytes>, std::io::Error>>>);

impl futures::Stream for SyncStream {
    type Item = Result<Frame<Bytes>, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.lock().unwrap().poll_next_unpin(context)
    }
}

fn full(status: u16, content: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(content).map_err(|never| match never {}).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn empty() -> Body {
    http_body_util::Empty::new()
        .map_err(|never| match never {})
        .boxed()
}
