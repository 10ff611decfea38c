//! A blob's bytes from an upstream. When the connection breaks, the rest is asked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::client::Upstream;
use super::response::Body;
use super::{Error, Response};
use crate::oci::{Digest, Repository};

const MAXIMUM_RESUMES: u32 = 3;
/// What is asked for first. Whether the answer is a part shows whether more connections can share the rest.
pub const FRONT: u64 = 8 * 1024 * 1024;
/// From this size on, the rest is shared.
pub const LARGE: u64 = 32 * 1024 * 1024;
/// Connections for the rest of a large blob, besides the front's.
const MORE_CONNECTIONS: usize = 3;
/// Parts of the rest of a large blob: few enough that asking for each costs little, and so many that who reads in order is not
/// far behind what has come.
const PARTS: u64 = 24;
const SMALLEST_PART: u64 = 4 * 1024 * 1024;
const LARGEST_PART: u64 = 64 * 1024 * 1024;

/// The bytes of a blob, or of a part of it, in order. Nothing is known of its digest yet.
#[derive(Debug)]
pub struct BlobStream {
    place: Place,
    body: Body,
    etag: Option<String>,
    /// Of the whole blob.
    length: Option<u64>,
    offset: u64,
    /// Where this stream ends; absent if the length is.
    end: Option<u64>,
    resumes: u32,
}

/// Where a blob is.
#[derive(Debug, Clone)]
pub struct Place {
    pub upstream: Arc<Upstream>,
    pub repository: Repository,
    pub digest: Digest,
}

impl Place {
    /// Begins at the front: with all of the blob, or with the first part of one whose upstream answers ranges.
    pub async fn open(self) -> Result<BlobStream, Error> {
        let range = format!("bytes=0-{}", FRONT - 1);
        match self.get(Some(&range)).await {
            Ok(response) if !response.partial => return Ok(BlobStream::started(self, response)),
            Ok(response) => {
                let range = response.content_range.filter(|range| range.first == 0);
                let part = range.and_then(|range| Some((range.last + 1, range.total?)));
                if let Some((end, total)) = part.filter(|(end, total)| *end == FRONT.min(*total)) {
                    return Ok(BlobStream::part(self, response, 0..end, total));
                }
            }
            // There is nothing to take a part of.
            Err(Error::Status { status: 416, .. }) => {}
            Err(error) => return Err(error),
        }
        let response = self.get(None).await?;
        if response.partial {
            return Err(self.broken("it answered with a part where the whole was asked for"));
        }
        Ok(BlobStream::started(self, response))
    }

    /// Exactly that part of a blob of that length.
    pub async fn open_part(self, part: Range<u64>, length: u64) -> Result<BlobStream, Error> {
        let range = format!("bytes={}-{}", part.start, part.end - 1);
        let response = self.get(Some(&range)).await?;
        let is_it = response.partial
            && response.content_range.is_some_and(|range| {
                (range.first..range.last + 1) == part && range.total == Some(length)
            });
        if is_it {
            Ok(BlobStream::part(self, response, part, length))
        } else {
            Err(self.broken("it answered with another part than the one that was asked for"))
        }
    }

    async fn get(&self, range: Option<&str>) -> Result<Response, Error> {
        self.upstream
            .get_blob(&self.repository, &self.digest, range)
            .await
    }

    fn broken(&self, reason: &str) -> Error {
        Error::Broken {
            host: self.upstream.name(),
            reason: reason.into(),
        }
    }
}

impl BlobStream {
    /// Continues an answer that is already there: 200, from the first byte.
    pub fn started(place: Place, response: Response) -> Self {
        Self {
            place,
            length: response.length,
            end: response.length,
            etag: response.etag,
            body: response.body,
            offset: 0,
            resumes: 0,
        }
    }

    fn part(place: Place, response: Response, part: Range<u64>, length: u64) -> Self {
        Self {
            offset: part.start,
            end: Some(part.end),
            length: Some(length),
            ..Self::started(place, response)
        }
    }

