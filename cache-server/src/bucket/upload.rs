//! Content on its way to the bucket, hashed once more: what rotted on the disk never gets there.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt as _, PutPayload};
use tokio_util::sync::CancellationToken;

use super::keys::Key;
use super::{Bucket, Error, Operation, brief};
use crate::oci::{Digest, Hasher};

/// Bytes that are in memory for an upload. What has no more goes in one request.
const PART: u64 = 8 << 20;
/// S3 takes 10,000 parts.
const MOST_PARTS: u64 = 9000;

impl Bucket {
    /// Puts content under its digest, in the place of what may be there. It is there whole and right, or nothing changes. `stop` ends it.
    pub async fn upload(
        &self,
        digest: &Digest,
        file: Arc<File>,
        size: u64,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let key = self.keys.content(digest);
        if size <= PART {
            let (bytes, hasher) = self.piece(&key, &file, 0, size, hasher(digest)).await?;
            if hasher.finish() != *digest {
                return Err(rotten(&key));
            }
            return self.put(&key, bytes).await;
        }
        let mut upload = self
            .objects
            .put_multipart(&key)
            .await
            .map_err(|error| self.not_written(&key, &error))?;
        let sent = tokio::select! {
            sent = self.parts(&key, digest, &file, size, upload.as_mut()) => sent,
            () = stop.cancelled() => Err(Error::Request {
                operation: Operation::Write.as_str(),
                key: key.to_string(),
                reason: "the server ends".to_owned(),
            }),
        };
        let ended = match sent {
            Ok(()) => upload
                .complete()
                .await
                .map_err(|error| self.not_written(&key, &error)),
            Err(error) => Err(error),
        };
        if ended.is_err() {
            // Parts would be paid for until a lifecycle rule takes them away.
            let aborted = upload.abort().await;
            if let Err(error) = aborted {
                let reason = brief(&error);
                tracing::warn!(%key, reason, "failed to take back an unfinished upload of {key}");
            }
            return ended.map(|_| ());
        }
        self.count(Operation::Write, "ok");
        self.count_written(size);
        Ok(())
    }

    async fn parts(
        &self,
        key: &Key,
        digest: &Digest,
        file: &Arc<File>,
        size: u64,
        upload: &mut dyn MultipartUpload,
    ) -> Result<(), Error> {
        let length = PART.max(size.div_ceil(MOST_PARTS));
        let (mut hasher, mut offset) = (hasher(digest), 0);
        while offset < size {
            let count = length.min(size - offset);
            let (bytes, next) = self.piece(key, file, offset, count, hasher).await?;
            hasher = next;
            offset += count;
            upload
                .put_part(PutPayload::from_bytes(bytes))
                .await
                .map_err(|error| self.not_written(key, &error))?;
        }
        if hasher.finish() == *digest {
            Ok(())
        } else {
            Err(rotten(key))
        }
    }

    /// Reads and hashes a piece of the file.
    async fn piece(
        &self,
        key: &Key,
        file: &Arc<File>,
        offset: u64,
        count: u64,
        mut hasher: Hasher,
    ) -> Result<(Bytes, Hasher), Error> {
        let file = file.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; usize::try_from(count).unwrap_or_default()];
            file.read_exact_at(&mut bytes, offset)?;
            hasher.update(&bytes);
            io::Result::Ok((Bytes::from(bytes), hasher))
        });
        let read = reading
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        read.map_err(|error| Error::Request {
            operation: Operation::Write.as_str(),
            key: key.to_string(),
            reason: format!("failed to read the content: {error}"),
        })
    }

    fn not_written(&self, key: &Key, error: &object_store::Error) -> Error {
        self.failed(Operation::Write, key, brief(error))
    }
}

fn hasher(digest: &Digest) -> Hasher {
    Hasher::new(digest.algorithm())
}

fn rotten(key: &Key) -> Error {
    Error::Rotten {
        key: key.to_string(),
    }
}
