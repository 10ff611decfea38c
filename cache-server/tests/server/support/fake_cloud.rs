//! What clouds have around a registry, on loopback: each request is kept, and answered as the test says.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `METHOD /path`
    pub line: String,
    pub headers: HeaderMap,
    /// As text, as far as it is text.
    pub body: String,
    pub bytes: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

type Script = Box<dyn FnMut(&Seen) -> (u16, String) + Send>;

pub struct FakeCloud {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Arc<Mutex<Script>>,
    server: tokio::task::JoinHandle<()>,
}

impl FakeCloud {
    pub async fn start(script: impl FnMut(&Seen) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let (kept, asked) = (seen.clone(), script.clone());
        let server = tokio::spawn(async move {
            // Dropped with this task, and the connections with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, asked) = (kept.clone(), asked.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (kept, asked) = (kept.clone(), asked.clone());
                        async move {
                            let line = format!("{} {}", request.method(), request.uri().path());
                            let headers = request.headers().clone();
                            let body = request.into_body().collect().await.unwrap().to_bytes();
                            let seen = Seen {
                                line,
                                headers,
                                body: String::from_utf8_lossy(&body).into_owned(),
                                bytes: body,
                            };
                            kept.lock().unwrap().push(seen.clone());
                            let (status, text) = (asked.lock().unwrap())(&seen);
                            let response = Response::builder().status(status);
                            Ok::<_, Infallible>(
                                response.body(Full::new(Bytes::from(text))).unwrap(),
                            )
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            endpoint,
            seen,
            script,
            server,
        }
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, script: impl FnMut(&Seen) -> (u16, String) + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Requests whose line or body has the text in it.
    pub fn count(&self, text: &str) -> usize {
        let has = |seen: &&Seen| seen.line.contains(text) || seen.body.contains(text);
        self.seen().iter().filter(has).count()
    }
}

impl Drop for FakeCloud {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Checks a request's AWS signature from what came over the wire, with nothing of what made it. The answer says what is
/// wrong.
pub fn check_signature(seen: &Seen, secret: &str, service: &str) -> Result<(), String> {
    let header = seen.header("authorization");
    let field = |name: &str| {
        let (_, rest) = header.split_once(&format!("{name}=")).unwrap_or_default();
        rest.split([',', ' ']).next().unwrap_or_default().to_owned()
    };
    let credential = field("Credential");
    let scope: Vec<&str> = credential.split('/').skip(1).collect();
    let [day, region, signed_service, "aws4_request"] = scope[..] else {
        return Err(format!("the scope is {scope:?}"));
    };
    let date = seen.header("x-amz-date");
    if signed_service != service || !date.starts_with(day) {
        return Err("the scope is another".to_owned());
    }
    let names = field("SignedHeaders");
    let signed: Vec<&str> = names.split(';').collect();
    if !signed.is_sorted() {
        return Err("the headers are not in their order".to_owned());
    }
    for name in seen.headers.keys().map(http::HeaderName::as_str) {
        let must = name == "host" || name == "content-type" || name.starts_with("x-amz-");
        if must && !signed.contains(&name) {
            return Err(format!("{name} is not signed"));
        }
    }
    let (method, path) = seen.line.split_once(' ').unwrap();
    let mut request = format!("{method}\n{path}\n\n");
    for name in &signed {
        let _ = writeln!(request, "{name}:{}", seen.header(name));
    }
    let _ = write!(request, "\n{names}\n{}", hex(&hash(seen.body.as_bytes())));
    let text = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}\n{}",
        scope.join("/"),
        hex(&hash(request.as_bytes()))
    );
    let key = format!("AWS4{secret}");
    let key = hmac(key.as_bytes(), day);
    let key = hmac(&hmac(&hmac(&key, region), service), "aws4_request");
    if hex(&hmac(&key, &text)) == field("Signature") {
        Ok(())
    } else {
        Err("the signature is another".to_owned())
    }
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// RFC 2104, for keys of a block at most.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let padded = |with: u8| -> Vec<u8> {
        let mut block = key.to_vec();
        block.resize(64, 0);
        block.iter().map(|byte| byte ^ with).collect()
    };
    let mut inner = padded(0x36);
    inner.extend(text.as_bytes());
    let mut outer = padded(0x5c);
    outer.extend(hash(&inner));
    hash(&outer)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