    /// Length of the whole, if the upstream said it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Where the next piece belongs.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// What this stream leaves to others, in the order in which it is wanted.
    pub fn rest(&self) -> Rest {
        match (self.end, self.length) {
            (Some(end), Some(length)) => rest(end..length, length >= LARGE),
            _ => Rest::default(),
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let error = match self.body.next().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.place.upstream.limits.throttle(bytes.len()).await;
                    return Ok(Some(bytes));
                }
                Ok(None) if self.end.is_none_or(|end| self.offset == end) => {
                    return Ok(None);
                }
                Ok(None) => self.place.broken("the body ended early"),
                Err(error) => error,
            };
            // It would wait for its own place otherwise.
            self.body.release();
            self.body = self.resume(error).await?;
        }
    }

    /// The rest of the body, from a new request. Fails with the cause when there is none to be had.
    async fn resume(&mut self, cause: Error) -> Result<Body, Error> {
        while self.resumes < MAXIMUM_RESUMES {
            self.resumes += 1;
            tracing::info!(digest = %self.place.digest, offset = self.offset, error = %cause, "resuming a broken body");
            let range = match self.end.filter(|end| self.length != Some(*end)) {
                Some(end) => format!("bytes={}-{}", self.offset, end - 1),
                None => format!("bytes={}-", self.offset),
            };
            let Ok(response) = self.place.get(Some(&range)).await else {
                continue;
            };
            let changed =
                self.etag.is_some() && response.etag.is_some() && self.etag != response.etag;
            // Only a part that is exactly the rest of the same whole may be appended.
            let total = response
                .content_range
                .filter(|range| range.first == self.offset)
                .and_then(|range| {
                    range
                        .total
                        .filter(|total| range.last + 1 == self.end.unwrap_or(*total))
                });
            return match total {
                Some(total)
                    if response.partial
                        && !changed
                        && self.length.is_none_or(|length| length == total) =>
                {
                    self.length = Some(total);
                    self.end = self.end.or(Some(total));
                    Ok(response.body)
                }
                _ => Err(cause),
            };
        }
        Err(cause)
    }
}

/// What the front of a blob leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rest {
    /// Without gaps, in order.
    pub parts: VecDeque<Range<u64>>,
    /// Connections that it is worth, besides the front's.
    pub connections: usize,
}

fn rest(range: Range<u64>, large: bool) -> Rest {
    let length = range.end - range.start;
    let part = if large {
        length.div_ceil(PARTS).clamp(SMALLEST_PART, LARGEST_PART)
    } else {
        length
    };
    let mut parts = VecDeque::new();
    let mut start = range.start;
    while start < range.end {
        let end = (start + part).min(range.end);
        parts.push_back(start..end);
        start = end;
    }
    let connections = if large { MORE_CONNECTIONS } else { 1 };
    Rest {
        connections: connections.min(parts.len()),
        parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Size of the first part, how many there are, and connections.
    fn shape(range: Range<u64>, large: bool) -> (u64, usize, usize) {
        let rest = rest(range.clone(), large);
        let mut at = range.start;
        for part in &rest.parts {
            assert_eq!(part.start, at);
            assert!(part.start < part.end);
            at = part.end;
        }
        assert_eq!(at, range.end);
        let first = rest.parts.front().map_or(0, |part| part.end - part.start);
        (first, rest.parts.len(), rest.connections)
    }

    #[test]
    fn the_rest_has_no_gaps_and_parts_that_grow_with_it() {
        assert_eq!(shape(8..8, false), (0, 0, 0));
        assert_eq!(shape(8..9, false), (1, 1, 1));
        assert_eq!(shape(8 * MIB..31 * MIB, false), (23 * MIB, 1, 1));
        assert_eq!(shape(8 * MIB..32 * MIB, true), (4 * MIB, 6, 3));
        assert_eq!(shape(8 * MIB..248 * MIB + 1, true), (10 * MIB + 1, 24, 3));
        assert_eq!(shape(8 * MIB..10_000 * MIB, true), (64 * MIB, 157, 3));
    }
}
