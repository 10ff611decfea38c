//! The thread of a fill that writes, hashes and commits. It blocks; nothing else of a fill does.

use std::sync::Arc;

use bytes::Bytes;
use crds::values::RegistryHost;
use tokio::sync::{mpsc, watch};

use super::fill::Progress;
use crate::oci::{Digest, Hasher, Repository};
use crate::storage::{self, Kind, Store, TemporaryBlob};

/// Pieces on their way from the upstream to the disk; a slow disk slows the upstream down.
const WAITING: usize = 16;

pub(super) enum Message {
    Bytes(Bytes),
    /// The body is whole. A channel that closes without it means a body that is not.
    End,
}

pub(super) fn channel() -> (mpsc::Sender<Message>, mpsc::Receiver<Message>) {
    mpsc::channel(WAITING)
}

/// All that the thread needs.
pub(super) struct Job {
    pub(super) store: Arc<Store>,
    pub(super) host: RegistryHost,
    pub(super) repository: Repository,
    pub(super) digest: Digest,
    pub(super) size: Option<u64>,
    pub(super) blob: TemporaryBlob,
    pub(super) progress: Arc<watch::Sender<Progress>>,
}

pub(super) enum WriteError {
    GivenUp,
    Mismatch,
    Store(storage::Error),
}

impl Job {
    /// Writes until the end, and commits if the content is right. Returns its size.
    pub(super) fn run(self, mut receiver: mpsc::Receiver<Message>) -> Result<u64, WriteError> {
        let mut hasher = Hasher::new(self.digest.algorithm());
        let mut offset = 0;
        loop {
            match receiver.blocking_recv() {
                Some(Message::Bytes(bytes)) => {
                    self.blob
                        .write_at(&bytes, offset)
                        .map_err(WriteError::Store)?;
                    hasher.update(&bytes);
                    let start = offset;
                    offset += bytes.len() as u64;
                    self.progress.send_modify(|progress| {
                        progress.segments.insert(start..offset);
                        progress.hashed = offset;
                    });
                }
                Some(Message::End) => break,
                None => return Err(WriteError::GivenUp),
            }
        }
        if self.size.is_some_and(|size| size != offset) || hasher.finish() != self.digest {
            return Err(WriteError::Mismatch);
        }
        self.progress
            .send_modify(|progress| progress.verified = Some(offset));
        // First who has it, then what: content that is seen in the store is seen with its repository.
        self.store
            .add_member(&self.host, &self.repository, &self.digest)
            .and_then(|()| self.store.commit(self.blob, &self.digest, offset, Kind::Blob))
            .map_err(WriteError::Store)?;
        Ok(offset)
    }
}
