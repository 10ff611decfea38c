//! The only place where the parts are put together.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crds::static_config::{Connections, StaticConfig};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, LastHour};
use crate::bucket::{self, Bucket};
use crate::cache::{Cache, Patience};
use crate::clock::Clock;
use crate::config::Location;
use crate::descriptors;
use crate::http::access::Access;
use crate::http::buffers::Buffers;
use crate::http::handler::Handler;
use crate::http::lanes::Lanes;
use crate::http::tally::Tally;
use crate::http::tls::{self, Certificates};
use crate::http::{Drain, Listener, Server};
use crate::metrics::Metrics;
use crate::reload::{Reloader, Status};
use crate::storage::{self, Store};
use crate::upstream::{Environment, HttpClients, Surroundings, Timeouts};

/// Bytes that are read at once for a connection that gets copies of files: a record of TLS.
const COPIED: usize = 16 * 1024;

/// What an [`App`] is made from. All but the first two have defaults that tests change.
#[derive(Debug)]
pub struct Options {
    pub static_config: StaticConfig,
    pub location: Location,
    pub clock: Clock,
    pub patience: Patience,
    pub timeouts: Timeouts,
    pub bucket: bucket::Times,
    /// What clouds tell this process of its identity.
    pub surroundings: Surroundings,
}

