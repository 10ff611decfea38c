//! What was done with a request, in one word for log, metric and header.

/// The word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheOutcome {
    /// From the store, without the upstream.
    Hit,
    /// From the upstream, and stored on the way where it has a body.
    Miss,
    /// From the bucket that replicas share, and stored on the way.
    Bucket,
    /// From another client's running fetch.
    Joined,
    /// From the store although its time is over, since the upstream failed or hung.
    Stale,
    /// From the store, after the upstream confirmed it.
    Revalidated,
    /// Passed through since the policy or the kind of request says so.
    Forwarded,
    /// Passed through since the store can't take it or a part is not worth a fill.
    Bypass,
    /// Answered "not found" by the policy.
    Refused,
    /// Answered "forbidden" by the policy.
    Denied,
    /// The client did not show what `access` wants.
    Unauthorized,
    /// The upstream does not have it or does not give it.
    NotFound,
    /// The upstream failed and there is no copy.
    Unavailable,
    /// The request itself is wrong.
    Invalid,
    /// Answered by the server itself, without upstream or store.
    Local,
}

impl CacheOutcome {
    /// How many there are: `Local` stands last.
    pub const COUNT: usize = Self::Local as usize + 1;

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bucket => "bucket",
            Self::Joined => "joined",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Forwarded => "forwarded",
            Self::Bypass => "bypass",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::Local => "local",
        }
    }

    /// The value of `Cache-Status` (RFC 9211).
    pub const fn cache_status(self) -> &'static str {
        match self {
            Self::Hit => "larder; hit",
            Self::Miss => "larder; fwd=miss; stored",
            Self::Bucket => "larder; hit; detail=bucket",
            Self::Joined => "larder; fwd=miss; collapsed",
            Self::Stale => "larder; hit; detail=stale",
            Self::Revalidated => "larder; hit; detail=revalidated",
            Self::Forwarded => "larder; fwd=bypass; detail=forwarded",
            Self::Bypass => "larder; fwd=bypass",
            Self::Refused => "larder; detail=refused",
            Self::Denied => "larder; detail=denied",
            Self::Unauthorized => "larder; detail=unauthorized",
            Self::NotFound => "larder; fwd=miss; detail=not_found",
            Self::Unavailable => "larder; fwd=miss; detail=unavailable",
            Self::Invalid => "larder; detail=invalid",
            Self::Local => "larder; detail=local",
        }
    }

    /// Whether the bytes of the body were in the store, or in the bucket, when the request came.
    pub const fn is_from_cache(self) -> bool {
        matches!(
            self,
            Self::Hit | Self::Bucket | Self::Stale | Self::Revalidated | Self::Joined
        )
    }
}
