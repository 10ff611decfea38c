//! A client that decides itself what goes over its connection, and when.

use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// One connection.
pub struct Raw {
    pub stream: TcpStream,
    unread: Vec<u8>,
}

/// One answer.
#[derive(Debug)]
pub struct RawReply {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
    /// Whether all of Content-Length came.
    pub whole: bool,
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            unread: Vec::new(),
        }
    }

    /// With a small window, so that the server has to wait for it.
    pub async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self {
            stream: socket.connect(address).await.unwrap(),
            unread: Vec::new(),
        }
    }

    pub async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Whether the connection still takes it.
    pub async fn try_write(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).await.is_ok()
    }

    /// The next answer, if there is one before the end.
    pub async fn next_reply(&mut self, to_head: bool) -> Option<RawReply> {
        if self.unread.is_empty() && !self.more().await {
            return None;
        }
        Some(self.reply(to_head).await)
    }

    pub async fn get(&mut self, path: &str) -> RawReply {
        self.write(&format!("GET {path} HTTP/1.1\r\nHost: cache\r\n\r\n"))
            .await;
        self.reply(false).await
    }

    /// The head of the next answer.
    pub async fn head(&mut self) -> RawReply {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(self.more().await, "the connection ended before a head");
        };
        let head = String::from_utf8(self.unread.drain(..end + 4).collect()).unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        RawReply {
            status: status.parse().unwrap(),
            headers: lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect(),
            body: Vec::new(),
            whole: false,
        }
    }

    /// The next answer. Nothing follows the head of an answer to HEAD.
    pub async fn reply(&mut self, to_head: bool) -> RawReply {
        let mut reply = self.head().await;
        let length = match reply.headers.get("content-length") {
            Some(length) if !to_head => length.parse().unwrap(),
            _ => 0,
        };
        while self.unread.len() < length && self.more().await {}
        reply.whole = self.unread.len() >= length;
        let length = length.min(self.unread.len());
        reply.body = self.unread.drain(..length).collect();
        reply
    }

    /// That many bytes of a body whose head was read, or fewer if the connection ends.
    pub async fn rest(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length && self.more().await {}
        let length = length.min(self.unread.len());
        self.unread.drain(..length).collect()
    }

    /// Whether the server has ended the connection and said nothing more.
    pub async fn is_at_end(&mut self) -> bool {
        self.unread.is_empty() && !self.more().await
    }

    async fn more(&mut self) -> bool {
        let mut buffer = vec![0; 16 * 1024];
        let count = self.stream.read(&mut buffer).await.unwrap_or(0);
        self.unread.extend_from_slice(&buffer[..count]);
        count > 0
    }
}