impl Options {
    pub fn new(static_config: StaticConfig, location: Location) -> Self {
        Self {
            static_config,
            location,
            clock: Clock::default(),
            patience: Patience::default(),
            timeouts: Timeouts::default(),
            bucket: bucket::Times::default(),
            surroundings: Surroundings::of_process(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Store(storage::Error),
    #[error("failed to listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("{0}")]
    Bucket(bucket::Error),
    #[error("{0}")]
    Tls(tls::Error),
    #[error("failed to set up the metrics: {0}")]
    Metrics(prometheus::Error),
    #[error("failed to start threads for connections: {0}")]
    Threads(io::Error),
    #[error("failed to start: a task ended")]
    Task,
}

/// A running server.
#[derive(Debug)]
pub struct App {
    pub data_address: SocketAddr,
    /// Of the port that speaks TLS, if there is one.
    pub tls_address: Option<SocketAddr>,
    pub admin_address: SocketAddr,
    task: JoinHandle<()>,
}

impl App {
    /// Opens the store, binds both ports and serves until `shutdown` completes and draining is over.
    /// A rustls provider must be installed.
    pub async fn start(
        options: Options,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<Self, Error> {
        let config = options.static_config.clone();
        let metrics = Arc::new(Metrics::new().map_err(Error::Metrics)?);
        let root = config.store.clone();
        let clock = options.clock.clone();
        let of_store = clock.clone();
        let store = blocking(move || Store::open(&root, of_store))
            .await?
            .map_err(Error::Store)
            .map(Arc::new)?;
        let bucket = open_bucket(&options, &metrics).await?;
        let cache = Cache::new(
            store.clone(),
            bucket,
            metrics.clone(),
            options.clock.clone(),
            options.patience,
        );
        let status = Arc::new(Status::default());
        let access = Arc::new(Access::default());
        let mut reloader = Reloader {
            access: access.clone(),
            judges_clients: config.judges_clients(),
            location: options.location,
            cache: cache.clone(),
            store: store.clone(),
            upstreams: Environment {
                timeouts: options.timeouts,
                clients: HttpClients::default(),
                metrics: metrics.clone(),
                clock: options.clock,
                surroundings: options.surroundings,
            },
            status: status.clone(),
            in_force: None,
            directories: BTreeSet::new(),
        };
        let reloader = blocking(move || {
            reloader.start();
            reloader
        })
        .await?;
        let certificates = match config.tls.clone() {
            Some(files) => {
                let load = move || Certificates::load(files);
                Some(Arc::new(blocking(load).await?.map_err(Error::Tls)?))
            }
            None => None,
        };
        let data = listen_for_clients(&config, certificates.clone()).await?;
        let (admin_listener, admin_address) = listen(config.admin_listen).await?;
        let admin = Arc::new(Admin {
            status,
            metrics: metrics.clone(),
            store: store.clone(),
            cache: cache.clone(),
            token_file: config.admin_token_file.clone(),
            static_hash: config.hash(),
            draining: AtomicBool::new(false),
            last_hour: LastHour::new(clock),
        });
        let server = Server {
            listeners: data.listeners,
            lanes: Lanes::start().map_err(Error::Threads)?,
            handler: Arc::new(Handler {
                cache: cache.clone(),
                access,
                metrics: metrics.clone(),
                tally: Tally::new(metrics.clone()),
                access_log: config.access_log,
                buffers: Buffers::default(),
                small_buffers: Buffers::of(COPIED),
            }),
            limits: Connections {
                maximum: descriptors::connections(config.connections.maximum),
                ..config.connections
            },
            drain: Drain::default(),
        };
        let (data_address, tls_address) = (data.address, data.tls_address);
        tracing::info!(%data_address, tls_address = tls_address.map(tracing::field::display), %admin_address, store = %config.store.display(), "serving on {data_address}");
        tokio::task::spawn_blocking(scan(store, cache.clone()));
        let parts = Parts {
            server,
            admin,
            admin_listener,
            reloader,
            certificates: certificates.map(|certificates| (certificates, metrics)),
            cache,
            patience: config.drain_timeout.into(),
            scrub_interval: config.scrub_interval.into(),
        };
        Ok(Self {
            data_address,
            tls_address,
            admin_address,
            task: tokio::spawn(parts.run(shutdown)),
        })
    }

    /// Waits until the server has ended.
    pub async fn finished(self) {
        let _ = self.task.await;
    }
}

struct Parts {
    server: Server,
    admin: Arc<Admin>,
    admin_listener: TcpListener,
    reloader: Reloader,
    certificates: Option<(Arc<Certificates>, Arc<Metrics>)>,
    cache: Cache,
    patience: std::time::Duration,
    scrub_interval: std::time::Duration,
}

impl Parts {
    async fn run(self, shutdown: impl Future<Output = ()> + Send + 'static) {
        let stop = CancellationToken::new();
        let drain = self.server.drain.clone();
        let reloading = tokio::spawn(self.reloader.run(stop.clone()));
        let watching = self
            .certificates
            .map(|(certificates, metrics)| tokio::spawn(certificates.watch(metrics, stop.clone())));
        let admin = self.admin.clone();
        let ended = stop.clone();
        let sampled = (self.admin.clone(), stop.clone());
        let sampling = tokio::spawn(async move {
            let (admin, stop) = sampled;
            admin.last_hour.keep(&admin.metrics, stop).await;
        });
        let administering = tokio::spawn(async move {
            let served = axum::serve(self.admin_listener, admin::router(admin))
                .with_graceful_shutdown(async move { ended.cancelled().await });
            if let Err(error) = served.await {
                tracing::error!(%error, "the admin port ended");
            }
        });
        let making_room = tokio::spawn(self.cache.clone().keep_room(stop.clone()));
        let sharing = tokio::spawn(self.cache.clone().keep_sharing(stop.clone()));
        let scrubbing = tokio::spawn(self.cache.clone().scrub(self.scrub_interval, stop.clone()));
        let serving = tokio::spawn(self.server.run(self.patience));
        shutdown.await;
        tracing::info!("draining");
        // First said, then done: probes still reach the admin port.
        self.admin.draining.store(true, Ordering::SeqCst);
        drain.begin.cancel();
        let _ = serving.await;
        self.cache.stop().await;
        stop.cancel();
        let _ = reloading.await;
        if let Some(watching) = watching {
            let _ = watching.await;
        }
        let _ = sampling.await;
        let _ = making_room.await;
        let _ = scrubbing.await;
        let _ = sharing.await;
        // A probe's idle connection must not hold up the end.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), administering).await;
        tracing::info!("ended");
    }
}

/// Looks through the store, and begins what needs to know all that is stored.
fn scan(store: Arc<Store>, cache: Cache) -> impl FnOnce() {
    move || match store.scan() {
        Ok(()) => {
            cache.look_for_room();
            cache.compare_with_bucket();
        }
        Err(error) => {
            tracing::error!(%error, "failed to look through the store; nothing is evicted");
        }
    }
}

/// The bucket that replicas share, if there is one. It is not asked yet.
async fn open_bucket(
    options: &Options,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<Bucket>>, Error> {
    let Some(config) = options.static_config.object_storage.clone() else {
        return Ok(None);
    };
    let (surroundings, times) = (options.surroundings.clone(), options.bucket);
    let (metrics, clock) = (metrics.clone(), options.clock.clone());
    let open = move || {
        let said = |name: &str| surroundings.get(name).map(str::to_owned);
        Bucket::new(&config, &said, times, metrics, clock)
    };
    let bucket = blocking(open).await?.map_err(Error::Bucket)?;
    Ok(Some(Arc::new(bucket)))
}

/// The ports that clients pull from.
struct DataPorts {
    listeners: Vec<Listener>,
    address: SocketAddr,
    tls_address: Option<SocketAddr>,
}

async fn listen_for_clients(
    config: &StaticConfig,
    certificates: Option<Arc<Certificates>>,
) -> Result<DataPorts, Error> {
    let (socket, address) = listen(config.data_listen).await?;
    let Some(own) = config.tls.as_ref().and_then(|tls| tls.listen) else {
        let tls_address = certificates.is_some().then_some(address);
        let listeners = vec![Listener {
            socket,
            certificates,
        }];
        return Ok(DataPorts {
            listeners,
            address,
            tls_address,
        });
    };
    let clear = Listener {
        socket,
        certificates: None,
    };
    let (socket, tls_address) = listen(own).await?;
    let secure = Listener {
        socket,
        certificates,
    };
    Ok(DataPorts {
        listeners: vec![clear, secure],
        address,
        tls_address: Some(tls_address),
    })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::Task)
}
