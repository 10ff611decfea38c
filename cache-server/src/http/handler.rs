//! From one request to one response: parse, ask the cache, translate.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, ETAG, HeaderName, IF_NONE_MATCH, IF_RANGE, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tracing::Instrument as _;

use super::access::Access;
use super::access_log::{Observed, Record};
use super::body::Body;
use super::buffers::Buffers;
use super::client::{Client, Running};
use super::error::{Asked, Failure};
use super::range;
use super::respond::Head;
use super::route::{self, Name, RegistryRequest};
use super::tally::Tally;
use crate::cache::answer::{Answer, Content};
use crate::cache::blob::BlobRequest;
use crate::cache::list::ListRequest;
use crate::cache::manifest::ManifestRequest;
use crate::cache::referrers::ReferrersRequest;
use crate::cache::{self, ByteRange, Cache, CacheOutcome};
use crate::metrics::Metrics;

/// Bytes of path and query. The longest honest one has a name, a digest and a namespace of 255 bytes each at most.
const LONGEST_URI: usize = 8 * 1024;
/// Bytes of all headers. Tokens are the largest of them.
pub const LARGEST_HEAD: usize = 32 * 1024;

/// Answers requests. One for all connections.
#[derive(Debug)]
pub struct Handler {
    pub cache: Cache,
    pub access: Arc<Access>,
    pub metrics: Arc<Metrics>,
    pub tally: Arc<Tally>,
    pub access_log: bool,
    pub buffers: Buffers,
    /// For connections that get copies of files: each may hold a buffer for as long as its client likes.
    pub small_buffers: Buffers,
}

/// The head and what follows it.
struct Reply {
    head: Head,
    content: Content,
    length: Option<u64>,
    outcome: CacheOutcome,
}

impl Handler {
    pub async fn handle<B: http_body::Body>(
        &self,
        request: Request<B>,
        client: &Arc<Client>,
    ) -> Response<Observed> {
        let running = client.begin();
        let mut record = Record::of(&request);
        let bodiless = request.body().is_end_stream();
        let (parts, _) = request.into_parts();
        let span = record.span.clone();
        let reply = self
            .reply(&parts, bodiless, client, &mut record)
            .instrument(span)
            .await;
        self.respond(reply, record, running)
    }

    /// The answer to whoever comes when all places are taken.
    pub fn turn_away<B>(&self, request: &Request<B>, client: &Arc<Client>) -> Response<Observed> {
        let running = client.begin();
        let head_only = request.method() == Method::HEAD;
        let reply = Reply::failure(&Failure::full(), None, head_only);
        self.respond(reply, Record::of(request), running)
    }

    fn respond(&self, reply: Reply, mut record: Record, running: Running) -> Response<Observed> {
        record.status = reply.head.status.as_u16();
        record.outcome = reply.outcome;
        let slot = running.client().slot.as_ref();
        let buffers = slot.map_or(&self.small_buffers, |_| &self.buffers);
        let body = Body::new(reply.content, reply.length, buffers, slot);
        let observed = Observed::new(body, record, self.access_log, running);
        let mut response = Response::new(observed);
        *response.status_mut() = reply.head.status;
        *response.headers_mut() = reply.head.headers;
        response
    }

    async fn reply(
        &self,
        parts: &http::request::Parts,
        bodiless: bool,
        client: &Client,
        record: &mut Record,
    ) -> Reply {
        let head_only = parts.method == Method::HEAD;
        if !head_only && parts.method != Method::GET {
            return Reply::failure(&Failure::method(), None, false);
        }
        if !bodiless || has_body(&parts.headers) {
            return Reply::failure(&Failure::body(), None, head_only);
        }
        if let Some(failure) = too_large(parts) {
            return Reply::failure(&failure, None, head_only);
        }
        if !self.access.is_open()
            && let Some(failure) = self.refuse_stranger(parts, client).await
        {
            return Reply::failure(&failure, None, head_only);
        }
        let path = parts.uri.path();
        if route::is_ping(path) {
            record.request = Some(RegistryRequest::Ping);
            return Reply::ping(head_only);
        }
        let parsed = match self.cache.rules_now().as_ref() {
            Some(rules) => route::parse(path, parts.uri.query(), rules.hosts()),
            None => return Reply::failure(&Failure::not_ready(), None, head_only),
        };
        let request = match parsed {
            Ok(request) => record.request.insert(request),
            Err(error) => return Reply::failure(&Failure::of_route(&error), None, head_only),
        };
        let (name, asked) = match &*request {
            RegistryRequest::Ping => return Reply::ping(head_only),
            RegistryRequest::Manifest { name, .. } => (name, Asked::Manifest),
            RegistryRequest::Blob { name, .. } => (name, Asked::Blob),
            RegistryRequest::Referrers { name, .. } | RegistryRequest::Tags { name, .. } => {
                (name, Asked::List)
            }
        };
        match self.ask(request, head_only, &parts.headers).await {
            Ok(answer) => {
                let reply = Reply::answer(answer, asked == Asked::Blob, path, name);
                reply.unless_known(&parts.headers)
            }
            Err(error) => Reply::failure(&Failure::of_cache(&error, asked), Some(name), head_only),
        }
    }

    /// Before anything is looked up: strangers learn nothing of what is here.
    async fn refuse_stranger(
        &self,
        parts: &http::request::Parts,
        client: &Client,
    ) -> Option<Failure> {
        let guard = self.access.guard()?;
        if Box::pin(guard.admits(&parts.headers, client)).await {
            return None;
        }
        // A challenge makes containerd send what it knows for the upstream that `ns` names.
        let asks = !route::names_upstream(parts.uri.query());
        let challenge = guard.challenge().filter(|_| asks);
        Some(Failure::stranger(challenge))
    }

