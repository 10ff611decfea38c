//! Bodies of answers. `File` and `Growing` stay regions of files to the last moment, so that a connection that can send
//! files without reading them may do so.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use http_body::{Frame, SizeHint};
use tokio::task::JoinHandle;

use super::buffers::{Attempt, Buffers};
use super::sendfile::{self, Data, Slot};
use crate::cache;
use crate::cache::answer::{Content, ContentStream};
use crate::cache::growing::Growing;

/// Why a body can't be ended. The connection is then closed short of Content-Length.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Cache(cache::Error),
    #[error("failed to read stored content: {0}")]
    Read(io::Error),
    #[error("failed to pass a body through: it is longer than was said")]
    TooLong,
    #[error("failed to send a file: the connection can't have it without reading it")]
    Marker,
}

/// The bytes of an answer.
#[derive(Debug)]
pub enum Body {
    Empty,
    Bytes(Bytes),
    File(FileRegion),
    Growing(GrowingRegion),
    Stream(Passing),
}

/// A part of a file that does not change any more.
#[derive(Debug)]
pub struct FileRegion {
    file: Arc<File>,
    left: Range<u64>,
    buffers: Buffers,
    /// There if the connection can send files without reading them.
    slot: Option<Slot>,
    waiting: Option<JoinHandle<io::Result<Bytes>>>,
}

/// A part of a file that is being written.
pub struct GrowingRegion {
    /// What is there to be read now.
    region: FileRegion,
    end: u64,
    reader: Option<Growing>,
    waiting: Option<BoxFuture<'static, Waited>>,
}

/// A reader, and what it can read now.
type Waited = (Growing, Result<Range<u64>, cache::Error>);

impl std::fmt::Debug for GrowingRegion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrowingRegion")
            .field("region", &self.region)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

/// A body that comes through.
pub struct Passing {
    stream: ContentStream,
    left: Option<u64>,
}

impl std::fmt::Debug for Passing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passing")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl Body {
    /// `length` is what is said in Content-Length.
    pub fn new(
        content: Content,
        length: Option<u64>,
        buffers: &Buffers,
        slot: Option<&Slot>,
    ) -> Self {
        match content {
            Content::Nothing => Self::Empty,
            Content::Bytes(bytes) => Self::Bytes(bytes),
            Content::File { file, range } => {
                Self::File(FileRegion::new(file, range, buffers, slot))
            }
            Content::Growing(reader) => {
                let left = reader.left();
                Self::Growing(GrowingRegion {
                    region: FileRegion::new(reader.file(), left.start..left.start, buffers, slot),
                    end: left.end,
                    reader: Some(reader),
                    waiting: None,
                })
            }
            Content::Stream(stream) => Self::Stream(Passing {
                stream,
                left: length,
            }),
        }
    }

    /// Whether its first byte may come long after the head.
    pub fn may_wait(&self) -> bool {
        matches!(self, Self::Growing(_) | Self::Stream(_)) && self.left() != Some(0)
    }

    fn left(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File(region) => Some(region.left.end - region.left.start),
            Self::Growing(growing) => Some(growing.end - growing.region.left.start),
            Self::Stream(passing) => passing.left,
        }
    }
}

impl http_body::Body for Body {
    type Data = Data;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Data>, Error>>> {
        let data = match self.get_mut() {
            Self::Empty => None,
            Self::Bytes(bytes) if bytes.is_empty() => None,
            Self::Bytes(bytes) => Some(Ok(std::mem::take(bytes).into())),
            Self::File(region) => ready!(region.poll_next(context)),
            Self::Growing(growing) => ready!(growing.poll_next(context)),
            Self::Stream(passing) => ready!(passing.poll_next(context)),
        };
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        // A stream's end must be seen: it says whether the content was right.
        !matches!(self, Self::Stream(_)) && self.left() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left()
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

type Next = Option<Result<Data, Error>>;

impl FileRegion {
    fn new(file: Arc<File>, left: Range<u64>, buffers: &Buffers, slot: Option<&Slot>) -> Self {
        Self {
            file,
            left,
            buffers: buffers.clone(),
            slot: slot.cloned(),
            waiting: None,
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if let Some(slot) = &self.slot
            && self.waiting.is_none()
            && self.left.end - self.left.start >= sendfile::LEAST
        {
            let region = self.left.clone();
            self.left.start = self.left.end;
            return Poll::Ready(Some(Ok(slot.arm(self.file.clone(), region))));
        }
        let read = match &mut self.waiting {
            Some(waiting) => {
                let read = ready!(waiting.poll_unpin(context));
                self.waiting = None;
                read.unwrap_or_else(|error| Err(io::Error::other(error)))
            }
            None => match self.start() {
                Ok(Attempt::Read(bytes)) => Ok(bytes),
                Ok(Attempt::WouldBlock) => {
                    let (file, buffers, left) =
                        (self.file.clone(), self.buffers.clone(), self.left.clone());
                    self.waiting = Some(tokio::task::spawn_blocking(move || {
                        buffers.read(&file, left.start, left.end - left.start)
                    }));
                    return self.poll_next(context);
                }
                Err(error) => Err(error),
            },
        };
        Poll::Ready(Some(match read {
            Ok(bytes) => {
                self.left.start += bytes.len() as u64;
                Ok(bytes.into())
            }
            Err(error) => Err(Error::Read(error)),
        }))
    }

    // On the worker: what is in the page cache is copied quicker than a thread is woken.
    fn start(&self) -> io::Result<Attempt> {
        let length = self.left.end - self.left.start;
        self.buffers.try_read(&self.file, self.left.start, length)
    }
}

impl GrowingRegion {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        loop {
            if !self.region.left.is_empty() {
                return self.region.poll_next(context);
            }
            if let Some(waiting) = &mut self.waiting {
                let (mut reader, readable) = ready!(waiting.poll_unpin(context));
                self.waiting = None;
                match readable {
                    Ok(range) => {
                        reader.advance(range.end - range.start);
                        self.region.left = range;
                        self.reader = Some(reader);
                    }
                    Err(error) => return Poll::Ready(Some(Err(Error::Cache(error)))),
                }
            } else {
                if self.region.left.start >= self.end {
                    return Poll::Ready(None);
                }
                let Some(mut reader) = self.reader.take() else {
                    return Poll::Ready(None);
                };
                self.waiting = Some(
                    async move {
                        let readable = reader.readable().await;
                        (reader, readable)
                    }
                    .boxed(),
                );
            }
        }
    }
}

impl Passing {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let next = ready!(Pin::new(&mut self.stream).poll_next(context));
        Poll::Ready(match next {
            Some(Ok(bytes)) => match &mut self.left {
                Some(left) if *left < bytes.len() as u64 => Some(Err(Error::TooLong)),
                Some(left) => {
                    *left -= bytes.len() as u64;
                    Some(Ok(bytes.into()))
                }
                None => Some(Ok(bytes.into())),
            },
            Some(Err(error)) => Some(Err(Error::Cache(error))),
            None => None,
        })
    }
}
