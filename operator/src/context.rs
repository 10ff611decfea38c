//! What all reconciles share. Built once, in `run`, and passed in.

use std::sync::Arc;

use kube::Client;
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::confirm::{PodAccess, Propagations};
use crate::events::Recorder;
use crate::figures::Ledger;
use crate::leaving::Leaving;
use crate::metrics::Metrics;
use crate::nodes::Nodes;
use crate::optional_apis::OptionalApis;
use crate::resolve::Settings;
use crate::retry::Failures;
use crate::watches::CacheRef;

/// Reconciles that may talk to the API server at the same time.
const CONCURRENCY: usize = 16;

/// What all reconciles share.
pub struct Context {
    pub client: Client,
    pub settings: Settings,
    pub access: PodAccess,
    pub metrics: Arc<Metrics>,
    pub recorder: Recorder,
    /// Which kinds of others exist; renewed by a watch.
    pub apis: watch::Receiver<OptionalApis>,
    pub propagations: Propagations,
    pub failures: Failures,
    pub leaving: Arc<Leaving>,
    /// What is known of the nodes that pull through the caches.
    pub nodes: Nodes,
    /// What moves in the statuses.
    pub figures: Ledger,
    turns: Semaphore,
}

impl Context {
    /// Puts the parts together.
    pub fn new(
        client: Client,
        settings: Settings,
        access: PodAccess,
        metrics: Arc<Metrics>,
        apis: watch::Receiver<OptionalApis>,
    ) -> Self {
        let leaving = Arc::new(Leaving::default());
        let recorder = Recorder::new(client.clone(), leaving.clone());
        Self {
            client,
            settings,
            access,
            metrics,
            recorder,
            apis,
            propagations: Propagations::default(),
            failures: Failures::default(),
            leaving,
            nodes: Nodes::default(),
            figures: Ledger::default(),
            turns: Semaphore::new(CONCURRENCY),
        }
    }

    /// The same for a cluster with node agents.
    pub fn with_nodes(self, nodes: Nodes) -> Self {
        Self { nodes, ..self }
    }

    /// Returns when it is the caller's turn to talk to the API server, in the order of the calls: bounds the load on it, while
    /// reconciles that only wait for pods don't hold up others. `None`: the operator ends.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// A cache is gone, and what is known of it with it.
    pub fn forget(&self, cache: &CacheRef) {
        let namespace = cache.namespace.as_deref().unwrap_or_default();
        self.nodes.forget(namespace, &cache.name);
        self.figures.forget(cache);
    }

    /// Nobody gets a turn from now on.
    pub fn close(&self) {
        self.turns.close();
    }
}
