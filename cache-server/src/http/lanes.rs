//! Threads for connections in clear text. Each has a runtime and a set of sockets of its own, so that an answer from memory, which
//! takes some microseconds, goes out on the thread that its request came in on, without waking another one.
//! Everything else that a request needs (fills, blocking calls, timers) stays with the server's runtime.

use std::io;
use std::num::NonZeroUsize;
use std::thread;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// One sends some gigabytes a second: more than these would only take memory and descriptors.
const MOST: usize = 16;

/// One lane for each processor that this process may use.
#[derive(Debug)]
pub struct Lanes(Vec<Lane>);

#[derive(Debug)]
struct Lane {
    runtime: Handle,
    /// Ends the thread.
    _end: DropGuard,
}

impl Lanes {
    /// Starts the threads. What connections start themselves belongs to the runtime that this is called on.
    /// Fails if the system gives no thread, or no descriptors for its sockets.
    pub fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self::of(count.min(MOST))
    }

    fn of(count: usize) -> io::Result<Self> {
        let main = Handle::current();
        (0..count)
            .map(|_| Lane::start(main.clone()))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Has `connection` driven by the lane with the fewest of them: no connection changes its lane later.
    pub(super) fn spawn<F, C>(
        &self,
        connections: &TaskTracker,
        stream: TcpStream,
        connection: F,
    ) -> io::Result<()>
    where
        F: FnOnce(TcpStream) -> C,
        C: Future<Output = ()> + Send + 'static,
    {
        let stream = stream.into_std()?;
        let fewest = self
            .0
            .iter()
            .min_by_key(|lane| lane.runtime.metrics().num_alive_tasks());
        let lane = fewest.map_or_else(Handle::current, |lane| lane.runtime.clone());
        let driven = {
            // Its socket is the lane's.
            let _lane = lane.enter();
            connection(TcpStream::from_std(stream)?)
        };
        connections.spawn_on(driven, &lane);
        Ok(())
    }
}

impl Lane {
    fn start(main: Handle) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, end) = (runtime.handle().clone(), CancellationToken::new());
        let ended = end.clone().cancelled_owned();
        thread::Builder::new()
            .name("connections".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // For all that this thread drives: entered with each request, its count of owners would go from processor to
                    // processor.
                    let _main = main.enter();
                    ended.await;
                });
            })?;
        Ok(Self {
            runtime: handle,
            _end: end.drop_guard(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tokio::net::TcpListener;
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// Both ends of a connection.
    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn connections_spread_over_the_lanes() {
        let (lanes, connections) = (Lanes::of(3).unwrap(), TaskTracker::new());
        let (say, mut said) = mpsc::unbounded_channel();
        let mut clients = Vec::new();
        let mut begin = async || {
            let (client, accepted) = connection().await;
            let say = say.clone();
            let driven = |stream: TcpStream| async move {
                say.send(thread::current().id()).unwrap();
                let _ = stream.readable().await;
            };
            lanes.spawn(&connections, accepted, driven).unwrap();
            clients.push(client);
            said.recv().await.unwrap()
        };
        let mut threads = Vec::new();
        for _ in 0..6 {
            threads.push(begin().await);
        }
        let mut counts = BTreeMap::<_, usize>::new();
        for thread in &threads {
            *counts.entry(format!("{thread:?}")).or_default() += 1;
        }
        assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
        drop(clients);
        connections.close();
        connections.wait().await;
    }

    #[tokio::test]
    async fn what_a_connection_starts_belongs_to_the_runtime_of_the_server() {
        let (lanes, connections) = (Lanes::of(1).unwrap(), TaskTracker::new());
        let (_client, accepted) = connection().await;
        let (say, said) = oneshot::channel();
        let driven = |_stream| async move {
            let started = tokio::spawn(async { thread::current().id() });
            let _ = say.send((thread::current().id(), started.await.unwrap()));
        };
        lanes.spawn(&connections, accepted, driven).unwrap();
        let (own, started) = said.await.unwrap();
        assert_ne!(own, thread::current().id());
        assert_eq!(started, thread::current().id());
    }

    #[tokio::test]
    async fn lanes_that_are_dropped_end_their_threads_and_what_these_drove() {
        let (lanes, connections) = (Lanes::of(1).unwrap(), TaskTracker::new());
        let (_client, accepted) = connection().await;
        let (say, said) = oneshot::channel::<()>();
        let driven = |_stream| async move {
            let _say = say;
            std::future::pending::<()>().await;
        };
        lanes.spawn(&connections, accepted, driven).unwrap();
        drop(lanes);
        assert!(said.await.is_err());
    }
}
