//! One address for several servers, as a Kubernetes Service is: each connection goes to the next of them, and stays there. A
//! connection can be held in the middle of what it brings; those of a server can be cut, and it can be taken out.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::node::ADDRESS;

/// A running balancer. Dropping it ends it.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

#[derive(Debug)]
struct Shared {
    servers: Vec<Server>,
    next: AtomicUsize,
    /// A connection that has brought more bytes than this is held, if it is the first one.
    hold_after: u64,
    held: OnceLock<usize>,
}

#[derive(Debug)]
struct Server {
    address: String,
    cut: watch::Sender<()>,
    taken_out: AtomicBool,
}

impl Balancer {
    /// Listens on the node's address. The first connection that has brought more than `hold_after` bytes of its server to its
    /// client brings no more, until it is cut.
    pub fn start(servers: &[String], hold_after: u64) -> Result<Self> {
        let servers = servers.iter().map(|address| Server {
            address: address.clone(),
            cut: watch::Sender::new(()),
            taken_out: AtomicBool::new(false),
        });
        let shared = Arc::new(Shared {
            servers: servers.collect(),
            next: AtomicUsize::new(0),
            hold_after,
            held: OnceLock::new(),
        });
        let runtime = Runtime::new().context("failed to build the balancer's runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind((ADDRESS, 0)))
            .context("failed to listen")?;
        let address = listener.local_addr().context("failed to listen")?;
        runtime.spawn(serve(listener, shared.clone()));
        Ok(Self {
            address,
            shared,
            _runtime: runtime,
        })
    }

    /// The address as a URL without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The server whose connection is held, by its place in the list.
    pub fn held(&self) -> Option<usize> {
        self.shared.held.get().copied()
    }

    /// Ends the connections that the server has: what has not been passed on never is.
    pub fn cut(&self, server: usize) {
        self.shared.servers[server].cut.send_replace(());
    }

    /// The server gets no connections any more.
    pub fn take_out(&self, server: usize) {
        let server = &self.shared.servers[server];
        server.taken_out.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    /// The next server in turn of those that are there, by its place.
    fn next(&self) -> Option<usize> {
        let count = self.servers.len();
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        (start..start + count)
            .map(|number| number % count)
            .find(|number| !self.servers[*number].taken_out.load(Ordering::Relaxed))
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let Some(number) = shared.next() else {
            continue;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut cut = shared.servers[number].cut.subscribe();
            // What breaks on the way is to be seen by both ends, and by nobody here.
            tokio::select! {
                _ = cut.changed() => {}
                _ = connect(&shared, number, client) => {}
            }
        });
    }
}

async fn connect(shared: &Shared, number: usize, client: TcpStream) -> std::io::Result<()> {
    let server = TcpStream::connect(&shared.servers[number].address).await?;
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        asked = tokio::io::copy(&mut from_client, &mut to_server) => asked.map(drop),
        brought = bring(shared, number, from_server, to_client) => brought,
    }
}

async fn bring(
    shared: &Shared,
    number: usize,
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut brought = 0;
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        brought += length as u64;
        if brought > shared.hold_after && shared.held.set(number).is_ok() {
            std::future::pending::<()>().await;
        }
    }
}
