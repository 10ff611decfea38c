//! The thread of a fill that writes and hashes. It blocks.

use std::sync::Arc;

use bytes::Bytes;
use crds::values::RegistryHost;
use tokio::sync::{mpsc, oneshot, watch};

use super::commits::{Commits, Committed};
use super::fill::{Head, Progress};
use super::segments::Segments;
use super::turns::Turn;
use crate::oci::{Digest, Hasher, Repository};
use crate::storage::{self, Finished, Kind, TemporaryBlob};

/// Pieces on their way from the upstream to the disk, of up to 400 KiB each; a slow disk slows the upstream down. More would
/// only be memory: the upstream's bytes wait as well in the socket.
const WAITING: usize = 4;
/// Bytes that are read back for the digest at once.
const AT_ONCE: u64 = 1024 * 1024;

pub(super) enum Message {
    /// In any order; no byte comes twice.
    Bytes { offset: u64, bytes: Bytes },
    /// The body is whole. A channel that closes without it means a body that is not.
    /// Brings the turn in which the body came; it lasts until the body is verified.
    End(Turn),
}

pub(super) fn channel() -> (mpsc::Sender<Message>, mpsc::Receiver<Message>) {
    mpsc::channel(WAITING)
}

/// All that the thread needs.
pub(super) struct Job {
    pub(super) commits: Commits,
    pub(super) host: RegistryHost,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size: Option<u64>,
    pub(super) blob: TemporaryBlob,
    pub(super) progress: Arc<watch::Sender<Progress>>,
    pub(super) receiver: mpsc::Receiver<Message>,
}

/// Content that is right.
pub(super) struct Verified {
    pub(super) size: u64,
    /// Once it is durable.
    pub(super) committed: oneshot::Receiver<Committed>,
}

pub(super) enum WriteError {
    GivenUp,
    Mismatch,
    /// The disk has no room for the content. Nothing was promised or written; the job can be run again.
    NoRoom(Box<Job>, storage::Error),
    Store(storage::Error),
}

impl Job {
    /// Takes the disk's room, and only then promises readers the body; writes until the end, and hands the content over to be
    /// committed if it is right.
    pub(super) fn run(mut self) -> Result<Verified, WriteError> {
        if let Err(error) = self.blob.set_aside(self.size.unwrap_or(0)) {
            return Err(WriteError::NoRoom(Box::new(self), error));
        }
        let head = Head {
            file: self.blob.file(),
            size: self.size,
        };
        self.progress
            .send_modify(|progress| progress.head = Some(head));
        let mut content = Hashed {
            hasher: Hasher::new(self.digest.algorithm()),
            to: 0,
            there: Segments::default(),
        };
        let turn = loop {
            match self.receiver.blocking_recv() {
                Some(Message::Bytes { offset, bytes }) => {
                    self.write(&mut content, offset, &bytes)
                        .map_err(WriteError::Store)?;
                }
                Some(Message::End(turn)) => break turn,
                None => return Err(WriteError::GivenUp),
            }
        };
        while content.lags() {
            self.catch_up(&mut content).map_err(WriteError::Store)?;
        }
        let size = content.to;
        // Hashed from the front without a gap: what is behind one would be missing in the size and in the digest.
        if self.size.is_some_and(|expected| expected != size)
            || content.hasher.finish() != self.digest
        {
            return Err(WriteError::Mismatch);
        }
        self.progress
            .send_modify(|progress| progress.verified = Some(size));
        drop(turn);
        let committed = self.commits.add(Finished {
            blob: self.blob,
            digest: self.digest,
            size,
            kind: Kind::Blob,
            member_of: Some((self.host, self.repository)),
        });
        Ok(Verified { size, committed })
    }

    fn write(
        &self,
        content: &mut Hashed,
        offset: u64,
        bytes: &Bytes,
    ) -> Result<(), storage::Error> {
        self.blob.write_at(bytes, offset)?;
        let end = offset + bytes.len() as u64;
        content.there.insert(offset..end);
        if offset == content.to {
            content.hasher.update(bytes);
            content.to = end;
        }
        self.progress.send_modify(|progress| {
            progress.segments.insert(offset..end);
            progress.hashed = content.to;
        });
        // A piece of what other connections brought before its turn; more with the next message.
        if content.lags() {
            self.catch_up(content)?;
        }
        Ok(())
    }

    /// Hashes the next piece of what is in the file already.
    fn catch_up(&self, content: &mut Hashed) -> Result<(), storage::Error> {
        let length = (content.there.end_from(content.to) - content.to).min(AT_ONCE);
        let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
        self.blob.read_at(&mut piece, content.to)?;
        content.hasher.update(&piece);
        content.to += length;
        Ok(())
    }
}

/// How far the content went into the digest.
struct Hashed {
    hasher: Hasher,
    to: u64,
    there: Segments,
}

impl Hashed {
    /// Whether more could be hashed.
    fn lags(&self) -> bool {
        self.there.end_from(self.to) > self.to
    }
}
