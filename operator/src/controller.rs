//! What is watched, what wakes which cache, and when to retry.

mod queue;

use std::future::ready;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crds::registry_cache::RegistryCache;
use futures::{Stream, StreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::ApiResource;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::{Controller, WatchStreamExt as _, watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::memory::{self, Memory};
use crate::report::chain;
use crate::watches::{CacheRef, GuardedCache, Scope, Wake, scoped};
use crate::{leaving, observe, publish, reconcile, retry};
use queue::Queue;

/// Longest reconcile, without the wait for its turn. The API client retries by itself, for much longer than a cache should wait.
const TIMEOUT: Duration = Duration::from_mins(1);
/// No bound here, where whoever comes too many is taken up in no order: [`Queue`] and [`Context::turn`] bound them, first come, first served,
/// so that a new cache is not overtaken by those that are woken by what has just been made of them.
const CONCURRENCY: u16 = 0;

/// Longest wait at the start for what the cluster has.
const FIRST_LOOK: Duration = Duration::from_secs(10);

/// Why a cache is not in line.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("failed to reconcile")]
    Reconcile { source: reconcile::Error },
    #[error("failed to reconcile within {} s", TIMEOUT.as_secs())]
    Timeout,
}

/// Keeps all caches in line until told to stop: those of one namespace, or of all. `scopes` gets the caches as they are known.
pub async fn run(
    context: Arc<Context>,
    namespace: Option<String>,
    memory: Memory,
    stop: CancellationToken,
    scopes: mpsc::UnboundedSender<Scope>,
) {
    let client = &context.client;
    let apis = context.apis.clone();
    let (sender, receiver) = mpsc::unbounded_channel();
    let (caches, writer) = reflector::store();
    let mut feed = memory.feed(
        &ApiResource::erase::<RegistryCache>(&()),
        namespace.as_deref(),
        None,
    );
    let events = watcher(
        scoped::<GuardedCache>(client, namespace.as_deref()),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(|cache| cache.managed_fields_mut().clear())
    // Before the reflector: who is woken must find at least what woke it.
    .inspect(move |event| {
        if let Ok(event) = event {
            feed.take(event, memory::text_if_readable);
        }
    })
    .reflect(writer);
    let queue = Queue::default();
    let woken = stream::select(applied(events), wakes(receiver));
    let controller = Controller::for_stream(stream::pending(), caches.clone())
        .reconcile_on(queue.in_order(woken));
    let parts = Arc::new(Parts {
        context: context.clone(),
        queue: queue.clone(),
    });
    let seen = memory.clone();
    let wake = Wake {
        client: client.clone(),
        namespace,
        caches: caches.clone(),
        memory,
        sender: sender.clone(),
    };
    // Nobody waits for it if the operator ends at once.
    let _ = scopes.send(Scope {
        caches,
        wake: sender,
    });
    drop(scopes);
    let controller = controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(one, retry_later, parts)
        .for_each(|result| {
            use kube::runtime::controller::Error;
            match result {
                Err(Error::ObjectNotFound(gone)) => {
                    let namespace = gone.namespace.unwrap_or_default();
                    let cache = ObjectRef::new(&gone.name).within(&namespace);
                    queue.pass(&cache);
                    context.forget(&cache);
                }
                Err(error @ (Error::QueueError(_) | Error::RunnerError(_))) => {
                    tracing::warn!(error = %chain(&error), "the controller does not go on");
                }
                // Failures of reconciles are logged where the retry is decided.
                Ok(_) | Err(Error::ReconcilerFailed(..)) => {}
            }
            ready(())
        });
    let controller = async {
        // A cache that is looked at before would be read child by child. What can't be listed must not hold up the rest.
        let _ = tokio::time::timeout(FIRST_LOOK, seen.has_seen(&observe::watched())).await;
        controller.await;
    };
    // Those that wait for their turn then don't hold up the end.
    let turned_away = async {
        stop.cancelled().await;
        context.close();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = controller => {}
        () = wake.run(apis) => {}
        () = turned_away => {}
    }
}

/// What the controller passes to each reconcile.
struct Parts {
    context: Arc<Context>,
    queue: Queue,
}

/// The caches that were added or changed.
fn applied(
    events: impl Stream<Item = watcher::Result<watcher::Event<GuardedCache>>>,
) -> impl Stream<Item = CacheRef> {
    events.applied_objects().filter_map(|cache| {
        let cache = cache.inspect_err(
            |error| tracing::warn!(error = %chain(error), "a watch failed and starts anew"),
        );
        ready(cache.ok().map(|cache| ObjectRef::from_obj(&cache)))
    })
}

fn wakes(receiver: mpsc::UnboundedReceiver<CacheRef>) -> impl Stream<Item = CacheRef> {
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|cache| (cache, receiver))
    })
}

async fn one(cache: Arc<GuardedCache>, parts: Arc<Parts>) -> Result<Action, Error> {
    let Parts { context, queue } = &*parts;
    let run = queue.begin(&ObjectRef::from_obj(&*cache));
    let namespace = cache.namespace().unwrap_or_default();
    let name = cache.name_any();
    let result = match &cache.0 {
        Ok(_) => {
            let Some(turn) = context.turn().await else {
                return Ok(Action::await_change());
            };
            let turn = (run.place(), turn);
            let reconcile = Box::pin(reconcile::reconcile(context, turn, &namespace, &name));
            tokio::time::timeout(TIMEOUT, reconcile)
                .await
                .map_err(|_| Error::Timeout)
                .and_then(|result| result.map_err(|source| Error::Reconcile { source }))
        }
        Err(invalid) => {
            tracing::warn!(%namespace, %name, error = %invalid.error, "RegistryCache {namespace}/{name} can't be read");
            publish::malformed(
                &context.client,
                &context.recorder,
                &invalid.metadata,
                &invalid.error,
                &reconcile::now(),
            )
            .await;
            Ok(retry::periodic())
        }
    };
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Error::Reconcile { .. }) => "error",
        Err(Error::Timeout) => "timeout",
    };
    context
        .metrics
        .reconciles
        .with_label_values(&["registrycache", outcome])
        .inc();
    let next = result?;
    context.failures.succeeded(&format!("{namespace}/{name}"));
    Ok(Action::requeue(next))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller passes its parts by value"
)]
fn retry_later(cache: Arc<GuardedCache>, error: &Error, parts: Arc<Parts>) -> Action {
    let namespace = cache.namespace().unwrap_or_default();
    let name = cache.name_any();
    let leaving = &parts.context.leaving;
    if leaving.is_why(&namespace, error, Instant::now()) {
        tracing::info!(%namespace, %name, "RegistryCache {namespace}/{name} goes with its namespace");
        return Action::requeue(leaving::MEMORY);
    }
    let wait = parts
        .context
        .failures
        .failed(&format!("{namespace}/{name}"));
    tracing::warn!(
        %namespace, %name, error = %chain(error), retry_ms = wait.as_millis(),
        "RegistryCache {namespace}/{name} is not in line and is tried again"
    );
    Action::requeue(wait)
}
