//! What is taken from the bucket that replicas share: content, which is compared with its digest like any other, and what
//! they wrote down of repositories. Whatever fails there, the upstream is asked instead.

use std::sync::Arc;

use super::manifest::{Key, Stored};
use super::{Cache, Error, Origin};
use crate::bucket::{Bucket, Object};
use crate::oci::manifest::Manifest;
use crate::oci::{Digest, MAXIMUM_MANIFEST, Tag};
use crate::storage::TagRecord;

/// Bytes of a record at most: that of a tag, or a media type.
const RECORD: u64 = 4096;

/// Content in the bucket that the repository may have.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) object: Object,
    /// Whether the bucket says that the repository has it. What a manifest in the store says, the bucket was told with the manifest.
    pub(super) is_written_down: bool,
}

impl Cache {
    pub(super) fn bucket(&self) -> Option<&Arc<Bucket>> {
        self.0.bucket.as_ref()
    }

    /// Whether a replica wrote down that the repository has the content.
    pub(super) async fn is_shared_member(&self, origin: &Origin, digest: &Digest) -> bool {
        let Some(bucket) = self.bucket() else {
            return false;
        };
        let key = bucket
            .keys()
            .member(origin.host(), &origin.repository, digest);
        let found = bucket.size(&key).await;
        found
            .inspect_err(|error| tracing::debug!(%error, "going on without the bucket"))
            .is_ok_and(|found| found.is_some())
    }

    /// Size of the content, if the bucket has it and the repository is known to. `member`: known from the store.
    pub(super) async fn shared_size(
        &self,
        origin: &Origin,
        digest: &Digest,
        member: bool,
    ) -> Option<u64> {
        let bucket = self.bucket().filter(|_| !self.0.sharing.is_wrong(digest))?;
        let key = bucket.keys().content(digest);
        let (size, member) = tokio::join!(bucket.size(&key), async {
            member || self.is_shared_member(origin, digest).await
        });
        size.ok().flatten().filter(|_| member)
    }

    /// The content, if the bucket has it. That the repository has it is proven: by the store, by the bucket, or by the upstream.
    pub(super) async fn open_shared(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<Option<Shared>, Error> {
        let known = !self.0.sharing.is_wrong(digest);
        let Some(bucket) = self.bucket().filter(|_| known) else {
            return Ok(None);
        };
        let (host, repository, name) = (
            origin.host().clone(),
            origin.repository.clone(),
            digest.clone(),
        );
        let member = self
            .blocking(move |store| Ok(store.is_member(&host, &repository, &name)))
            .await?;
        let key = bucket.keys().content(digest);
        let (found, is_written_down) = tokio::join!(bucket.open(&key), async {
            !member && self.is_shared_member(origin, digest).await
        });
        let object = match found {
            Ok(Some(object)) => object,
            Ok(None) => return Ok(None),
            Err(error) => {
                tracing::debug!(%error, "asking the upstream instead of the bucket");
                return Ok(None);
            }
        };
        if !member && !is_written_down {
            self.confirm_with_upstream(origin, digest).await?;
        }
        Ok(Some(Shared {
            object,
            is_written_down: member || is_written_down,
        }))
    }

    /// A manifest that a replica wrote down for the repository. It is in the store then.
    pub(super) async fn shared_manifest(&self, origin: &Origin, digest: &Digest) -> Option<Stored> {
        let bucket = self.bucket().filter(|_| !self.0.sharing.is_wrong(digest))?;
        let keys = bucket.keys();
        let content = keys.content(digest);
        let record = keys.manifest(origin.host(), &origin.repository, digest);
        let (content, record) = tokio::join!(
            bucket.read(&content, MAXIMUM_MANIFEST),
            bucket.read(&record, RECORD)
        );
        let content = content.ok().flatten()?;
        if !digest.names(&content) {
            self.distrust(digest);
            return None;
        }
        let media_type = match record.ok()? {
            Some(text) => String::from_utf8(text.to_vec()).ok()?,
            // An index of the repository refers to it: it may be served.
            None if self.is_shared_member(origin, digest).await => {
                Manifest::parse(&content).ok()?.media_type
            }
            None => return None,
        };
        let stored = self
            .checked(origin, digest.clone(), Some(media_type), content)
            .ok()?;
        self.keep(origin, &stored).await;
        Some(stored)
    }

    /// What a replica wrote down of the tag, asked once for all who want to know.
    pub(super) async fn shared_tag(&self, origin: &Origin, tag: &Tag) -> Option<TagRecord> {
        let bucket = self.bucket()?.clone();
        let path = bucket.keys().tag(origin.host(), &origin.repository, tag);
        let key = Key::new(origin, tag);
        let mut seat = self.0.shared_tags.join(&key, &self.0.tasks, || async move {
            let text = bucket.read(&path, RECORD).await.ok().flatten()?;
            serde_json::from_slice(&text).ok()
        });
        let record: TagRecord = seat.wait().await.flatten()?;
        let gone = self.gone_since(origin, tag);
        (gone.is_none_or(|gone| record.checked_at > gone)).then_some(record)
    }

    /// Notes that the bucket's object is not what its key says: the upstream's takes its place.
    pub(super) fn distrust(&self, digest: &Digest) -> Error {
        self.0.metrics.bucket_wrong.inc();
        tracing::error!(%digest, "the bucket's content is not what its digest says; it is fetched from the upstream and replaced");
        self.0.sharing.distrust(digest);
        let reason = format!(
            "failed to take {digest} from the bucket: its content is not what the digest says"
        );
        Error::Bucket(reason.into())
    }
}
