//! One connection from its first byte to its last: TLS or not, HTTP/1.1 or HTTP/2, and what ends it.

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::static_config::Connections;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_rustls::server::TlsStream;

use super::access_log::Observed;
use super::client::Client;
use super::handler::{Handler, LARGEST_HEAD};
use super::sendfile::{Connection, Slot};
use super::server::Drain;
use super::tls::{Certificates, HTTP_2};
use super::traffic::{Finding, Traffic, Watch};

/// Bounds what is read of a request's head, of which [`LARGEST_HEAD`] is let in, and what waits to be written. The number of headers keeps its default bound of
/// 100, for which the library needs no memory of its own.
const MAXIMUM_BUFFER: usize = 40 * 1024;
/// Waits in a TLS session to be written: what stays there while a client takes nothing. A record.
const ENCRYPTED: usize = 16 * 1024;
/// For the whole of a connection that is answered 503.
const TURNING_AWAY: Duration = Duration::from_secs(5);
/// Requests at the same time on one HTTP/2 connection.
const MAXIMUM_STREAMS: u32 = 100;
/// Streams that a client took back before they were looked at (CVE-2023-44487), and streams that broke the protocol: beyond
/// these the connection ends.
const MAXIMUM_PENDING_RESETS: usize = 20;
const MAXIMUM_OWN_RESETS: usize = 128;
/// Of one HTTP/2 stream, beside what the socket holds.
const SEND_BUFFER: usize = 64 * 1024;
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Door {
    pub handler: Arc<Handler>,
    pub limits: Connections,
    pub drain: Drain,
    /// Wakes connections that wait for a next request, so that others have room.
    pub crowded: Notify,
}

/// `welcome`: whether there is room; if not, each request is answered 503.
pub(super) async fn serve(
    stream: TcpStream,
    address: IpAddr,
    certificates: Option<&Certificates>,
    door: &Arc<Door>,
    welcome: bool,
) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let stall = Duration::from(door.limits.stall_timeout).as_millis();
    // The kernel knows best what a client took: what the socket has is not with the client yet.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(
        &stream,
        u32::try_from(stall).unwrap_or(u32::MAX),
    );
    let serving = async {
        match certificates {
            None => clear(stream, address, door, welcome).await,
            // Apart: a handshake and two protocols need much room, which connections in clear text would have too.
            Some(certificates) => {
                Box::pin(secure(stream, address, certificates, door, welcome)).await;
            }
        }
    };
    if welcome {
        serving.await;
    } else {
        let _ = tokio::time::timeout(TURNING_AWAY, serving).await;
    }
}

async fn clear(stream: TcpStream, address: IpAddr, door: &Door, welcome: bool) {
    let slot = Slot::default();
    let (buffers, metrics) = (door.handler.buffers.clone(), door.handler.metrics.clone());
    let connection = Connection::new(stream, slot.clone(), buffers, metrics);
    let client = Arc::new(Client {
        address,
        slot: Some(slot),
        traffic: Traffic::default(),
        certified: false,
        tally: door.handler.tally.clone(),
    });
    first_version(connection, &client, door, welcome).await;
}

async fn secure(
    stream: TcpStream,
    address: IpAddr,
    certificates: &Certificates,
    door: &Arc<Door>,
    welcome: bool,
) {
    let handshake = certificates.acceptor().accept(stream);
    let patience = door.limits.header_timeout.into();
    let ended = tokio::select! {
        ended = tokio::time::timeout(patience, handshake) => ended,
        () = door.drain.begin.cancelled() => return,
    };
    let mut stream = match ended {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            door.handler.metrics.tls_handshake_failures.inc();
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => {
            door.handler.metrics.tls_handshake_failures.inc();
            return;
        }
    };
    let (_, session) = stream.get_mut();
    session.set_buffer_limit(Some(ENCRYPTED));
    let second = session.alpn_protocol() == Some(HTTP_2);
    let client = Arc::new(Client {
        address,
        slot: None,
        traffic: Traffic::default(),
        // The handshake would have failed with a wrong one.
        certified: session.peer_certificates().is_some(),
        tally: door.handler.tally.clone(),
    });
    if second {
        second_version(stream, client, door, welcome).await;
    } else {
        first_version(TokioIo::new(stream), &client, door, welcome).await;
    }
}

