//! Where verified content waits until it is durable and has its name. Its readers wait for neither. While other fills get their
//! bytes it stays here, but not for long: syncs would take the disk and the processors from those that somebody waits for, and
//! many small blobs together cost a filesystem little more than one.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::storage::{self, Finished, Store, Synced};

/// So long it stays at most while other fills are busy. A crash loses what waits.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// What is larger does not wait for others, nor they for it: its sync takes long, whoever shares it.
const LARGE: u64 = 16 * 1024 * 1024;
/// From so many bytes or contents on, nothing is waited for.
const MOST_BYTES: u64 = 256 * 1024 * 1024;
const MOST: usize = 256;
/// Contents that wait or are being committed; each is an open file.
const PLACES: usize = 512;
/// Files that are synced at the same time, which lets the filesystem write its journal once for all of them.
const SYNCS: usize = 16;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Commits(Arc<State>);

#[derive(Debug)]
struct State {
    store: Arc<Store>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Of content, for fills that are busy.
    longest_wait: Duration,
    places: Arc<Semaphore>,
    queue: watch::Sender<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Fills that get their bytes.
    busy: usize,
    waiting: Vec<Waiting>,
    is_running: bool,
    /// Somebody waits until the store has all.
    hurry: bool,
    /// Numbers of what is here or being committed.
    under_way: BTreeSet<u64>,
    next: u64,
}

pub(super) type Committed = Result<(), storage::Error>;

#[derive(Debug)]
struct Waiting {
    finished: Finished,
    asker: Asker,
}

/// Who asked for a commit.
#[derive(Debug)]
struct Asker {
    told: oneshot::Sender<Committed>,
    _number: Number,
}

/// Is under way until it is dropped.
#[derive(Debug)]
struct Number(Arc<State>, u64);

impl Commits {
    /// `tasks` are waited for before the process ends; after `stop` nothing stays here.
    pub(super) fn new(
        store: Arc<Store>,
        tasks: TaskTracker,
        stop: CancellationToken,
        longest_wait: Duration,
    ) -> Self {
        Self(Arc::new(State {
            store,
            tasks,
            stop,
            longest_wait,
            places: Arc::new(Semaphore::new(PLACES)),
            queue: watch::Sender::default(),
        }))
    }

    /// Says that a fill begins to get its bytes.
    pub(super) fn begin(&self) -> Busy {
        self.0.change(|queue| queue.busy += 1);
        Busy(self.0.clone())
    }

    /// A place for content that waits. Who has to wait for it keeps what it holds, and so slows down what comes.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.0.places.clone().acquire_owned().await.ok()
    }

    /// Commits it, whether or not somebody waits for the result.
    pub(super) fn add(&self, finished: Finished) -> oneshot::Receiver<Committed> {
        let (told, result) = oneshot::channel();
        let waiting = Waiting {
            finished,
            asker: Asker {
                told,
                _number: self.number(),
            },
        };
        if waiting.finished.size > LARGE {
            let store = self.0.store.clone();
            self.0
                .tasks
                .spawn_blocking(move || give_names(&store, waiting.sync()));
            return result;
        }
        let mut starts = false;
        self.0.change(|queue| {
            queue.waiting.push(waiting);
            starts = !std::mem::replace(&mut queue.is_running, true);
        });
        if starts {
            self.0.tasks.spawn(self.clone().run());
        }
        result
    }

    fn number(&self) -> Number {
        let mut number = 0;
        self.0.change(|queue| {
            number = queue.next;
            queue.next += 1;
            queue.under_way.insert(number);
        });
        Number(self.0.clone(), number)
    }

    /// Waits until the store has what is here now.
    pub(super) async fn settle(&self) {
        let mut next = 0;
        self.0.change(|queue| {
            queue.hurry = !queue.waiting.is_empty();
            next = queue.next;
        });
        let mut queue = self.0.queue.subscribe();
        // The sender is here: it does not go away.
        let _ = queue
            .wait_for(|queue| queue.under_way.first().is_none_or(|first| *first >= next))
            .await;
    }

    async fn run(self) {
        loop {
            self.wait().await;
            let Some(waiting) = self.take() else {
                return;
            };
            let synced: Vec<_> = stream::iter(waiting)
                .map(|waiting| spawn_blocking(|| waiting.sync()))
                .buffer_unordered(SYNCS)
                .collect()
                .await;
            // Where a thread panicked nobody is told, which those who wait see.
            let synced: Vec<_> = synced
                .into_iter()
                .filter_map(|synced| synced.ok()?)
                .collect();
            let store = self.0.store.clone();
            let _ = spawn_blocking(move || give_names(&store, synced)).await;
        }
    }

    /// Until it is time to commit what is here.
    async fn wait(&self) {
        let mut queue = self.0.queue.subscribe();
        let due = queue.wait_for(Queue::is_due);
        tokio::select! {
            _ = timeout(self.0.longest_wait, due) => {}
            () = self.0.stop.cancelled() => {}
        }
    }

    /// All that wait; `None` ends the run.
    fn take(&self) -> Option<Vec<Waiting>> {
        let mut taken = None;
        self.0.change(|queue| {
            queue.is_running = !queue.waiting.is_empty();
            if queue.is_running {
                queue.hurry = false;
                taken = Some(std::mem::take(&mut queue.waiting));
            }
        });
        taken
    }
}

impl State {
    /// Wakes who commits only if there is something to do: each fill changes the queue a few times.
    fn change(&self, change: impl FnOnce(&mut Queue)) {
        self.queue.send_if_modified(|queue| {
            change(queue);
            queue.is_due()
        });
    }
}

impl Queue {
    fn is_due(&self) -> bool {
        self.busy == 0
            || self.hurry
            || self.waiting.is_empty()
            || self.waiting.len() >= MOST
            || self.bytes() >= MOST_BYTES
    }

    fn bytes(&self) -> u64 {
        self.waiting
            .iter()
            .map(|waiting| waiting.finished.size)
            .sum()
    }
}

impl Waiting {
    fn sync(self) -> Option<(Synced, Asker)> {
        match self.finished.sync() {
            Ok(synced) => Some((synced, self.asker)),
            Err(error) => {
                self.asker.tell(Err(error));
                None
            }
        }
    }
}

impl Asker {
    fn tell(self, committed: Committed) {
        // It may have been stopped.
        let _ = self.told.send(committed);
    }
}

fn give_names(store: &Store, synced: impl IntoIterator<Item = (Synced, Asker)>) {
    let (synced, askers): (Vec<_>, Vec<_>) = synced.into_iter().unzip();
    for (asker, committed) in askers.into_iter().zip(store.give_names(synced)) {
        asker.tell(committed);
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // Whoever waits for it has to see it in any case.
        self.0.queue.send_modify(|queue| {
            queue.under_way.remove(&self.1);
        });
    }
}

/// A fill that gets its bytes, until it is dropped.
#[derive(Debug)]
pub(super) struct Busy(Arc<State>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.change(|queue| queue.busy -= 1);
    }
}

#[cfg(test)]
mod tests;
