//! An HTTP proxy on loopback that makes tunnels, and says which.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct FakeProxy {
    pub address: SocketAddr,
    tunnels: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl FakeProxy {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tunnels = Arc::default();
        Self {
            address: listener.local_addr().unwrap(),
            server: tokio::spawn(serve(listener, Arc::clone(&tunnels))),
            tunnels,
        }
    }

    /// Targets of the tunnels that were asked for.
    pub fn tunnels(&self) -> Vec<String> {
        self.tunnels.lock().unwrap().clone()
    }
}

impl Drop for FakeProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, tunnels: Arc<Mutex<Vec<String>>>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let tunnels = tunnels.clone();
        tokio::spawn(async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(client.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.strip_prefix("CONNECT ").unwrap();
            let target = target.split(' ').next().unwrap().to_owned();
            tunnels.lock().unwrap().push(target.clone());
            let mut upstream = TcpStream::connect(target).await.unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
        });
    }
}
