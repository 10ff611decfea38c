//! A blob's bytes from an upstream. When the connection breaks, the rest is asked for.

use std::sync::Arc;

use bytes::Bytes;

use super::client::Upstream;
use super::response::Body;
use super::{Error, Response};
use crate::oci::{Digest, Repository};

const MAXIMUM_RESUMES: u32 = 3;

/// The whole blob, in order. Nothing is known of its digest yet.
#[derive(Debug)]
pub struct BlobStream {
    upstream: Arc<Upstream>,
    repository: Repository,
    digest: Digest,
    body: Body,
    length: Option<u64>,
    offset: u64,
    resumes: u32,
}

impl BlobStream {
    pub async fn open(
        upstream: Arc<Upstream>,
        repository: Repository,
        digest: Digest,
    ) -> Result<Self, Error> {
        let response = upstream.get_blob(&repository, &digest, None).await?;
        if response.partial {
            return Err(broken(
                &upstream,
                "it answered with a part where the whole was asked for",
            ));
        }
        Ok(Self::started(upstream, repository, digest, response))
    }

    /// Continues an answer that is already there: 200, from the first byte.
    pub fn started(
        upstream: Arc<Upstream>,
        repository: Repository,
        digest: Digest,
        response: Response,
    ) -> Self {
        Self {
            upstream,
            repository,
            digest,
            length: response.length,
            body: response.body,
            offset: 0,
            resumes: 0,
        }
    }

    /// Length of the whole, if the upstream said it.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let error = match self.body.next().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.upstream.limits.throttle(bytes.len()).await;
                    return Ok(Some(bytes));
                }
                Ok(None) if self.length.is_none_or(|length| self.offset == length) => {
                    return Ok(None);
                }
                Ok(None) => broken(&self.upstream, "the body ended early"),
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
            tracing::info!(digest = %self.digest, offset = self.offset, error = %cause, "resuming a broken body");
            let range = format!("bytes={}-", self.offset);
            let answer = self
                .upstream
                .get_blob(&self.repository, &self.digest, Some(&range))
                .await;
            let Ok(response) = answer else {
                continue;
            };
            // Only a part that is exactly the rest of the same whole may be appended.
            let total = response
                .content_range
                .filter(|range| range.first == self.offset)
                .and_then(|range| range.total.filter(|total| range.last + 1 == *total));
            return match total {
                Some(total)
                    if response.partial && self.length.is_none_or(|length| length == total) =>
                {
                    self.length = Some(total);
                    Ok(response.body)
                }
                _ => Err(cause),
            };
        }
        Err(cause)
    }
}

fn broken(upstream: &Upstream, reason: &str) -> Error {
    Error::Broken {
        host: upstream.name(),
        reason: reason.into(),
    }
}
