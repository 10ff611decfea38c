//! The store: content by digest, and small records by repository. The disk is the truth; there is no index beside it.
//! All calls block; callers keep them off the async workers. Never imports `upstream`.

pub mod filesystem;
pub mod layout;
pub mod records;
pub mod temporary;

use std::io;
use std::path::PathBuf;

pub use filesystem::{Store, StoredBlob};
pub use records::TagRecord;
pub use temporary::TemporaryBlob;

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
    #[error("failed to commit {digest}: the content's digest is {found}")]
    Mismatch { digest: String, found: String },
}

impl Error {
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
