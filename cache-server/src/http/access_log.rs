//! One line and one count for each request, when its body has ended. No queries, tokens or addresses are in it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::body::{Body, Error};
use crate::cache::CacheOutcome;
use crate::metrics::Metrics;

/// What is known of a request before its body is sent.
#[derive(Debug)]
pub struct Record {
    pub started: Instant,
    pub method: String,
    /// `manifest`, `blob`, `referrers`, `tags`, `ping` or `other`.
    pub kind: &'static str,
    pub upstream: String,
    pub repository: String,
    pub reference: String,
    pub status: u16,
    pub outcome: CacheOutcome,
}

/// A body that is watched.
#[derive(Debug)]
pub struct Observed {
    body: Body,
    record: Record,
    metrics: Arc<Metrics>,
    log: bool,
    sent: u64,
    failure: Option<String>,
}

impl Observed {
    /// The head is ready now.
    pub fn new(body: Body, record: Record, metrics: Arc<Metrics>, log: bool) -> Self {
        let outcome = record.outcome.as_str();
        metrics
            .time_to_first_byte
            .with_label_values(&[outcome])
            .observe(record.started.elapsed().as_secs_f64());
        metrics
            .requests
            .with_label_values(&[record.kind, outcome])
            .inc();
        Self {
            body,
            record,
            metrics,
            log,
            sent: 0,
            failure: None,
        }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.sent += frame.data_ref().map_or(0, |bytes| bytes.len() as u64),
            Some(Err(error)) => self.failure = Some(error.to_string()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let Record {
            started,
            method,
            kind,
            upstream,
            repository,
            reference,
            status,
            outcome,
        } = &self.record;
        if self.sent > 0 && !upstream.is_empty() {
            let source = if outcome.is_from_cache() {
                "cache"
            } else {
                "upstream"
            };
            self.metrics
                .response_bytes
                .with_label_values(&[upstream.as_str(), source])
                .inc_by(self.sent);
        }
        if self.log {
            let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(
                target: "access",
                method, kind, upstream, repository, reference, status,
                outcome = outcome.as_str(),
                bytes = self.sent,
                duration_ms,
                failure = self.failure.as_deref(),
                "{method} {kind} {upstream}/{repository} {reference} {status} {}",
                outcome.as_str()
            );
        }
    }
}
