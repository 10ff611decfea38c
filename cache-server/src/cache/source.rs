//! Where the bytes of a fill come from: the bucket that replicas share, or the upstream.

use tokio::sync::mpsc;

use super::shared::Shared;
use super::transfer::{Stopped, pump, transfer};
use super::turns::{Turn, Turns};
use super::writer::Message;
use super::{Cache, Error, Origin};
use crate::oci::Digest;
use crate::upstream::{BlobStream, Place};

/// Readers of content from the bucket see nothing of up to so many bytes before the digest is known to match: if it does
/// not, they get the upstream's and never know. Of more, they would wait too long for the first byte.
const CHECKED_FIRST: u64 = 4 << 20;

pub(super) enum Source {
    Upstream(Box<BlobStream>),
    Bucket(Shared, Place),
}

impl Source {
    pub(super) async fn open(
        cache: &Cache,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<Self, Error> {
        let place = Place {
            upstream: origin.upstream.clone(),
            repository: origin.repository.clone(),
            digest: digest.clone(),
        };
        match cache.open_shared(origin, digest).await? {
            Some(shared) => Ok(Self::Bucket(shared, place)),
            None => place
                .open()
                .await
                .map(|stream| Self::Upstream(Box::new(stream)))
                .map_err(Error::Upstream),
        }
    }

    /// Length of the whole, if it is said.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Self::Upstream(stream) => stream.length(),
            Self::Bucket(shared, _) => Some(shared.object.size()),
        }
    }

    /// The length that readers may be told before the content was compared with its digest.
    pub(super) fn promised(&self) -> Option<u64> {
        match self {
            Self::Upstream(stream) => stream.length(),
            Self::Bucket(shared, _) => {
                Some(shared.object.size()).filter(|size| *size > CHECKED_FIRST)
            }
        }
    }

    pub(super) fn is_bucket(&self) -> bool {
        matches!(self, Self::Bucket(..))
    }

    /// Whether the bucket has both the content and the word that the repository has it.
    pub(super) fn is_all_shared(&self) -> bool {
        matches!(self, Self::Bucket(shared, _) if shared.is_written_down)
    }

    /// Moves all of it to the writer.
    pub(super) async fn send(
        self,
        writer: &mpsc::Sender<Message>,
        turns: &Turns,
    ) -> Result<(), Stopped> {
        match self {
            Self::Upstream(stream) => transfer(*stream, writer, turns).await,
            Self::Bucket(shared, place) => {
                let mut turn = turns.take().await;
                from_bucket(shared, place, writer, &mut turn).await?;
                let end = Message::End(turn);
                writer.send(end).await.map_err(|_| Stopped::Writer)
            }
        }
    }
}

/// What the bucket does not give to its end, the upstream goes on with.
async fn from_bucket(
    mut shared: Shared,
    place: Place,
    writer: &mpsc::Sender<Message>,
    turn: &mut Turn,
) -> Result<(), Stopped> {
    let (size, mut offset) = (shared.object.size(), 0);
    while offset < size {
        let bytes = match turn.wait_for(shared.object.next()).await {
            Ok(Some(bytes)) if bytes.len() as u64 <= size - offset => bytes,
            ended => {
                let error = ended.err().map(tracing::field::display);
                tracing::warn!(digest = %place.digest, offset, error, "the bucket's body broke off; the upstream goes on with it");
                let rest = place.open_part(offset..size, size).await;
                return pump(rest.map_err(Stopped::Upstream)?, writer, turn).await;
            }
        };
        let count = bytes.len() as u64;
        let message = Message::Bytes { offset, bytes };
        writer.send(message).await.map_err(|_| Stopped::Writer)?;
        offset += count;
        turn.moved(count);
    }
    Ok(())
}
