//! Blobs: from the store, from a running fill, from a new one, or passed through.

use crds::policy::Action;
use crds::values::RegistryHost;

use super::answer::{Answer, Content};
use super::byte_range::ByteRange;
use super::fill::{Fill, Start};
use super::growing::Growing;
use super::{Cache, CacheOutcome, Error, Origin, verified};
use crate::oci::{Digest, Repository};
use crate::storage::StoredBlob;
use crate::upstream::{self, BlobStream};

/// A request for a blob.
#[derive(Debug, Clone)]
pub struct BlobRequest {
    pub upstream: RegistryHost,
    pub repository: Repository,
    pub digest: Digest,
    pub range: ByteRange,
    /// Only the head is wanted.
    pub head: bool,
}

/// Rounds in which a client meets fills that end under its hands.
const ROUNDS: usize = 4;

impl Cache {
    pub async fn blob(&self, request: &BlobRequest) -> Result<Answer, Error> {
        let (origin, admission) = self.admit(&request.upstream, &request.repository, None)?;
        if admission.action == Action::Forward {
            return self
                .pass_blob(&origin, request, CacheOutcome::Forwarded)
                .await;
        }
        for _ in 0..ROUNDS {
            // First: what ends before the look is in the store, and what ends after it is known from here.
            let running = self.running_fill(&request.digest);
            let looked = if running.is_none() && self.0.store.surely_lacks(&request.digest) {
                // Spares a miss the way to the disk. Who joins a fill has to know whether its repository has the content.
                Ok((None, false))
            } else {
                self.look_up(&origin, &request.digest).await
            };
            let (blob, member) = match looked {
                Ok(found) => found,
                Err(error) => {
                    tracing::error!(digest = %request.digest, %error, "failed to look into the store; passing through");
                    return self.pass_unstored(&origin, request).await;
                }
            };
            if let Some(blob) = blob {
                return self.stored(&origin, request, blob, member).await;
            }
            if let Some(error) = self.remembered_failure(&origin, &request.digest) {
                return Err(error);
            }
            if request.head {
                let verified = running
                    .filter(|fill| member || fill.origin.place() == origin.place())
                    .and_then(|fill| fill.verified());
                if let Some(size) = verified {
                    return Ok(Answer::blob(CacheOutcome::Hit, &request.digest, Some(size)));
                }
                let shared = self.shared_size(&origin, &request.digest, member).await;
                if shared.is_some() {
                    let outcome = CacheOutcome::Bucket;
                    return Ok(Answer::blob(outcome, &request.digest, shared));
                }
                return self
                    .head_of_blob(&origin, request, CacheOutcome::Miss)
                    .await;
            }
            let whole = matches!(request.range, ByteRange::Whole | ByteRange::From(0));
            let ended = running.filter(|fill| fill.verified().is_some());
            let (fill, first) = match self.running_fill(&request.digest).or(ended) {
                Some(fill) => (fill, false),
                None if self.store_is_broken() || self.admission_is_stopped() => {
                    return self.pass_unstored(&origin, request).await;
                }
                // A part alone is not worth the whole, unless that is near.
                None if !whole
                    && self
                        .shared_size(&origin, &request.digest, member)
                        .await
                        .is_none() =>
                {
                    return self.pass_blob(&origin, request, CacheOutcome::Bypass).await;
                }
                None => self.fill(&origin, &request.digest),
            };
            if let Some(answer) = self
                .read_fill(&origin, request, &fill, first, member)
                .await?
            {
                return Ok(answer);
            }
        }
        self.pass_blob(&origin, request, CacheOutcome::Bypass).await
    }

