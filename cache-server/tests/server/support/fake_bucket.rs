//! A server of the S3 API on loopback, with one bucket, that fails as the test says. Signatures are not computed, only seen:
//! a real server judges them in the tests of clients.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cache_server::oci::Digest;
use crds::static_config::{ObjectStorage, ObjectStorageCredentials};
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const NAME: &str = "images";
const ACCESS_KEY: &str = "AKTEST";

type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What goes wrong.
#[derive(Clone)]
pub enum BucketFault {
    Status(u16),
    /// No answer at all.
    Hang,
    /// The connection ends after so many bytes of the body.
    Truncate(usize),
    /// The same, and the object is deleted meanwhile.
    Vanish(usize),
}

#[derive(Default)]
struct State {
    objects: Mutex<BTreeMap<String, Bytes>>,
    uploads: Mutex<BTreeMap<String, BTreeMap<u32, Bytes>>>,
    scripts: Mutex<Vec<(String, BucketFault, usize)>>,
    log: Mutex<Vec<String>>,
}

pub struct FakeBucket {
    address: SocketAddr,
    state: Arc<State>,
    server: tokio::task::JoinHandle<()>,
    keys: TempDir,
}

impl FakeBucket {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let keys = tempfile::tempdir().unwrap();
        std::fs::write(keys.path().join("id"), ACCESS_KEY).unwrap();
        std::fs::write(keys.path().join("secret"), "hidden\n").unwrap();
        let state = Arc::default();
        Self {
            address: listener.local_addr().unwrap(),
            server: tokio::spawn(serve(listener, Arc::clone(&state))),
            state,
            keys,
        }
    }

    /// How a cache reaches it.
    pub fn config(&self) -> ObjectStorage {
        ObjectStorage {
            endpoint: Some(format!("http://{}", self.address).parse().unwrap()),
            bucket: NAME.to_owned(),
            region: "us-east-1".to_owned(),
            prefix: "p".to_owned(),
            path_style: true,
            credentials: Some(ObjectStorageCredentials {
                access_key_id_file: self.keys.path().join("id"),
                secret_access_key_file: self.keys.path().join("secret"),
                session_token_file: None,
            }),
            ca_file: None,
        }
    }

    /// Refuses connections from now on, and cuts those it has.
    pub async fn stop(&self) {
        self.server.abort();
        while !self.server.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    /// Does that to the next so many requests whose `METHOD /path?query` has the text in it.
    pub fn fault(&self, matches: impl Into<String>, fault: BucketFault, times: usize) {
        let mut scripts = self.state.scripts.lock().unwrap();
        scripts.push((matches.into(), fault, times));
    }

    pub fn heal(&self) {
        self.state.scripts.lock().unwrap().clear();
    }

    /// Keys without the prefix.
    pub fn keys(&self) -> Vec<String> {
        let objects = self.state.objects.lock().unwrap();
        let keys = objects.keys().map(|key| key.strip_prefix("p/").unwrap());
        keys.map(str::to_owned).collect()
    }

    pub fn content(&self, digest: &Digest) -> Option<Bytes> {
        let objects = self.state.objects.lock().unwrap();
        objects.get(&key(digest)).cloned()
    }

    pub fn set_content(&self, digest: &Digest, content: impl Into<Bytes>) {
        let mut objects = self.state.objects.lock().unwrap();
        objects.insert(key(digest), content.into());
    }

    /// Removes what has the text in its key.
    pub fn remove(&self, text: &str) {
        let mut objects = self.state.objects.lock().unwrap();
        objects.retain(|key, _| !key.contains(text));
    }

    /// Uploads in parts that were neither completed nor taken back.
    pub fn unfinished(&self) -> usize {
        self.state.uploads.lock().unwrap().len()
    }

    /// How many requests had the text in their `METHOD /path?query`.
    pub fn count(&self, matches: &str) -> usize {
        let log = self.state.log.lock().unwrap();
        log.iter().filter(|line| line.contains(matches)).count()
    }

    pub fn forget(&self) {
        self.state.log.lock().unwrap().clear();
    }
}

