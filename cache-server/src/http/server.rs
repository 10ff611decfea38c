//! Accepts connections, speaks HTTP/1.1 on them, and lets them end in peace.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::Handler;
use super::sendfile::{Connection, Slot};

/// Also the time that an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds a request's head, and what waits to be written. The number of headers keeps its default bound of 100, for which the
/// library needs no memory of its own.
const MAXIMUM_BUFFER: usize = 64 * 1024;
/// Connections at the same time; more wait in the kernel's queue.
const MAXIMUM_CONNECTIONS: usize = 8192;
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The data port.
#[derive(Debug)]
pub struct Server {
    pub listener: TcpListener,
    pub handler: Arc<Handler>,
    pub drain: Drain,
}

/// How a server is told to end.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// No new requests; running answers go on.
    pub begin: CancellationToken,
    /// Running answers are cut.
    pub cut: CancellationToken,
}

impl Server {
    /// Serves until draining begins, and then until the last connection ended or `patience` is over.
    pub async fn run(self, patience: Duration) {
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(MAXIMUM_CONNECTIONS));
        tokio::select! {
            () = self.accept(&connections, &places) => {}
            () = self.drain.begin.cancelled() => {}
        }
        // Closed at once, so that clients go elsewhere instead of waiting in the queue.
        drop(self.listener);
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
        self.drain.cut.cancel();
        connections.wait().await;
    }

    async fn accept(&self, connections: &TaskTracker, places: &Arc<Semaphore>) {
        let mut pause = Duration::from_millis(5);
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    pause = Duration::from_millis(5);
                    let (handler, drain) = (self.handler.clone(), self.drain.clone());
                    connections.spawn(async move {
                        handler.metrics.connections.inc();
                        serve(stream, &handler, &drain).await;
                        handler.metrics.connections.dec();
                        drop(place);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                // Out of file descriptors, most likely: asking again at once would only burn a core.
                Err(error) => {
                    tracing::warn!(%error, pause_ms = pause.as_millis(), "failed to accept a connection");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, handler: &Arc<Handler>, drain: &Drain) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let slot = Slot::default();
    let service = service_fn(|request| async {
        Ok::<_, Infallible>(handler.handle(request, Some(&slot)).await)
    });
    let stream = Connection::new(
        stream,
        slot.clone(),
        handler.buffers.clone(),
        handler.metrics.clone(),
    );
    let connection = http1::Builder::new()
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAXIMUM_BUFFER)
        .serve_connection(stream, service);
    tokio::pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            // A client that leaves is no error of ours.
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = drain.begin.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = drain.cut.cancelled() => return,
        }
    }
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
