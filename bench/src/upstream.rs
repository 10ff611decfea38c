//! A registry inside this process, as slow as it is told to be. It counts.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::content::{Content, MANIFEST_TYPE, Thing};

/// Written at once.
const PIECE: usize = 64 * 1024;
/// A thread that slept too long makes up for it; what was not used for longer is lost.
const LATE: Duration = Duration::from_millis(10);

/// A running upstream. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    content: Content,
    manner: Mutex<Manner>,
    /// When the next byte may leave, where all connections share a rate.
    free: Mutex<Instant>,
    sent: Mutex<HashMap<String, Sent>>,
}

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Before each answer.
    pub(crate) latency: Duration,
    pub(crate) rate: Rate,
    /// Whether it gives parts of blobs to who asks for them.
    pub(crate) ranges: bool,
}

/// Bytes of blobs in a second.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rate {
    Unbounded,
    /// On each connection.
    Each(u64),
    /// On all connections together.
    Shared(u64),
}

/// What was asked for of a blob.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    pub(crate) gets: usize,
    pub(crate) bytes: u64,
}

impl Upstream {
    pub(crate) fn start(content: Content) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        let shared = Arc::new(Shared {
            content,
            manner: Mutex::new(Manner {
                latency: Duration::ZERO,
                rate: Rate::Unbounded,
                ranges: false,
            }),
            free: Mutex::new(Instant::now()),
            sent: Mutex::default(),
        });
        let upstream = Self {
            address,
            shared: shared.clone(),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that goes away is no error.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Ok(upstream)
    }

    /// How it behaves from now on.
    pub(crate) fn be(&self, manner: Manner) {
        *lock(&self.shared.manner) = manner;
    }

    /// What was sent of a blob.
    pub(crate) fn sent(&self, digest: &str) -> Sent {
        lock(&self.shared.sent)
            .get(digest)
            .copied()
            .unwrap_or_default()
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        let mut unread = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = unread.windows(4).position(|four| four == b"\r\n\r\n") {
                    break at + 4;
                }
                let mut buffer = [0; 4096];
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    return Ok(());
                }
                unread.extend_from_slice(&buffer[..count]);
            };
            let head = String::from_utf8_lossy(&unread[..end]).into_owned();
            unread.drain(..end);
            let manner = *lock(&self.manner);
            thread::sleep(manner.latency);
            self.answer(&mut stream, &head, manner)?;
        }
    }

    fn answer(&self, stream: &mut TcpStream, request: &str, manner: Manner) -> std::io::Result<()> {
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let path = path.split('?').next().unwrap_or("");
        if path == "/v2/" {
            return stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
        let reference = path.rsplit('/').next().unwrap_or("");
        let Some(thing) = self.content.find(reference) else {
            return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        };
        let (kind, digest, size) = match &thing {
            Thing::Blob { size, .. } => ("application/octet-stream", reference, *size),
            Thing::Manifest { digest, text } => (MANIFEST_TYPE, digest.as_str(), text.len()),
        };
        let part = range(request).filter(|_| manner.ranges);
        let part = match &thing {
            Thing::Blob { .. } => part.filter(|part| part.start < size),
            Thing::Manifest { .. } => None,
        };
        let (status, part, place) = match part {
            Some(part) => {
                let part = part.start..part.end.min(size);
                let place = format!(
                    "Content-Range: bytes {}-{}/{size}\r\n",
                    part.start,
                    part.end - 1
                );
                ("206 Partial Content", part, place)
            }
            None => ("200 OK", 0..size, String::new()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n{place}\r\n",
            part.len()
        );
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        match &thing {
            Thing::Manifest { text, .. } => stream.write_all(text),
            Thing::Blob { seed, size } => {
                let mut sent = lock(&self.sent);
                let sent_of_it = sent.entry(digest.to_owned()).or_default();
                sent_of_it.gets += 1;
                sent_of_it.bytes += part.len() as u64;
                drop(sent);
                let (first, rest) = self.content.parts(*seed, *size);
                let own = part.start.min(first.len())..part.end.min(first.len());
                stream.write_all(&first[own])?;
                let shared = part.start.max(first.len())..part.end.max(first.len());
                self.write_slowly(
                    stream,
                    &rest[shared.start - first.len()..shared.end - first.len()],
                    manner.rate,
                )
            }
        }
    }

    fn write_slowly(
        &self,
        stream: &mut TcpStream,
        bytes: &[u8],
        rate: Rate,
    ) -> std::io::Result<()> {
        let own = Mutex::new(Instant::now());
        let (free, rate) = match rate {
            Rate::Unbounded => return stream.write_all(bytes),
            Rate::Each(rate) => (&own, rate),
            Rate::Shared(rate) => (&self.free, rate),
        };
        for piece in bytes.chunks(PIECE) {
            stream.write_all(piece)?;
            let takes = Duration::from_micros(piece.len() as u64 * 1_000_000 / rate);
            let due = {
                let mut free = lock(free);
                let now = Instant::now();
                if *free + LATE < now {
                    *free = now;
                }
                *free += takes;
                *free
            };
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

/// The part that a request asks for, if it asks for one with two ends.
fn range(request: &str) -> Option<Range<usize>> {
    let value = request.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("range").then_some(value.trim())
    })?;
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<usize>().ok()? + 1)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
