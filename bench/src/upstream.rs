//! A registry inside this process, as slow as it is told to be. It counts.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::content::{Content, MANIFEST_TYPE, Thing};

/// Written at once.
const PIECE: usize = 64 * 1024;

/// A running upstream. It ends with the process.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    content: Content,
    latency_ms: AtomicU64,
    /// Bytes of a body in a second, for each connection; 0 is no bound.
    rate: AtomicU64,
    gets: Mutex<HashMap<String, usize>>,
}

impl Upstream {
    pub(crate) fn start(content: Content) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        let shared = Arc::new(Shared {
            content,
            latency_ms: AtomicU64::new(0),
            rate: AtomicU64::new(0),
            gets: Mutex::default(),
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
    pub(crate) fn be(&self, latency: Duration, rate: u64) {
        let latency = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        self.shared.latency_ms.store(latency, Ordering::SeqCst);
        self.shared.rate.store(rate, Ordering::SeqCst);
    }

    /// How often a blob was asked for.
    pub(crate) fn gets(&self, digest: &str) -> usize {
        self.shared.count().get(digest).copied().unwrap_or(0)
    }
}

impl Shared {
    fn count(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.gets.lock().unwrap_or_else(PoisonError::into_inner)
    }

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
            thread::sleep(Duration::from_millis(
                self.latency_ms.load(Ordering::SeqCst),
            ));
            self.answer(&mut stream, &head)?;
        }
    }

    fn answer(&self, stream: &mut TcpStream, head: &str) -> std::io::Result<()> {
        let mut words = head.split(' ');
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
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {size}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        if method == "HEAD" {
            return Ok(());
        }
        match &thing {
            Thing::Manifest { text, .. } => stream.write_all(text),
            Thing::Blob { seed, size } => {
                *self.count().entry(digest.to_owned()).or_default() += 1;
                let (first, rest) = self.content.parts(*seed, *size);
                stream.write_all(&first)?;
                self.write_slowly(stream, rest)
            }
        }
    }

    fn write_slowly(&self, stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return stream.write_all(bytes);
        }
        let begun = Instant::now();
        let mut written = 0u64;
        for piece in bytes.chunks(PIECE) {
            stream.write_all(piece)?;
            written += piece.len() as u64;
            let due = Duration::from_micros(written * 1_000_000 / rate);
            thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        Ok(())
    }
}
