//! An answer of an upstream: the few headers that matter, and a body with limits on silence and slowness.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prometheus::IntCounter;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, LINK,
};
use tokio::time::Instant;

use super::client::Upstream;
use super::limits::Slot;
use super::pace::{Pace, Slowest};
use super::{Error, reason};
use crate::oci::Digest;

/// A successful answer.
#[derive(Debug)]
pub struct Response {
    pub partial: bool,
    /// Length of the body, or what it would be if this is the answer to a HEAD.
    pub length: Option<u64>,
    pub media_type: Option<String>,
    /// What the upstream says the content's digest is.
    pub digest: Option<Digest>,
    pub content_range: Option<ContentRange>,
    /// What tells this content from others at the same place, if it does so without doubt (RFC 9110, 8.8.3).
    pub etag: Option<String>,
    /// `Link`, for the next page of a list.
    pub link: Option<String>,
    pub body: Body,
}

/// `Content-Range: bytes first-last/total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    pub first: u64,
    pub last: u64,
    pub total: Option<u64>,
}

impl ContentRange {
    pub fn parse(text: &str) -> Option<Self> {
        let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.trim().split_once('-')?;
        let total = match total.trim() {
            "*" => None,
            number => Some(number.parse().ok()?),
        };
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last && total.is_none_or(|total| last < total)).then_some(Self {
            first,
            last,
            total,
        })
    }
}

/// The bytes of an answer as they come.
#[derive(Debug)]
pub struct Body {
    response: reqwest::Response,
    host: Arc<str>,
    idle: Duration,
    slowest: Slowest,
    pace: Pace,
    received: IntCounter,
    slot: Slot,
}

impl Body {
    /// Holds a place among the upstream's requests until the body is dropped.
    pub(super) fn hold(&mut self, slot: Slot) {
        self.slot = slot;
    }

    /// Gives the place back, since no more of this body is read.
    pub(super) fn release(&mut self) {
        self.slot = None;
    }

    /// The next piece; `None` at the end that the answer's framing promised.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let broken = |reason| Error::Broken {
            host: self.host.clone(),
            reason,
        };
        let asked = Instant::now();
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => {
                self.received.inc_by(bytes.len() as u64);
                if self.pace.note(self.slowest, asked.elapsed(), bytes.len()) {
                    Ok(Some(bytes))
                } else {
                    Err(broken("the body came too slowly".into()))
                }
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(broken(reason(error))),
            Err(_) => Err(broken("the body stood still".into())),
        }
    }

    /// The whole body, if it is not larger than `limit`.
    pub async fn whole(mut self, limit: u64) -> Result<Bytes, Error> {
        let mut content = BytesMut::new();
        while let Some(bytes) = self.next().await? {
            if (content.len() + bytes.len()) as u64 > limit {
                return Err(Error::TooLarge {
                    host: self.host,
                    limit,
                });
            }
            content.extend_from_slice(&bytes);
        }
        Ok(content.freeze())
    }
}

impl Upstream {
    pub(super) fn response(&self, response: reqwest::Response) -> Response {
        let headers = response.headers();
        Response {
            partial: response.status().as_u16() == 206,
            length: text(headers, &CONTENT_LENGTH).and_then(|text| text.parse().ok()),
            media_type: text(headers, &CONTENT_TYPE).map(str::to_owned),
            digest: headers
                .get("docker-content-digest")
                .and_then(|value| value.to_str().ok())
                .and_then(|text| Digest::parse(text).ok()),
            content_range: text(headers, &CONTENT_RANGE).and_then(ContentRange::parse),
            etag: text(headers, &ETAG)
                .filter(|etag| !etag.starts_with("W/"))
                .map(str::to_owned),
            link: text(headers, &LINK).map(str::to_owned),
            body: self.body(response),
        }
    }

    pub(super) async fn read_whole(
        &self,
        response: reqwest::Response,
        limit: u64,
    ) -> Result<Bytes, Error> {
        self.body(response).whole(limit).await
    }

    fn body(&self, response: reqwest::Response) -> Body {
        Body {
            response,
            host: self.name(),
            idle: self.timeouts.idle,
            slowest: self.timeouts.slowest,
            pace: Pace::default(),
            received: self.received.clone(),
            slot: None,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_are_read_strictly() {
        assert_eq!(
            ContentRange::parse("bytes 5-9/10"),
            Some(ContentRange {
                first: 5,
                last: 9,
                total: Some(10)
            })
        );
        assert_eq!(ContentRange::parse("bytes 0-0/*").unwrap().total, None);
        for text in [
            "",
            "bytes */10",
            "bytes 5-4/10",
            "bytes 5-10/10",
            "items 0-1/2",
            "bytes 0-1",
        ] {
            assert_eq!(ContentRange::parse(text), None, "{text:?}");
        }
    }
}