async fn first_version<S>(stream: S, client: &Arc<Client>, door: &Door, welcome: bool)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = service_fn(|request| async move { answer(request, client, door, welcome).await });
    let connection = http1::Builder::new()
        .half_close(true)
        // `Traffic` sees clients that never end a head, without a timer for each request.
        .header_read_timeout(None)
        .max_buf_size(MAXIMUM_BUFFER)
        .serve_connection(stream, service);
    drive(connection, &client.traffic, door).await;
}

async fn second_version(
    stream: TlsStream<TcpStream>,
    client: Arc<Client>,
    door: &Arc<Door>,
    welcome: bool,
) {
    let (asking, shared) = (client.clone(), door.clone());
    let service = service_fn(move |request| {
        let (client, door) = (asking.clone(), shared.clone());
        async move { answer(request, &client, &door, welcome).await }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAXIMUM_STREAMS)
        .max_header_list_size(u32::try_from(LARGEST_HEAD).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAXIMUM_PENDING_RESETS)
        .max_local_error_reset_streams(MAXIMUM_OWN_RESETS)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(Duration::from(door.limits.header_timeout))
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    drive(connection, &client.traffic, door).await;
}

async fn answer(
    request: Request<Incoming>,
    client: &Arc<Client>,
    door: &Door,
    welcome: bool,
) -> Result<Response<Observed>, Infallible> {
    Ok(if welcome {
        door.handler.handle(request, client).await
    } else {
        door.handler.turn_away(&request, client)
    })
}

async fn drive<C>(connection: C, traffic: &Traffic, door: &Door)
where
    C: GracefulConnection,
    C::Error: std::fmt::Display,
{
    let mut connection = pin!(connection);
    // The set looks at its future only when one of the future's own causes has come. Each of them is a lock that all
    // connections share, and this is woken with every request.
    let mut orders = FuturesUnordered::from_iter([Orders::new(traffic, door).next()]);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                // A client that leaves is no error of ours.
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            Some((order, orders_after)) = orders.next() => match order {
                Order::End => {
                    connection.as_mut().graceful_shutdown();
                    orders.push(orders_after.next());
                }
                Order::Cut => return,
            },
        }
    }
}

/// What a connection is told from outside.
enum Order {
    /// To end when what runs is answered. Comes once.
    End,
    /// To end now.
    Cut,
}

struct Orders<'a> {
    traffic: &'a Traffic,
    door: &'a Door,
    watch: Watch,
    looks: Interval,
    ending: bool,
}

impl<'a> Orders<'a> {
    fn new(traffic: &'a Traffic, door: &'a Door) -> Self {
        let watch = Watch::new(&door.limits);
        let mut looks = tokio::time::interval(watch.interval());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            traffic,
            door,
            watch,
            looks,
            ending: false,
        }
    }

    async fn next(mut self) -> (Order, Self) {
        let door = self.door;
        loop {
            let end = tokio::select! {
                () = door.drain.begin.cancelled(), if !self.ending => true,
                () = door.drain.cut.cancelled() => return (Order::Cut, self),
                () = door.crowded.notified(), if !self.ending => self.traffic.is_idle(),
                _ = self.looks.tick() => match self.watch.look(self.traffic.sample(), Instant::now()) {
                    Finding::Fine => false,
                    // It was told to end, and its client has still not ended the head of a request.
                    Finding::Idle if self.ending => return (Order::Cut, self),
                    Finding::Idle => true,
                    Finding::Slow => {
                        door.handler.metrics.connections_cut.inc();
                        tracing::info!("cutting a client that takes less than connections.minimumRate");
                        return (Order::Cut, self);
                    }
                },
            };
            if end {
                self.ending = true;
                return (Order::End, self);
            }
        }
    }
}