    /// What waits is apart: it needs much room, and what is in memory waits for nothing.
    async fn ask(
        &self,
        request: &RegistryRequest,
        head: bool,
        headers: &HeaderMap,
    ) -> Result<Answer, cache::Error> {
        match request {
            RegistryRequest::Ping => Err(cache::Error::Gone),
            RegistryRequest::Manifest { name, reference } => {
                self.cache
                    .manifest(ManifestRequest {
                        upstream: &name.upstream,
                        repository: &name.repository,
                        reference,
                        head,
                    })
                    .await
            }
            RegistryRequest::Blob { name, digest } => {
                let request = BlobRequest {
                    upstream: name.upstream.clone(),
                    repository: name.repository.clone(),
                    digest: digest.clone(),
                    range: requested_range(headers, &digest.to_string()),
                    head,
                };
                Box::pin(self.cache.blob(&request)).await
            }
            RegistryRequest::Referrers {
                name,
                digest,
                artifact_type,
                page,
            } => {
                let request = ReferrersRequest {
                    upstream: name.upstream.clone(),
                    repository: name.repository.clone(),
                    subject: digest.clone(),
                    artifact_type: artifact_type.clone(),
                    page: page.clone(),
                    head,
                };
                Box::pin(self.cache.referrers(&request)).await
            }
            RegistryRequest::Tags { name, query } => {
                let request = ListRequest {
                    upstream: name.upstream.clone(),
                    repository: name.repository.clone(),
                    query: query.clone(),
                    head,
                };
                Box::pin(self.cache.list(&request)).await
            }
        }
    }
}

impl Reply {
    fn ping(head_only: bool) -> Self {
        Self {
            head: Head::ping(),
            content: content(head_only, Bytes::from_static(b"{}")),
            length: Some(2),
            outcome: CacheOutcome::Local,
        }
    }

    fn answer(answer: Answer, blob: bool, path: &str, name: &Name) -> Self {
        let (head, length) = Head::of_answer(&answer, blob, path, name);
        Self {
            head,
            content: answer.content,
            length,
            outcome: answer.outcome,
        }
    }

    fn failure(failure: &Failure, name: Option<&Name>, head_only: bool) -> Self {
        let (head, body) = Head::of_failure(failure, name);
        Self {
            head,
            length: Some(body.len() as u64),
            content: content(head_only, body.into()),
            outcome: failure.outcome,
        }
    }

    /// "Not modified", if the client says that it has this content.
    fn unless_known(mut self, headers: &HeaderMap) -> Self {
        let known = text(headers, &IF_NONE_MATCH)
            .zip(text(&self.head.headers, &ETAG))
            .is_some_and(|(known, tag)| known.split(',').any(|known| known.trim() == tag));
        if known {
            self.head.status = StatusCode::NOT_MODIFIED;
            self.head.headers.remove(CONTENT_LENGTH);
            self.content = Content::Nothing;
        }
        self
    }
}

fn content(head_only: bool, bytes: Bytes) -> Content {
    if head_only {
        Content::Nothing
    } else {
        Content::Bytes(bytes)
    }
}

fn too_large(parts: &http::request::Parts) -> Option<Failure> {
    let target = parts.uri.path_and_query();
    if target.is_some_and(|target| target.as_str().len() > LONGEST_URI) {
        let message = "the path and query are longer than 8 KiB";
        return Some(Failure::too_large(StatusCode::URI_TOO_LONG, message));
    }
    let size: usize = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    (size > LARGEST_HEAD).then(|| {
        let message = "the headers are larger than 32 KiB";
        Failure::too_large(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message)
    })
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers
            .get_all(CONTENT_LENGTH)
            .iter()
            .any(|length| length.as_bytes() != b"0")
}

/// The Range header, if the content is still what the client began with.
fn requested_range(headers: &HeaderMap, digest: &str) -> ByteRange {
    // What can't be read is no tag of ours.
    let same = headers.get(IF_RANGE).is_none_or(|tag| {
        let tag = tag.as_bytes();
        let bare = tag
            .strip_prefix(b"\"")
            .and_then(|tag| tag.strip_suffix(b"\""));
        bare.unwrap_or(tag) == digest.as_bytes()
    });
    text(headers, &RANGE)
        .filter(|_| same)
        .map_or(ByteRange::Whole, range::parse)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_part_is_given_only_of_what_the_client_began_with() {
        const WORDS: [&[u8]; 8] = [
            b"sha256:1",
            b"\"",
            b"W/",
            b" ",
            b"sha256:2",
            b",",
            b"\xff",
            b"*",
        ];
        let input = bolero::produce::<Vec<u8>>().with().len(0..=4_usize);
        bolero::check!()
            .with_iterations(2000)
            .with_generator(input)
            .for_each(|bytes| {
                let tag = bytes
                    .iter()
                    .flat_map(|byte| WORDS[usize::from(*byte) % WORDS.len()])
                    .copied()
                    .collect::<Vec<_>>();
                let Ok(value) = HeaderValue::from_bytes(&tag) else {
                    return;
                };
                let headers = HeaderMap::from_iter([
                    (RANGE, HeaderValue::from_static("bytes=1-2")),
                    (IF_RANGE, value),
                ]);
                let is_part = requested_range(&headers, "sha256:1") == ByteRange::Between(1, 2);
                let is_same = tag == *b"\"sha256:1\"" || tag == *b"sha256:1";
                assert_eq!(is_part, is_same, "{}", tag.escape_ascii());
            });
    }
}
