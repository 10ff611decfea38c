//! The store: content by digest, and small records by repository. The disk is the truth; the index beside it is rebuilt at
//! each start, and decides about nothing but room.
//! All calls block; callers keep them off the async workers. Never imports `upstream`.

pub mod commit;
pub mod filesystem;
pub mod index;
pub mod layout;
pub mod recency;
pub mod records;
pub mod removal;
mod step;
pub mod temporary;
pub mod verify;

use std::io;
use std::path::PathBuf;

pub use commit::{Finished, Synced};
pub use filesystem::{Store, StoredBlob};
pub use index::{Entry, Key, Kind};
pub use records::{ReferrersRecord, TagRecord};
pub use removal::StoredTag;
pub use temporary::TemporaryBlob;
pub use verify::Verdict;

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "failed to open the store {path}: its version file says {found:?}, and this build knows {known:?}; use another directory or a matching build",
        known = filesystem::VERSION
    )]
    Version { path: PathBuf, found: String },
    #[error(
        "failed to open the store {path}: it is not empty and has no version file, so it is not a store"
    )]
    NotAStore { path: PathBuf },
    #[error("failed to open the store {path}: it has no version file, so it is not a store")]
    NoStore { path: PathBuf },
    #[error("failed to commit {digest}: the content's digest is {found}")]
    Mismatch { digest: String, found: String },
}

impl Error {
    /// Whether it failed for want of room.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }

    /// Whether it failed because the disk takes nothing at all: it is full or read-only.
    pub fn is_unwritable(&self) -> bool {
        let read_only = matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem);
        read_only || self.is_full()
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod model;
