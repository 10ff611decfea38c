//! Why the cache has no answer, and what that means to whoever asked.

use std::sync::Arc;
use std::time::Duration;

use crds::values::RegistryHost;

use crate::{storage, upstream};

/// The meaning of an [`Error`], as far as clients are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    NotReady,
    UnknownUpstream,
    Refused,
    Denied,
    /// The upstream says that it is not there, or does not show it.
    NotFound,
    /// The upstream failed; later it may not.
    Unavailable,
    /// The upstream answered with something that must not be passed on.
    BadAnswer,
    Range {
        size: Option<u64>,
    },
    Internal,
}

/// Why there is no answer. Cloned to everybody who waits for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("failed to serve it: no policy is in force yet")]
    NotReady,
    #[error("failed to serve it: {0} is not an upstream of this cache")]
    UnknownUpstream(RegistryHost),
    #[error("refused by {0}")]
    Refused(Arc<str>),
    #[error("denied by {0}")]
    Denied(Arc<str>),
    #[error(transparent)]
    Upstream(upstream::Error),
    #[error("failed to take {name} from {host}: its content is not what the digest says")]
    Mismatch { host: Arc<str>, name: Arc<str> },
    #[error("failed to take {name} from {host}: it is not a manifest: {reason}")]
    NotAManifest {
        host: Arc<str>,
        name: Arc<str>,
        reason: Arc<str>,
    },
    #[error("failed to serve the range: the content has {size} bytes")]
    Range { size: u64 },
    #[error("{0}")]
    Store(Arc<storage::Error>),
    /// The bucket that replicas share gave something wrong, or keeps what was to be removed.
    #[error("{0}")]
    Bucket(Arc<str>),
    #[error("failed to store it: what must be kept leaves no room")]
    Full,
    #[error("failed to get an answer in the time that a client with a copy waits")]
    Slow,
    #[error("failed to get it from {0} in time")]
    Late(Arc<str>),
    /// A task went away without an answer: the process is ending, or a bug.
    #[error("failed to wait for the answer: its task ended")]
    Gone,
}

impl Error {
    pub(super) fn store(error: storage::Error) -> Self {
        Self::Store(Arc::new(error))
    }

    /// Whether it is worth remembering for a moment: it would only be found out again. Refusals and failures are not.
    pub(super) fn is_lasting(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_absent(),
            Self::Mismatch { .. } | Self::NotAManifest { .. } => true,
            _ => false,
        }
    }

    /// How long the upstream is left alone from now on, if it is known.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Upstream(error) => error.pause(),
            _ => None,
        }
    }

    /// What it means to a client.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotReady => ErrorKind::NotReady,
            Self::UnknownUpstream(_) => ErrorKind::UnknownUpstream,
            Self::Refused(_) => ErrorKind::Refused,
            Self::Denied(_) => ErrorKind::Denied,
            Self::Range { size } => ErrorKind::Range { size: Some(*size) },
            Self::Upstream(upstream::Error::Status { status: 416, .. }) => {
                ErrorKind::Range { size: None }
            }
            Self::Upstream(error) if error.is_not_found() => ErrorKind::NotFound,
            Self::Upstream(
                upstream::Error::Realm { .. }
                | upstream::Error::Redirect { .. }
                | upstream::Error::TooLarge { .. },
            )
            | Self::Mismatch { .. }
            | Self::NotAManifest { .. } => ErrorKind::BadAnswer,
            Self::Upstream(_) | Self::Slow | Self::Late(_) | Self::Bucket(_) => {
                ErrorKind::Unavailable
            }
            Self::Store(_) | Self::Full | Self::Gone => ErrorKind::Internal,
        }
    }
}
