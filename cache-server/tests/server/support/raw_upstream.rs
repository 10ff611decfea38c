//! An upstream that writes to its connections itself: bodies that end where they must not, in any way that a connection can end.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order, as if nothing were missing.
    Close,
    /// By a reset, as when the peer's machine went away.
    Reset,
}

/// Ends each connection after one answer.
pub struct RawUpstream {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl RawUpstream {
    /// `answer`: what is written for a request, from its head in lower case and how many there were before it.
    pub async fn start(
        answer: impl Fn(&str, usize) -> (Vec<u8>, End) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (heads.clone(), Arc::new(answer));
        let server = tokio::spawn(async move {
            // Dropped with this task, and the connections with it.
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                connections.spawn(async move {
                    let Some(head) = head(&mut stream).await else {
                        return;
                    };
                    let number = note(&seen, &head);
                    let (bytes, end) = answer(&head, number);
                    // Who has enough may leave.
                    let _ = stream.write_all(&bytes).await;
                    match end {
                        End::Close => drop(stream.shutdown().await),
                        End::Reset => stream.set_zero_linger().unwrap(),
                    }
                });
            }
        });
        Self {
            address,
            heads,
            server,
        }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the range of each request begins; `None`: it wanted all.
    pub fn asked(&self) -> Vec<Option<usize>> {
        let heads = self.heads.lock().unwrap();
        heads.iter().map(|head| range(head)).collect()
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap().to_ascii_lowercase())
}

/// Keeps the head. How many there were before it.
fn note(heads: &Mutex<Vec<String>>, head: &str) -> usize {
    let mut heads = heads.lock().unwrap();
    heads.push(head.to_owned());
    heads.len() - 1
}

/// Where the range begins that a head asks for.
pub fn range(head: &str) -> Option<usize> {
    let (first, _) = head.split_once("range: bytes=")?.1.split_once('-')?;
    Some(first.parse().unwrap())
}

/// The answer to a request for a part from there to the end.
pub fn rest(content: &[u8], first: usize) -> Vec<u8> {
    let (total, last) = (content.len(), content.len() - 1);
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {first}-{last}/{total}\r\nContent-Length: {}\r\n\r\n",
        total - first
    );
    [head.as_bytes(), &content[first..]].concat()
}
