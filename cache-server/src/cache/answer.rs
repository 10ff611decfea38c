//! What the cache hands to whoever serves: facts about the content, and where its bytes are.

use std::fs::File;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;

use super::byte_range::ByteRange;
use super::growing::Growing;
use super::{CacheOutcome, Error};
use crate::oci::{Digest, MediaType, media_type};
use crate::storage::StoredBlob;

/// A `Warning` header (OCI distribution specification, "Warnings").
const UNSTORED: &str = "299 - \"the cache could not store this, and passed it through\"";

/// A successful answer.
#[derive(Debug)]
pub struct Answer {
    pub outcome: CacheOutcome,
    pub digest: Option<Digest>,
    /// Empty if nobody said it.
    pub media_type: MediaType,
    /// Size of the whole content, also if only a part or nothing of it is in `content`.
    pub size: Option<u64>,
    /// The part that is in `content`; `None`: the whole.
    pub range: Option<Range<u64>>,
    /// Whether the content can never be another, since it was asked for by its digest.
    pub immutable: bool,
    /// What the client should know about a stale answer.
    pub warning: Option<String>,
    /// Query of the next page of a list.
    pub next_page: Option<String>,
    /// Filters that were applied to a list of referrers.
    pub filters: Option<String>,
    pub content: Content,
}

/// Where the bytes are. What is not `Stream` can be sent without passing through this process' memory.
pub enum Content {
    /// The client asked for the head only.
    Nothing,
    Bytes(Bytes),
    /// A part of a file that does not change any more.
    File {
        file: Arc<File>,
        range: Range<u64>,
    },
    /// A part of a file that is being written.
    Growing(Growing),
    Stream(ContentStream),
}

pub type ContentStream = Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>;

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Bytes(_) => "Bytes",
            Self::File { .. } => "File",
            Self::Growing(_) => "Growing",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Answer {
    /// An answer about content, without the content.
    pub(super) fn about(
        outcome: CacheOutcome,
        digest: Option<Digest>,
        media_type: MediaType,
        size: Option<u64>,
    ) -> Self {
        Self {
            outcome,
            digest,
            media_type,
            size,
            range: None,
            immutable: false,
            warning: None,
            next_page: None,
            filters: None,
            content: Content::Nothing,
        }
    }

    /// A blob, all of it or a part.
    pub(super) fn stored_blob(
        outcome: CacheOutcome,
        digest: &Digest,
        blob: StoredBlob,
        range: ByteRange,
    ) -> Result<Self, Error> {
        let StoredBlob { file, size } = blob;
        let range = range.resolve(size).map_err(|_| Error::Range { size })?;
        Ok(Self {
            range: range.clone(),
            content: Content::File {
                file,
                range: range.unwrap_or(0..size),
            },
            ..Self::blob(outcome, digest, Some(size))
        })
    }

    /// The client is told that this was not stored.
    pub(super) fn unstored(self) -> Self {
        Self {
            warning: Some(UNSTORED.to_owned()),
            ..self
        }
    }

    pub(super) fn blob(outcome: CacheOutcome, digest: &Digest, size: Option<u64>) -> Self {
        Self {
            immutable: true,
            ..Self::about(
                outcome,
                Some(digest.clone()),
                MediaType::known(media_type::BLOB),
                size,
            )
        }
    }
}
