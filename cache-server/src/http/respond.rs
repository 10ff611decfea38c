//! From the cache's answers and failures to heads of HTTP responses.

use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderName, LINK, RETRY_AFTER, WARNING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::error::Failure;
use super::route::Name;
use crate::cache::answer::{Answer, Content};
use crate::oci::Digest;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const REGISTRY_2: HeaderValue = HeaderValue::from_static("registry/2.0");
const IMMUTABLE: HeaderValue = HeaderValue::from_static("max-age=31536000, immutable");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const BYTES: HeaderValue = HeaderValue::from_static("bytes");

/// Status and headers.
#[derive(Debug)]
pub struct Head {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

impl Head {
    fn new(status: StatusCode) -> Self {
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(API_VERSION, REGISTRY_2);
        Self { status, headers }
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        // A media type or filter of an upstream may hold what no header may.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }

    /// The digest, and the tag that is made of it: one piece of memory for both.
    fn digest(&mut self, digest: &Digest) {
        let (algorithm, hex) = (digest.algorithm().as_str(), digest.hex());
        let mut tag = String::with_capacity(algorithm.len() + hex.len() + 3);
        for part in ["\"", algorithm, ":", hex, "\""] {
            tag.push_str(part);
        }
        let tag = Bytes::from(tag);
        let bare = tag.slice(1..tag.len() - 1);
        for (name, value) in [(CONTENT_DIGEST, bare), (ETAG, tag)] {
            if let Ok(value) = HeaderValue::from_maybe_shared(value) {
                self.headers.insert(name, value);
            }
        }
    }

    /// `/v2/` itself.
    pub fn ping() -> Self {
        let mut head = Self::new(StatusCode::OK);
        head.headers.insert(CONTENT_TYPE, JSON);
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(2u64));
        head
    }

    /// A success. The second value: length of the body that belongs to it.
    pub fn of_answer(answer: &Answer, blob: bool, path: &str, name: &Name) -> (Self, Option<u64>) {
        let partial = answer.range.is_some();
        let mut head = Self::new(if partial {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        });
        let length = match &answer.range {
            Some(range) => Some(range.end - range.start),
            None => answer.size,
        };
        if let Some(length) = length {
            head.headers
                .insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        if let Some(range) = &answer.range {
            let total = answer
                .size
                .map_or_else(|| "*".to_owned(), |size| size.to_string());
            head.set(
                CONTENT_RANGE,
                &format!("bytes {}-{}/{total}", range.start, range.end - 1),
            );
        }
        match answer.media_type.as_known() {
            Some(known) => {
                head.headers
                    .insert(CONTENT_TYPE, HeaderValue::from_static(known));
            }
            None if answer.media_type.as_str().is_empty() => {}
            None => head.set(CONTENT_TYPE, answer.media_type.as_str()),
        }
        if let Some(digest) = &answer.digest {
            head.digest(digest);
        }
        if blob {
            head.headers.insert(ACCEPT_RANGES, BYTES);
        }
        if answer.immutable {
            head.headers.insert(CACHE_CONTROL, IMMUTABLE);
        }
        if let Some(warning) = &answer.warning {
            head.set(WARNING, warning);
        }
        if let Some(filters) = &answer.filters {
            head.set(FILTERS, filters);
        }
        if let Some(query) = &answer.next_page {
            let namespace = if name.by_query {
                format!("&ns={}", name.upstream)
            } else {
                String::new()
            };
            head.set(LINK, &format!("<{path}?{query}{namespace}>; rel=\"next\""));
        }
        let nothing_stored = matches!(answer.content, Content::Nothing)
            && answer.outcome.cache_status().ends_with("stored");
        let status = if nothing_stored {
            "larder; fwd=miss"
        } else {
            answer.outcome.cache_status()
        };
        head.headers
            .insert(CACHE_STATUS, HeaderValue::from_static(status));
        head.namespace(Some(name));
        (head, length)
    }

    /// A failure and its body.
    pub fn of_failure(failure: &Failure, name: Option<&Name>) -> (Self, String) {
        let mut head = Self::new(failure.status);
        let body = failure.code.body(&failure.message);
        head.headers.insert(CONTENT_TYPE, JSON);
        head.headers
            .insert(CONTENT_LENGTH, HeaderValue::from(body.len() as u64));
        head.headers.insert(
            CACHE_STATUS,
            HeaderValue::from_static(failure.outcome.cache_status()),
        );
        match failure.status {
            StatusCode::METHOD_NOT_ALLOWED => {
                head.headers
                    .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                if let Some(size) = failure.size {
                    head.set(CONTENT_RANGE, &format!("bytes */{size}"));
                }
            }
            _ => {}
        }
        if let Some(seconds) = failure.retry_after {
            head.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = failure.challenge {
            head.headers
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if failure.closes {
            head.headers
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        head.namespace(name);
        (head, body)
    }

    /// Says that the answer is the named upstream's: containerd's mirrors without it would be taken at their word.
    fn namespace(&mut self, name: Option<&Name>) {
        if let Some(name) = name.filter(|name| name.by_query) {
            self.set(NAMESPACE, name.upstream.as_str());
        }
    }
}
