//! A body that is passed through without storing. Its last piece is held back until the digest matches.

use std::ops::Range;

use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};

use super::answer::ContentStream;
use super::{Cache, Error, Origin};
use crate::oci::{Digest, Hasher};
use crate::upstream::{BlobStream, Body};

struct Passing {
    stream: BlobStream,
    cache: Cache,
    origin: Origin,
    digest: Digest,
    hasher: Option<Hasher>,
    held: Option<Bytes>,
}

impl Cache {
    /// The whole of a blob, never complete if it is not what the digest says.
    pub(super) fn pass(&self, origin: Origin, digest: Digest, stream: BlobStream) -> ContentStream {
        let passing = Passing {
            hasher: Some(Hasher::new(digest.algorithm())),
            stream,
            cache: self.clone(),
            origin,
            digest,
            held: None,
        };
        futures::stream::try_unfold(passing, |mut passing| async move {
            Ok(passing.next().await?.map(|bytes| (bytes, passing)))
        })
        .boxed()
    }
}

impl Passing {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            let Some(hasher) = &mut self.hasher else {
                return Ok(None);
            };
            match self.stream.next().await.map_err(Error::Upstream)? {
                Some(bytes) if bytes.is_empty() => {}
                Some(bytes) => {
                    hasher.update(&bytes);
                    if let Some(previous) = self.held.replace(bytes) {
                        return Ok(Some(previous));
                    }
                }
                None => {
                    let found = self.hasher.take().map(Hasher::finish);
                    if found.as_ref() != Some(&self.digest) {
                        return Err(self.cache.count_mismatch(&self.origin, &self.digest));
                    }
                    return Ok(self.held.take());
                }
            }
        }
    }
}

/// The bytes of a whole that lie in the range. What comes behind it is not read, so it is checked only if it goes to the end.
pub(super) fn cut(whole: ContentStream, range: Range<u64>) -> ContentStream {
    futures::stream::try_unfold((whole, 0), move |(mut whole, mut at)| {
        let range = range.clone();
        async move {
            while at < range.end {
                let Some(mut bytes) = whole.try_next().await? else {
                    return Ok(None);
                };
                let length = bytes.len() as u64;
                let within =
                    |place: u64| usize::try_from(place.saturating_sub(at)).unwrap_or(usize::MAX);
                bytes.truncate(within(range.end));
                bytes.advance(within(range.start).min(bytes.len()));
                at += length;
                if !bytes.is_empty() {
                    return Ok(Some((bytes, (whole, at))));
                }
            }
            Ok(None)
        }
    })
    .boxed()
}

/// A part of a blob, which only the client can check.
pub(super) fn part(body: Body) -> ContentStream {
    futures::stream::try_unfold(body, |mut body| async move {
        let bytes = body.next().await.map_err(Error::Upstream)?;
        Ok(bytes.map(|bytes| (bytes, body)))
    })
    .boxed()
}
