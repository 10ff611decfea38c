//! One remote registry: endpoints, credentials and tokens, redirects, and bodies that are resumed when they break.
//! Never imports `storage`.

pub mod auth;
mod authorize;
pub mod blob;
pub mod client;
mod condition;
mod credentials;
mod exchange;
pub mod files;
mod health;
pub mod http_clients;
mod identity;
mod inward;
mod limits;
mod pace;
mod rate_limit;
pub mod redirect;
mod request;
pub mod response;
pub mod token;
mod token_request;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

pub use blob::{BlobStream, Place};
pub use client::{Environment, Upstream};
pub use condition::EndpointCondition;
pub use files::Files;
pub use http_clients::HttpClients;
pub use identity::Surroundings;
pub use pace::Slowest;
pub use response::{Body, Response};

/// How long an upstream may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    pub connect: Duration,
    /// From one request to the head of its answer.
    pub header: Duration,
    /// From the question to the head of its answer, whatever that takes: a place in the queue, signing in, a token, redirects, and
    /// each of the endpoints. Clients wait for it, and go elsewhere when they are told in time.
    pub answer: Duration,
    /// From the question of a client to a whole manifest, which is fetched on: its answer waits for its body.
    pub manifest: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// Of a whole body.
    pub slowest: Slowest,
    /// For a place among the requests that the upstream may be sent at once.
    pub queue: Duration,
}

impl Timeouts {
    /// With another time for heads, and for what waits for them so much more or less.
    #[must_use]
    pub fn with_header(self, header: Duration) -> Self {
        let moved = |time: Duration| header + time.saturating_sub(self.header);
        Self {
            header,
            answer: moved(self.answer),
            manifest: moved(self.manifest),
            ..self
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            // What a registry takes that looks for a rarely used image, and then some.
            header: Duration::from_secs(10),
            answer: Duration::from_secs(12),
            manifest: Duration::from_secs(14),
            idle: Duration::from_secs(30),
            slowest: Slowest::default(),
            queue: Duration::from_secs(10),
        }
    }
}

/// Why an upstream gave nothing. Cloned to everybody who waits for the same answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// 401, 403 or 404: as far as anonymous clients can know, it is not there.
    #[error("failed to find it at {host}: status {status}")]
    NotFound { host: Arc<str>, status: u16 },
    /// The credentials are wrong, or don't unlock it.
    #[error("failed to sign in at {host} for {repository} with its credentials: status {status}")]
    Credentials {
        host: Arc<str>,
        repository: Arc<str>,
        status: u16,
    },
    /// The cloud did not say who the cache is.
    #[error("failed to sign in for {host} as the identity of {provider}: {reason}")]
    SignIn {
        host: Arc<str>,
        provider: &'static str,
        reason: Arc<str>,
    },
    #[error("failed to get it from {host}: status {status}")]
    Status { host: Arc<str>, status: u16 },
    #[error("failed to reach {host}: {reason}")]
    Unreachable { host: Arc<str>, reason: Arc<str> },
    #[error("failed to reach {host}: it did not answer in time")]
    Silent { host: Arc<str> },
    /// 429, or 503 with a time to come back.
    #[error("failed to get it from {host}: it asked for a pause of {} seconds", pause.as_secs())]
    Paused { host: Arc<str>, pause: Duration },
    /// It was not even asked.
    #[error("failed to ask {host}: {reason}, and is asked again in {seconds} seconds")]
    Resting {
        host: Arc<str>,
        reason: &'static str,
        seconds: u64,
    },
    #[error(
        "failed to ask {host}: as many requests as its limits allow are under way, and none ended in time"
    )]
    Busy { host: Arc<str> },
    #[error("failed to read from {host}: {reason}")]
    Broken { host: Arc<str>, reason: Arc<str> },
    #[error(
        "failed to get a token for {host}: the challenge names the realm {realm}, which is not trusted for this upstream"
    )]
    Realm { host: Arc<str>, realm: Arc<str> },
    #[error("failed to follow a redirect of {host}: {reason}")]
    Redirect { host: Arc<str>, reason: Arc<str> },
    #[error("failed to take the answer of {host}: it is larger than {limit} bytes")]
    TooLarge { host: Arc<str>, limit: u64 },
    #[error("failed to set up the client for {host}: {reason}")]
    Setup { host: Arc<str>, reason: Arc<str> },
}

impl Error {
    /// Whether the upstream said no, instead of saying nothing useful.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether it is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotFound { status: 404, .. })
    }

    /// Whether it was waited for in vain.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Silent { .. })
    }

    /// How long the upstream is left alone from now on, if it is known.
    pub fn pause(&self) -> Option<Duration> {
        match self {
            Self::Paused { pause, .. } => Some(*pause),
            Self::Resting { seconds, .. } => Some(Duration::from_secs(*seconds)),
            _ => None,
        }
    }

    /// Whether another endpoint of the same upstream may do better.
    fn is_worth_another_endpoint(&self) -> bool {
        self.is_failure_of_the_endpoint() || matches!(self, Self::Paused { .. })
    }

    /// Whether the endpoint did not do its work, as opposed to an answer that is not liked.
    fn is_failure_of_the_endpoint(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Broken { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            _ => false,
        }
    }

    /// Whether it may have been a moment's weakness. Who waited in vain does not wait again.
    fn is_worth_a_second_try(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Status { status, .. } => matches!(status, 502..=504),
            _ => false,
        }
    }
}

/// The chain of causes in one line, without the URL: it can carry a signed query.
fn reason(error: reqwest::Error) -> Arc<str> {
    use std::error::Error as _;
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text.into()
}