impl Drop for FakeBucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn key(digest: &Digest) -> String {
    format!("p/blobs/sha256/{}/{}", &digest.hex()[..2], digest.hex())
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(answer(&state, request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            let _ = http.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(state: &State, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().replace("%3A", ":");
    let query = request.uri().query().unwrap_or_default().to_owned();
    let line = format!("{} {path}?{query}", request.method());
    state.log.lock().unwrap().push(line.clone());
    let fault = {
        let mut scripts = state.scripts.lock().unwrap();
        let script = scripts
            .iter_mut()
            .find(|(matches, _, left)| *left > 0 && line.contains(matches.as_str()));
        script.map(|(_, fault, left)| {
            *left -= 1;
            fault.clone()
        })
    };
    let header = |name| {
        let value = request.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap()).to_owned()
    };
    let signed = header("authorization");
    let expected = format!("AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/");
    if !signed.starts_with(&expected) || header("x-amz-content-sha256").is_empty() {
        return plain(401, "");
    }
    match fault {
        Some(BucketFault::Status(status)) => {
            // Who still sends would see a broken connection instead.
            let _ = request.into_body().collect().await;
            return plain(status, "<Error><Code>Fault</Code></Error>");
        }
        Some(BucketFault::Hang) => Semaphore::new(0).acquire().await.map(drop).unwrap(),
        _ => {}
    }
    let range = header("range");
    let key = path
        .strip_prefix(&format!("/{NAME}"))
        .map(|key| key.trim_start_matches('/').to_owned());
    let Some(key) = key else {
        return plain(404, "<Error><Code>NoSuchBucket</Code></Error>");
    };
    let method = request.method().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if method == Method::GET && key.is_empty() {
        return list(state, &query);
    }
    let upload = query
        .split('&')
        .find_map(|part| part.strip_prefix("uploadId="));
    match (method, upload) {
        (Method::POST, None) => {
            let mut uploads = state.uploads.lock().unwrap();
            let id = format!("u{}", fastrand::u64(..));
            uploads.insert(id.clone(), BTreeMap::new());
            plain(200, &format!("<R><UploadId>{id}</UploadId></R>"))
        }
        (Method::PUT, Some(id)) => {
            let number = query
                .split('&')
                .find_map(|part| part.strip_prefix("partNumber="));
            let mut uploads = state.uploads.lock().unwrap();
            let parts = uploads.get_mut(id).unwrap();
            parts.insert(number.unwrap().parse().unwrap(), body);
            plain(200, "")
        }
        (Method::POST, Some(id)) => {
            let parts = state.uploads.lock().unwrap().remove(id).unwrap();
            let whole: Vec<u8> = parts.into_values().flatten().collect();
            state.objects.lock().unwrap().insert(key, whole.into());
            plain(200, "<R><ETag>\"e\"</ETag></R>")
        }
        (Method::DELETE, Some(id)) => {
            state.uploads.lock().unwrap().remove(id);
            plain(204, "")
        }
        (Method::PUT, None) => {
            state.objects.lock().unwrap().insert(key, body);
            plain(200, "")
        }
        (Method::DELETE, None) => {
            state.objects.lock().unwrap().remove(&key);
            plain(204, "")
        }
        (method, None) => {
            let content = {
                let mut objects = state.objects.lock().unwrap();
                match fault {
                    Some(BucketFault::Vanish(_)) => objects.remove(&key),
                    _ => objects.get(&key).cloned(),
                }
            };
            match content {
                Some(content) => object(&content, &range, fault.as_ref(), method == Method::HEAD),
                None => plain(404, "<Error><Code>NoSuchKey</Code></Error>"),
            }
        }
        (_, Some(_)) => plain(400, ""),
    }
}

fn object(content: &Bytes, range: &str, fault: Option<&BucketFault>, head: bool) -> Response<Body> {
    let total = content.len();
    let asked = range
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
        .map(|(first, last)| {
            let first: usize = first.parse().unwrap();
            first
                ..last
                    .parse::<usize>()
                    .map_or(total, |last| (last + 1).min(total))
        });
    let part = asked.clone().unwrap_or(0..total);
    let mut builder = Response::builder()
        .status(if asked.is_some() { 206 } else { 200 })
        .header("content-length", part.len())
        .header("last-modified", "Wed, 25 Nov 2026 00:00:00 GMT")
        .header("etag", format!("\"{}\"", super::digest(content).hex()));
    if asked.is_some() {
        let text = format!("bytes {}-{}/{total}", part.start, part.end - 1);
        builder = builder.header("content-range", text);
    }
    if head {
        return builder.body(full(Bytes::new())).unwrap();
    }
    let body = content.slice(part);
    let body = match fault {
        Some(BucketFault::Truncate(count) | BucketFault::Vanish(count)) => {
            // In pieces with a pause for each, so that what comes before the end is sent.
            let front = body.slice(..(*count).min(body.len()));
            let pieces: Vec<Bytes> = front.chunks(8192).map(Bytes::copy_from_slice).collect();
            let sent = futures::stream::iter(pieces).then(|piece| async {
                tokio::task::yield_now().await;
                Ok(Frame::data(piece))
            });
            let end = futures::stream::iter([Err(std::io::Error::other("on purpose"))]);
            StreamBody::new(sent.chain(end)).boxed_unsync()
        }
        _ => full(body),
    };
    builder.body(body).unwrap()
}

/// Three at once, so that lists have pages.
fn list(state: &State, query: &str) -> Response<Body> {
    let value = |name: &str| {
        let part = query.split('&').find_map(|part| part.strip_prefix(name));
        part.unwrap_or_default()
            .replace("%2F", "/")
            .replace("%3A", ":")
    };
    let (prefix, after) = (value("prefix="), value("continuation-token="));
    let objects = state.objects.lock().unwrap();
    let mut found = objects
        .iter()
        .filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let mut text = "<R>".to_owned();
    let mut last = None;
    for (key, content) in found.by_ref().take(3) {
        let size = content.len();
        write!(text, "<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-25T00:00:00.000Z</LastModified></Contents>").unwrap();
        last = Some(key);
    }
    if let Some(last) = last.filter(|_| found.next().is_some()) {
        write!(
            text,
            "<NextContinuationToken>{last}</NextContinuationToken>"
        )
        .unwrap();
    }
    plain(200, &format!("{text}</R>"))
}

fn plain(status: u16, text: &str) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("etag", "\"e\"")
        .body(full(Bytes::from(text.to_owned())))
        .unwrap()
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}
