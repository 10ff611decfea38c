//! The one table from errors to status, OCI code and outcome.

use http::StatusCode;

use super::route;
use crate::cache::{self, CacheOutcome, ErrorKind};
use crate::oci::ErrorCode;

/// Seconds after which a client may come again when an upstream failed, unless more is known.
const RETRY_AFTER: u64 = 5;
/// Most seconds that a client is told: another endpoint or content may be there earlier.
const LONGEST_RETRY_AFTER: u64 = 300;

/// An error answer.
#[derive(Debug)]
pub struct Failure {
    pub status: StatusCode,
    pub code: ErrorCode,
    pub outcome: CacheOutcome,
    pub message: String,
    /// Seconds after which it is worth another try.
    pub retry_after: Option<u64>,
    /// Size of the content, for a range outside of it.
    pub size: Option<u64>,
    /// How the client can say who it is.
    pub challenge: Option<&'static str>,
    /// Whether the connection must not be used for another request.
    pub closes: bool,
}

/// What was asked for, since "not there" has a code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Manifest,
    Blob,
    List,
}

impl Asked {
    const fn unknown(self) -> ErrorCode {
        match self {
            Self::Manifest => ErrorCode::ManifestUnknown,
            Self::Blob => ErrorCode::BlobUnknown,
            Self::List => ErrorCode::NameUnknown,
        }
    }
}

impl Failure {
    fn new(status: StatusCode, code: ErrorCode, outcome: CacheOutcome, message: String) -> Self {
        Self {
            status,
            code,
            outcome,
            message,
            retry_after: None,
            size: None,
            challenge: None,
            closes: false,
        }
    }

    /// A request that can't be meant, whatever the cache holds.
    pub fn of_route(error: &route::Error) -> Self {
        let (status, code, outcome) = match error {
            route::Error::NoSuchPath => (
                StatusCode::NOT_FOUND,
                ErrorCode::Unsupported,
                CacheOutcome::Invalid,
            ),
            route::Error::UnknownUpstream(_) | route::Error::NoUpstream => (
                StatusCode::NOT_FOUND,
                ErrorCode::NameUnknown,
                CacheOutcome::NotFound,
            ),
            route::Error::Name(_) => (
                StatusCode::BAD_REQUEST,
                ErrorCode::NameInvalid,
                CacheOutcome::Invalid,
            ),
            route::Error::Digest(_) => (
                StatusCode::BAD_REQUEST,
                ErrorCode::DigestInvalid,
                CacheOutcome::Invalid,
            ),
            route::Error::Reference(_) => (
                StatusCode::BAD_REQUEST,
                ErrorCode::TagInvalid,
                CacheOutcome::Invalid,
            ),
        };
        Self::new(status, code, outcome, error.to_string())
    }

    /// What the cache could not do.
    pub fn of_cache(error: &cache::Error, asked: Asked) -> Self {
        let kind = error.kind();
        let (status, code, outcome) = match kind {
            // Not 401, which makes containerd send the upstream's credentials here, and not 403, which ends the pull:
            // after 404 the client goes on to the upstream itself.
            ErrorKind::NotFound => (
                StatusCode::NOT_FOUND,
                asked.unknown(),
                CacheOutcome::NotFound,
            ),
            ErrorKind::UnknownUpstream => (
                StatusCode::NOT_FOUND,
                ErrorCode::NameUnknown,
                CacheOutcome::NotFound,
            ),
            ErrorKind::Refused => (
                StatusCode::NOT_FOUND,
                asked.unknown(),
                CacheOutcome::Refused,
            ),
            ErrorKind::Denied => (
                StatusCode::FORBIDDEN,
                ErrorCode::Denied,
                CacheOutcome::Denied,
            ),
            // Never 429, which containerd repeats five times at once.
            ErrorKind::Unavailable | ErrorKind::NotReady | ErrorKind::Internal => (
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Unavailable,
                CacheOutcome::Unavailable,
            ),
            // containerd does not repeat 502.
            ErrorKind::BadAnswer => (
                StatusCode::BAD_GATEWAY,
                ErrorCode::Unknown,
                CacheOutcome::Unavailable,
            ),
            ErrorKind::Range { .. } => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                ErrorCode::RangeInvalid,
                CacheOutcome::Invalid,
            ),
        };
        let size = match kind {
            ErrorKind::Range { size } => size,
            _ => None,
        };
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then(|| {
            let pause = error.pause().map_or(RETRY_AFTER, |pause| pause.as_secs());
            pause.clamp(1, LONGEST_RETRY_AFTER)
        });
        Self {
            retry_after,
            size,
            ..Self::new(status, code, outcome, error.to_string())
        }
    }

    pub fn method() -> Self {
        let message = "only GET and HEAD are served here".to_owned();
        Self {
            closes: true,
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                ErrorCode::Unsupported,
                CacheOutcome::Invalid,
                message,
            )
        }
    }

    /// A GET or HEAD with a body. The rest of the connection can't be trusted to be another request.
    pub fn body() -> Self {
        let message = "a GET or HEAD has no body here".to_owned();
        Self {
            closes: true,
            ..Self::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::Unsupported,
                CacheOutcome::Invalid,
                message,
            )
        }
    }

    /// More than any honest request has in its path or its headers.
    pub fn too_large(status: StatusCode, message: &str) -> Self {
        Self {
            closes: true,
            ..Self::new(
                status,
                ErrorCode::Unsupported,
                CacheOutcome::Invalid,
                message.to_owned(),
            )
        }
    }

    /// To a client that does not show what `access` wants. Without a challenge it is told that it was meant to show it unasked.
    pub fn stranger(challenge: Option<&'static str>) -> Self {
        let (status, code, message) = match challenge {
            Some(_) => (
                StatusCode::UNAUTHORIZED,
                ErrorCode::Unauthorized,
                "this cache wants to know who asks",
            ),
            None => (
                StatusCode::FORBIDDEN,
                ErrorCode::Denied,
                "this cache wants to know who asks, and asks nobody itself: the node must send its credentials with each request",
            ),
        };
        Self {
            challenge,
            ..Self::new(status, code, CacheOutcome::Unauthorized, message.to_owned())
        }
    }

    /// There is no room for this client now.
    pub fn full() -> Self {
        Self {
            closes: true,
            retry_after: Some(RETRY_AFTER),
            ..Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::Unavailable,
                CacheOutcome::Unavailable,
                "this cache has as many connections as it may have".to_owned(),
            )
        }
    }

    pub fn not_ready() -> Self {
        Self::of_cache(&cache::Error::NotReady, Asked::List)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_policy_stops_is_said_with_its_rule() {
        let body = |error: &cache::Error, asked| {
            let failure = Failure::of_cache(error, asked);
            format!(
                "{} {}",
                failure.status.as_u16(),
                failure.code.body(&failure.message)
            )
        };
        let denied = cache::Error::Denied("the rule \"team/no-beta\"".into());
        insta::assert_snapshot!(body(&denied, Asked::Manifest));
        let refused = cache::Error::Refused("the rule \"team/private\"".into());
        insta::assert_snapshot!(body(&refused, Asked::Manifest));
        insta::assert_snapshot!(body(&refused, Asked::Blob));
        insta::assert_snapshot!(body(&refused, Asked::List));
    }
}
