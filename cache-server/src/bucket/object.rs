//! An object on its way here.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use object_store::GetResult;

use super::keys::Key;
use super::{Bucket, Error, Operation, brief};

/// The bytes of an object, in order. When the connection breaks, the rest of the same object is asked for.
pub struct Object {
    bucket: Arc<Bucket>,
    key: Key,
    size: u64,
    bytes: BoxStream<'static, object_store::Result<Bytes>>,
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Object")
            .field("key", &self.key)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Object {
    pub(super) fn new(bucket: Arc<Bucket>, key: Key, found: GetResult) -> Self {
        Self {
            bucket,
            key,
            size: found.meta.size,
            bytes: found.into_stream(),
        }
    }

    /// Of the whole, as the bucket says.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        match self.bytes.try_next().await {
            Ok(bytes) => {
                self.bucket.count_read(bytes.as_ref().map_or(0, Bytes::len));
                Ok(bytes)
            }
            Err(error) => Err(self
                .bucket
                .failed(Operation::Read, &self.key, brief(&error))),
        }
    }
}
