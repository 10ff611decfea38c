//! Accepts connections, not more than there is room for, and lets them end in peace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crds::static_config::Connections;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::Handler;
use super::lanes::Lanes;
use super::serve::{Door, serve};
use super::tls::Certificates;

/// Connections beyond the bound that are answered 503 at the same time. What is more waits in the kernel's queue.
const TURNED_AWAY: usize = 256;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two log lines that say the same.
const QUIET: Duration = Duration::from_secs(10);

/// The data port, or both of them.
#[derive(Debug)]
pub struct Server {
    pub listeners: Vec<Listener>,
    pub lanes: Lanes,
    pub handler: Arc<Handler>,
    pub limits: Connections,
    pub drain: Drain,
}

/// One port.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    /// There if it speaks TLS.
    pub certificates: Option<Arc<Certificates>>,
}

/// How a server is told to end.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// No new requests; running answers go on.
    pub begin: CancellationToken,
    /// Running answers are cut.
    pub cut: CancellationToken,
}

/// Room for connections, on all ports together.
#[derive(Debug)]
struct Room {
    places: Arc<Semaphore>,
    turned_away: Arc<Semaphore>,
    said: Mutex<Option<Instant>>,
}

impl Server {
    /// Serves until draining begins, and then until the last connection ended or `patience` is over.
    pub async fn run(self, patience: Duration) {
        let connections = TaskTracker::new();
        let door = Arc::new(Door {
            handler: self.handler,
            limits: self.limits,
            drain: self.drain,
            crowded: Notify::new(),
        });
        let room = Room {
            places: Arc::new(Semaphore::new(self.limits.maximum as usize)),
            turned_away: Arc::new(Semaphore::new(TURNED_AWAY)),
            said: Mutex::default(),
        };
        let (lanes, listeners) = (&self.lanes, &self.listeners);
        let accepting = listeners
            .iter()
            .map(|listener| accept(listener, lanes, &door, &connections, &room));
        tokio::select! {
            _ = futures::future::join_all(accepting) => {}
            () = door.drain.begin.cancelled() => {}
        }
        // Closed at once, so that clients go elsewhere instead of waiting in the queue.
        drop(self.listeners);
        connections.close();
        if tokio::time::timeout(patience, connections.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = connections.len(),
                "cutting downloads that outlast the drain timeout"
            );
        }
        door.drain.cut.cancel();
        connections.wait().await;
    }
}

async fn accept(
    listener: &Listener,
    lanes: &Lanes,
    door: &Arc<Door>,
    connections: &TaskTracker,
    room: &Room,
) {
    let mut pause = Duration::from_millis(5);
    loop {
        match listener.socket.accept().await {
            Ok((stream, peer)) => {
                pause = Duration::from_millis(5);
                let certificates = listener.certificates.clone();
                let Some(place) = room.place(door).await else {
                    return;
                };
                let (peer, door) = (address(peer), door.clone());
                if certificates.is_some() {
                    // Costs computing most of all, which workers that steal from each other share best.
                    connections.spawn(run(stream, peer, certificates, door, place));
                    continue;
                }
                let metrics = door.handler.metrics.clone();
                let driven = move |stream| run(stream, peer, None, door, place);
                if let Err(error) = lanes.spawn(connections, stream, driven) {
                    metrics.accept_failures.inc();
                    if room.may_say() {
                        tracing::warn!(%error, "failed to give a connection to its thread");
                    }
                }
            }
            Err(error) if is_of_one_connection(&error) => {}
            // Out of file descriptors, most likely: asking again at once would only burn a core.
            Err(error) => {
                door.handler.metrics.accept_failures.inc();
                if room.may_say() {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "failed to accept a connection");
                }
                door.crowded.notify_waiters();
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// What a connection holds while it lasts.
enum Place {
    Served(OwnedSemaphorePermit),
    TurnedAway(OwnedSemaphorePermit),
}

async fn run(
    stream: TcpStream,
    address: IpAddr,
    certificates: Option<Arc<Certificates>>,
    door: Arc<Door>,
    place: Place,
) {
    let metrics = door.handler.metrics.clone();
    metrics.connections.inc();
    let welcome = matches!(place, Place::Served(_));
    serve(stream, address, certificates.as_deref(), &door, welcome).await;
    metrics.connections.dec();
    let (Place::Served(permit) | Place::TurnedAway(permit)) = place;
    drop(permit);
}

impl Room {
    /// A place, or one among those that are turned away. They get an answer: containerd would wait for one in the kernel's
    /// queue, some versions without end, while 503 sends it to the upstream.
    async fn place(&self, door: &Door) -> Option<Place> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(Place::Served(place));
        }
        door.handler.metrics.connections_turned_away.inc();
        // Connections that only wait for a next request make room.
        door.crowded.notify_waiters();
        if self.may_say() {
            tracing::warn!(
                "all places for connections are taken; new ones are answered 503 (connections.maximum in static.yaml)"
            );
        }
        let place = self.turned_away.clone().acquire_owned().await.ok()?;
        Some(Place::TurnedAway(place))
    }

    fn may_say(&self) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = said.is_none_or(|said| now.duration_since(said) >= QUIET);
        if due {
            *said = Some(now);
        }
        due
    }
}

/// IPv4 clients have IPv4 addresses, on a port for both too.
fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}
