//! A connection whose writes are bytes, except where they are markers: there the kernel sends a file.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::data::is_marker;
use super::job::Step;
use super::slot::Slot;
use crate::http::buffers::Buffers;
use crate::metrics::Metrics;

/// Sent without a pause; then others on the same worker have a turn.
const BURST: usize = 8 * 1024 * 1024;
/// A head and a body that are no longer together are copied into one piece: that costs less than to give the kernel two.
const SMALL: usize = 8 * 1024;

thread_local! {
    /// Where a thread puts pieces together.
    static TOGETHER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(SMALL));
}

/// A client's socket, and what its bodies wait for.
#[derive(Debug)]
pub struct Connection {
    stream: TokioIo<TcpStream>,
    slot: Slot,
    buffers: Buffers,
    metrics: Arc<Metrics>,
    /// A part of the file on its way into the page cache.
    reading: Option<JoinHandle<io::Result<()>>>,
    burst: usize,
}

impl Connection {
    pub fn new(stream: TcpStream, slot: Slot, buffers: Buffers, metrics: Arc<Metrics>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            slot,
            buffers,
            metrics,
            reading: None,
            burst: 0,
        }
    }

    fn stream(&self) -> &TcpStream {
        self.stream.inner()
    }

    /// Something would reach the client that is not what was promised. Nothing more may.
    fn fail(&self, what: &str) -> io::Error {
        self.metrics.sendfile_guard_failures.inc();
        tracing::error!(
            what,
            "closing a connection: what is written is not what was to be sent"
        );
        io::Error::other("what is written is not what was to be sent")
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
        flags: SendFlags,
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream();
        loop {
            ready!(stream.poll_write_ready(context))?;
            let sent = stream.try_io(Interest::WRITABLE, || {
                let flags = flags | SendFlags::NOSIGNAL;
                Ok(rustix::net::send(stream, bytes, flags)?)
            });
            match sent {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                sent => return Poll::Ready(sent),
            }
        }
    }

    /// Sends what the marker stands for.
    fn poll_file(&mut self, context: &mut Context<'_>, marker: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            if let Some(reading) = &mut self.reading {
                let read = ready!(reading.poll_unpin(context));
                self.reading = None;
                read.unwrap_or_else(|error| Err(io::Error::other(error)))?;
            }
            if self.burst >= BURST {
                self.burst = 0;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            let stream = self.stream.inner();
            let Poll::Ready(ready) = stream.poll_write_ready(context) else {
                self.burst = 0;
                return Poll::Pending;
            };
            ready?;
            let mut jobs = self.slot.jobs();
            let Some(job) = jobs.front_mut().filter(|job| job.expects(marker.len())) else {
                drop(jobs);
                return Poll::Ready(Err(self.fail("a marker of another length")));
            };
            match job.step(stream, &self.buffers)? {
                Step::Sent(count) => {
                    if job.is_done() {
                        jobs.pop_front();
                    }
                    self.burst += count;
                    return Poll::Ready(Ok(count));
                }
                Step::Full => {}
                Step::Cold(part) => {
                    self.metrics.sendfile_read_aheads.inc();
                    self.reading = Some(tokio::task::spawn_blocking(move || part.run()));
                }
            }
        }
    }
}

impl Read for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // The library may have copied a marker into its own buffer, where it is zeros.
        if self.slot.is_armed() || is_marker(bytes) {
            return Poll::Ready(Err(self.fail("a plain write")));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let armed = self.slot.is_armed();
        if armed != slices.iter().any(|slice| is_marker(slice)) {
            return Poll::Ready(Err(self.fail(if armed {
                "bytes without a marker"
            } else {
                "a marker without a file"
            })));
        }
        if !armed {
            let length: usize = slices.iter().map(|slice| slice.len()).sum();
            if length > SMALL {
                return Pin::new(&mut self.stream).poll_write_vectored(context, slices);
            }
            return TOGETHER.with_borrow_mut(|together| {
                together.clear();
                for slice in slices {
                    together.extend_from_slice(slice);
                }
                self.poll_send(context, together, SendFlags::empty())
            });
        }
        let mut slices = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = slices.next() else {
            return Poll::Ready(Err(self.fail("nothing")));
        };
        if is_marker(first) {
            return self.poll_file(context, first);
        }
        // The file follows in the same packet.
        let sent = ready!(self.poll_send(context, first, SendFlags::MORE))?;
        let marker = slices.next().filter(|slice| is_marker(slice));
        match marker {
            Some(marker) if sent == first.len() => match self.poll_file(context, marker) {
                Poll::Ready(Ok(count)) => Poll::Ready(Ok(sent + count)),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                // Said at the next call, which asks for the file again.
                Poll::Pending => Poll::Ready(Ok(sent)),
            },
            _ => Poll::Ready(Ok(sent)),
        }
    }

    /// What makes the library keep markers as they are.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
