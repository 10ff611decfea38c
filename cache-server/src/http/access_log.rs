//! One line and one count for each request, when its body has been sent or its connection has ended. No queries, tokens or
//! addresses are in it.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Buf;
use http::{Method, Request};
use http_body::{Frame, SizeHint};
use tracing::Span;

use super::body::{Body, Error};
use super::client::Running;
use super::route::{RegistryRequest, RequestKind};
use super::sendfile::Data;
use crate::cache::CacheOutcome;
use crate::spans;

/// What is known of a request before its body is sent.
#[derive(Debug)]
pub struct Record {
    pub started: Instant,
    pub method: Method,
    /// `None` if it could not be read.
    pub request: Option<RegistryRequest>,
    pub status: u16,
    pub outcome: CacheOutcome,
    /// Ends with the body.
    pub span: Span,
}

impl Record {
    /// Of a request that has just come.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self {
            started: Instant::now(),
            method: request.method().clone(),
            request: None,
            status: 0,
            outcome: CacheOutcome::Invalid,
            span: spans::request(request.method().as_str()),
        }
    }
}

/// A body that is watched.
#[derive(Debug)]
pub struct Observed {
    body: Body,
    /// Whether the connection knows markers.
    markers: bool,
    /// Whether the first byte is still to come. What need not be waited for goes out with the head.
    awaited: bool,
    observation: Arc<Observation>,
}

/// A piece of a body, which counts what of it was sent.
#[derive(Debug)]
pub struct Piece {
    data: Data,
    observation: Arc<Observation>,
}

/// Shared by a body and its pieces: the last one says the line.
#[derive(Debug)]
struct Observation {
    record: Record,
    running: Running,
    log: bool,
    given: AtomicU64,
    sent: AtomicU64,
    failure: OnceLock<String>,
}

impl Observed {
    /// The head is ready now.
    pub fn new(body: Body, record: Record, log: bool, running: Running) -> Self {
        let kind = kind(record.request.as_ref());
        let awaited = body.may_wait();
        let after = (!awaited).then(|| record.started.elapsed());
        let client = running.client();
        client.tally.answered(kind, record.outcome, after);
        Self {
            body,
            awaited,
            markers: client.slot.is_some(),
            observation: Arc::new(Observation {
                record,
                running,
                log,
                given: AtomicU64::new(0),
                sent: AtomicU64::new(0),
                failure: OnceLock::new(),
            }),
        }
    }

    /// Fails where a marker would be sent as the zeros that it is.
    fn piece(&self, data: Data) -> Result<Piece, Error> {
        let observation = self.observation.clone();
        if matches!(data, Data::Region(_)) && !self.markers {
            let tally = &observation.running.client().tally;
            tally.metrics.sendfile_guard_failures.inc();
            let _ = observation.failure.set(Error::Marker.to_string());
            return Err(Error::Marker);
        }
        observation.running.client().traffic.offer();
        observation
            .given
            .fetch_add(data.remaining() as u64, Ordering::Relaxed);
        Ok(Piece { data, observation })
    }
}

impl http_body::Body for Observed {
    type Data = Piece;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Err(error)) = &frame {
            let _ = self.observation.failure.set(error.to_string());
        } else if std::mem::take(&mut self.awaited) {
            let Observation {
                record, running, ..
            } = &*self.observation;
            let tally = &running.client().tally;
            tally.began(record.outcome, record.started.elapsed());
        }
        let frame = frame.map(|frame| match frame?.into_data() {
            Ok(data) => self.piece(data).map(Frame::data),
            // No body has trailers.
            Err(_) => Ok(Frame::trailers(http::HeaderMap::new())),
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.data.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.data.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.observation
            .sent
            .fetch_add(count as u64, Ordering::Relaxed);
        let client = self.observation.running.client();
        client.traffic.take(count as u64);
        self.data.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.observation.running.client().traffic.withdraw();
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let sent = *self.sent.get_mut();
        let name = self.record.request.as_ref().and_then(RegistryRequest::name);
        if let Some(name) = name.filter(|_| sent > 0) {
            let tally = &self.running.client().tally;
            tally.sent(&name.upstream, self.record.outcome, sent);
        }
        self.end_span(sent);
        if self.log {
            let left = *self.given.get_mut() > sent;
            self.say(sent, left);
        }
    }
}

impl Observation {
    fn end_span(&self, sent: u64) {
        let record = &self.record;
        let span = &record.span;
        if span.is_disabled() {
            return;
        }
        let request = record.request.as_ref();
        span.record("larder.kind", kind(request).as_str());
        span.record("larder.outcome", record.outcome.as_str());
        span.record("larder.bytes", sent);
        span.record("http.response.status_code", record.status);
        if let Some(name) = request.and_then(RegistryRequest::name) {
            span.record("larder.upstream", name.upstream.as_str());
            span.record("larder.repository", name.repository.as_str());
        }
        let reference = request.map(RegistryRequest::reference).unwrap_or_default();
        span.record("larder.reference", reference);
    }

    fn say(&self, sent: u64, left: bool) {
        let Record {
            started,
            method,
            request,
            status,
            outcome,
            span: _,
        } = &self.record;
        let request = request.as_ref();
        let kind = kind(request).as_str();
        let method = method.as_str();
        let name = request.and_then(RegistryRequest::name);
        let upstream = name.map_or("", |name| name.upstream.as_str());
        let repository = name.map_or("", |name| name.repository.as_str());
        let reference = request.map(RegistryRequest::reference).unwrap_or_default();
        let failure = match self.failure.get() {
            Some(failure) => Some(failure.as_str()),
            None => left.then_some("the connection ended before all was sent"),
        };
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "access",
            method, kind, upstream, repository, reference, status,
            outcome = outcome.as_str(),
            bytes = sent,
            duration_ms,
            failure,
            "{method} {kind} {upstream}/{repository} {reference} {status} {}",
            outcome.as_str()
        );
    }
}

fn kind(request: Option<&RegistryRequest>) -> RequestKind {
    request.map_or(RequestKind::Other, RegistryRequest::kind)
}
