//! An HTTP/2 client that sends the frames that a test wants, lawful or not (RFC 9113).

use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TestServer;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// One connection.
pub struct Frames {
    stream: TlsStream<TcpStream>,
}

/// What the server sent.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

impl Frames {
    /// With the preface and settings sent.
    pub async fn connect(server: &TestServer) -> Self {
        let authority = server.authority.as_ref().unwrap();
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(authority.roots())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = TcpStream::connect(server.data_address()).await.unwrap();
        // Small frames would wait for the answer to those before them otherwise.
        socket.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, socket).await.unwrap();
        let mut frames = Self { stream };
        frames
            .stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        assert!(frames.send(SETTINGS, 0, 0, &[]).await);
        frames
    }

    /// Whether the connection still takes it.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// The next frame; `None` at the end.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            payload,
        })
    }

    /// The next frame of that kind, and whatever came before is passed over; `None` at the end.
    pub async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

/// A header block for a GET, without a table that a later one could refer to (RFC 7541).
pub fn get(path: &str) -> Vec<u8> {
    // `:method GET`, `:scheme https`, then `:path` and `:authority` as literals.
    let mut block = vec![0x82, 0x87];
    for (name, value) in [(0x04, path), (0x01, "cache")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block
}

/// A header of that name and value, as part of a block.
pub fn header(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = vec![0, u8::try_from(name.len()).unwrap()];
    block.extend(name.as_bytes());
    if value.len() < 127 {
        block.push(u8::try_from(value.len()).unwrap());
    } else {
        block.push(127);
        let mut rest = value.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128 + 128).unwrap());
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend(value);
    block
}