    pub(super) async fn look_up(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<(Option<StoredBlob>, bool), Error> {
        let (host, repository, digest) = (
            origin.host().clone(),
            origin.repository.clone(),
            digest.clone(),
        );
        self.blocking(move |store| {
            Ok((
                store.blob(&digest)?,
                store.is_member(&host, &repository, &digest),
            ))
        })
        .await
    }

    async fn stored(
        &self,
        origin: &Origin,
        request: &BlobRequest,
        blob: StoredBlob,
        member: bool,
    ) -> Result<Answer, Error> {
        let outcome = if member {
            CacheOutcome::Hit
        } else {
            self.confirm(origin, &request.digest).await?;
            CacheOutcome::Revalidated
        };
        if request.head {
            return Ok(Answer::blob(outcome, &request.digest, Some(blob.size)));
        }
        Answer::stored_blob(outcome, &request.digest, blob, request.range)
    }

    /// Makes sure that the repository has the blob, by another replica's word or the upstream's, and writes it down.
    pub(super) async fn confirm(&self, origin: &Origin, digest: &Digest) -> Result<(), Error> {
        if self.is_shared_member(origin, digest).await {
            self.write_member(origin, digest).await;
            return Ok(());
        }
        self.confirm_with_upstream(origin, digest).await?;
        self.share_content(origin, digest);
        Ok(())
    }

    pub(super) async fn confirm_with_upstream(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<(), Error> {
        origin
            .upstream
            .head_blob(&origin.repository, digest)
            .await
            .map_err(Error::Upstream)?;
        self.write_member(origin, digest).await;
        Ok(())
    }

    async fn write_member(&self, origin: &Origin, digest: &Digest) {
        let (host, repository, name) = (
            origin.host().clone(),
            origin.repository.clone(),
            digest.clone(),
        );
        let written = self
            .blocking(move |store| store.add_member(&host, &repository, &name))
            .await;
        if let Err(error) = written {
            self.note_write_failure(&error);
        }
    }

    /// Reads a fill. `None`: it came to an end that is worth another look.
    async fn read_fill(
        &self,
        origin: &Origin,
        request: &BlobRequest,
        fill: &Fill,
        first: bool,
        member: bool,
    ) -> Result<Option<Answer>, Error> {
        let same_place = fill.origin.place() == origin.place();
        // Another repository's content is no answer to the question whether this one has it.
        if !same_place && !member {
            self.confirm(origin, &request.digest).await?;
        }
        let verified = !first && fill.verified().is_some();
        let (head, size) = match fill.start().await {
            Ok(Start::Reading(head, size)) => (head, size),
            // After something wrong in the bucket, the next fill takes the upstream's.
            Ok(Start::LookAgain) | Err(Error::Bucket(_)) => return Ok(None),
            // Who waited for its own upstream in vain does not wait again.
            Err(Error::Upstream(error))
                if error.is_silence() && fill.origin.host() == origin.host() =>
            {
                return Err(Error::Upstream(error));
            }
            Err(Error::Upstream(_)) if !same_place => return Ok(None),
            Err(Error::Store(_) | Error::Full) => {
                return self.pass_unstored(origin, request).await.map(Some);
            }
            Err(error) => return Err(error),
        };
        let range = match request.range {
            // A client that would take ranges is shown one stream while the content is cold.
            ByteRange::From(0) if !verified => ByteRange::Whole,
            range => range,
        };
        let range = range.resolve(size).map_err(|_| Error::Range { size })?;
        let outcome = match (first, verified) {
            (true, _) if fill.is_from_bucket() => CacheOutcome::Bucket,
            (true, _) => CacheOutcome::Miss,
            (false, false) => CacheOutcome::Joined,
            // As from the store, which only has to make it durable.
            (false, true) if same_place || member => CacheOutcome::Hit,
            (false, true) => CacheOutcome::Revalidated,
        };
        let part = range.clone().unwrap_or(0..size);
        Ok(Some(Answer {
            range,
            content: Content::Growing(Growing::new(fill.progress.clone(), head.file, size, part)),
            ..Answer::blob(outcome, &request.digest, Some(size))
        }))
    }

    async fn head_of_blob(
        &self,
        origin: &Origin,
        request: &BlobRequest,
        outcome: CacheOutcome,
    ) -> Result<Answer, Error> {
        let response = origin
            .upstream
            .head_blob(&request.repository, &request.digest)
            .await
            .map_err(Error::Upstream)?;
        Ok(Answer::blob(outcome, &request.digest, response.length))
    }

    /// Passes the upstream's body through, since the store can't take it. The client is told.
    async fn pass_unstored(&self, origin: &Origin, request: &BlobRequest) -> Result<Answer, Error> {
        let passing = self.pass_blob(origin, request, CacheOutcome::Bypass);
        passing.await.map(Answer::unstored)
    }

    /// Passes the upstream's body through.
    async fn pass_blob(
        &self,
        origin: &Origin,
        request: &BlobRequest,
        outcome: CacheOutcome,
    ) -> Result<Answer, Error> {
        if request.head {
            return self.head_of_blob(origin, request, outcome).await;
        }
        let range = match request.range {
            ByteRange::From(0) => None,
            range => range.header(),
        };
        let response = origin
            .upstream
            .get_blob(&request.repository, &request.digest, range.as_deref())
            .await
            .map_err(Error::Upstream)?;
        let partial = response.content_range.filter(|_| response.partial);
        if let Some(part) = partial {
            let range = part.first..part.last + 1;
            // What was not asked for would be put in the wrong place by a client that does not look.
            let asked = part.total.map(|total| request.range.resolve(total));
            if asked != Some(Ok(Some(range.clone()))) {
                return Err(Error::Upstream(upstream::Error::Broken {
                    host: origin.host_text(),
                    reason: "it answered with another range than was asked for".into(),
                }));
            }
            return Ok(Answer {
                range: Some(range),
                content: Content::Stream(verified::part(response.body)),
                ..Answer::blob(outcome, &request.digest, part.total)
            });
        }
        if response.partial {
            return Err(Error::Upstream(upstream::Error::Broken {
                host: origin.host_text(),
                reason: "it answered with a part and did not say which".into(),
            }));
        }
        let size = response.length;
        // Of nothing, no last piece can be held back.
        if size == Some(0) && !request.digest.names(b"") {
            return Err(self.count_mismatch(origin, &request.digest));
        }
        let digest = request.digest.clone();
        let place = upstream::Place {
            upstream: origin.upstream.clone(),
            repository: request.repository.clone(),
            digest: digest.clone(),
        };
        // A client that puts parts together must not take the whole for one of them, so it is cut out.
        let range = match size {
            Some(size) => {
                let range = request.range.resolve(size);
                range.map_err(|_| Error::Range { size })?
            }
            None => None,
        };
        let whole = self.pass(origin.clone(), digest, BlobStream::started(place, response));
        let content = match &range {
            Some(range) => verified::cut(whole, range.clone()),
            None => whole,
        };
        Ok(Answer {
            range,
            content: Content::Stream(content),
            ..Answer::blob(outcome, &request.digest, size)
        })
    }

    /// Keeps what would only be found out again: that it is not there, or wrong.
    pub(super) fn remember_failure(&self, origin: &Origin, digest: &Digest, error: &Error) {
        if error.is_lasting() {
            let lifetime = self.0.patience.negative;
            self.0.negative.put(
                key(origin, digest),
                error.clone(),
                self.0.clock.now(),
                lifetime,
            );
        }
    }

    pub(super) fn remembered_failure(&self, origin: &Origin, digest: &Digest) -> Option<Error> {
        self.0.negative.get(
            &key(origin, digest),
            self.0.clock.now(),
            self.0.patience.negative,
        )
    }
}

fn key(origin: &Origin, digest: &Digest) -> String {
    format!("{}/{}@{digest}", origin.host(), origin.repository)
}
