//! A client that costs little, so that the servers are what is measured: it has the kernel throw bodies away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::net::RecvFlags;

/// Thrown away at once.
const PIECE: usize = 512 * 1024;

/// One connection that is kept.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// How an answer came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) bytes: u64,
    pub(crate) first_byte: Duration,
    pub(crate) whole: Duration,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context("failed to connect")?;
        stream
            .set_nodelay(true)
            .context("failed to set up a socket")?;
        stream
            .set_read_timeout(Some(Duration::from_mins(1)))
            .context("failed to set up a socket")?;
        Ok(Self {
            stream,
            buffer: vec![0; PIECE],
        })
    }

    /// Asks for something and waits for the head only. Gives the socket with what was not read.
    pub(crate) fn ask(address: SocketAddr, path: &str) -> Result<TcpStream> {
        let mut client = Self::connect(address)?;
        client.send(path)?;
        Ok(client.stream)
    }

    fn send(&mut self, path: &str) -> Result<()> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: bench\r\nAccept: {}\r\n\r\n",
            crate::content::MANIFEST_TYPE
        );
        self.stream
            .write_all(request.as_bytes())
            .context("failed to send a request")
    }

    /// Gets something whole and throws it away.
    pub(crate) fn get(&mut self, path: &str) -> Result<Timing> {
        self.get_at(path, u64::MAX)
    }

    /// The same, and takes no more than so many bytes in a second.
    pub(crate) fn get_at(&mut self, path: &str, rate: u64) -> Result<Timing> {
        let begun = Instant::now();
        self.send(path)?;
        let mut read = 0;
        let end = loop {
            let count = self
                .stream
                .read(&mut self.buffer[read..4096])
                .context("failed to read an answer")?;
            ensure!(count > 0, "{path}: the server closed without an answer");
            let from = read.saturating_sub(3);
            read += count;
            let found = self.buffer[from..read]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break from + at + 4;
            }
            ensure!(read < 4096, "{path}: the head of the answer is too long");
        };
        let bytes = length(&self.buffer[..end]).with_context(|| format!("{path}: a bad answer"))?;
        let mut got = (read - end) as u64;
        let mut first_byte = (got > 0 || bytes == 0).then(|| begun.elapsed());
        let mut free = Instant::now();
        while got < bytes {
            let most = usize::try_from(bytes - got).unwrap_or(PIECE).min(PIECE);
            let (_, count) =
                rustix::net::recv(&self.stream, &mut self.buffer[..most], RecvFlags::TRUNC)
                    .context("failed to read a body")?;
            ensure!(
                count > 0,
                "{path}: the body ended after {got} of {bytes} bytes"
            );
            first_byte.get_or_insert_with(|| begun.elapsed());
            got += count as u64;
            if rate < u64::MAX {
                // A line does not make up for what it did not carry.
                let takes = Duration::from_micros(count as u64 * 1_000_000 / rate);
                free = free.max(Instant::now()) + takes;
                thread::sleep(free.saturating_duration_since(Instant::now()));
            }
        }
        let whole = begun.elapsed();
        Ok(Timing {
            bytes,
            first_byte: first_byte.unwrap_or(whole),
            whole,
        })
    }
}

/// Content-Length of a good answer.
pub(crate) fn length(head: &[u8]) -> Result<u64> {
    let head = std::str::from_utf8(head).context("the head is not text")?;
    let status = head.lines().next().unwrap_or("");
    if !status.contains(" 200 ") {
        bail!("{status}");
    }
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .context("it says no length")
}
