//! Room: who may come in, and the loop that makes things go. What goes is decided in [`plan`], by what `survey` found.

pub mod plan;
mod round;
mod survey;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::{Cache, Error};
use crate::clock::Moment;
use crate::storage;
use round::Wanted;

pub(super) use round::sweep;

/// Freed at least when the disk is full, so that not every write needs a round.
const DISK_STEP: u64 = 1 << 20;
/// How soon it is looked again while nothing new is taken: content in use becomes free meanwhile.
const AGAIN: Duration = Duration::from_secs(5);
/// How long it is not tried again to make room for what comes, after there was none.
const REFUSED: Duration = Duration::from_secs(1);

/// What is known about room.
#[derive(Debug)]
pub(super) struct Room {
    wake: Notify,
    /// Bytes that running fills will add.
    reserved: AtomicU64,
    /// Bytes that the policy in force allows; unknown before the first round.
    max: AtomicU64,
    high: AtomicU64,
    /// Bytes that came since the last round.
    came: AtomicU64,
    /// So many that come are a reason to look whether the disk has what must stay free.
    look_after: AtomicU64,
    stopped: AtomicBool,
    /// When content was last refused for want of room, in milliseconds since 1970.
    refused: AtomicI64,
    /// Taken by the round that runs.
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    survey: Option<Moment>,
    /// Hash of the rules that were surveyed.
    policy: Option<u64>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            wake: Notify::new(),
            reserved: AtomicU64::new(0),
            max: AtomicU64::new(u64::MAX),
            high: AtomicU64::new(u64::MAX),
            came: AtomicU64::new(0),
            look_after: AtomicU64::new(u64::MAX),
            stopped: AtomicBool::new(false),
            refused: AtomicI64::new(0),
            last: Mutex::default(),
        }
    }
}

impl Room {
    /// Keeps rounds from running while it is held.
    pub(super) async fn pause(&self) -> impl Sized + '_ {
        self.last.lock().await
    }
}

/// Room for content that is on its way. Given back when dropped; by then the content counts as stored, or never came.
#[derive(Debug)]
pub(super) struct Reservation {
    cache: Cache,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let room = &self.cache.0.room;
        room.reserved.fetch_sub(self.bytes, Ordering::SeqCst);
        let came = room.came.fetch_add(self.bytes, Ordering::SeqCst) + self.bytes;
        let is_crowded = self.cache.0.store.used() > room.high.load(Ordering::SeqCst);
        if is_crowded || came >= room.look_after.load(Ordering::SeqCst) {
            room.wake.notify_one();
        }
    }
}

impl Cache {
    /// Makes the loop look at once.
    pub fn look_for_room(&self) {
        self.0.room.refused.store(0, Ordering::SeqCst);
        self.0.room.wake.notify_one();
    }

    /// Whether what must be kept leaves no room for new content.
    pub(super) fn admission_is_stopped(&self) -> bool {
        self.0.room.stopped.load(Ordering::SeqCst)
    }

    /// Room for so many bytes, if it can be made.
    pub(super) async fn reserve(&self, bytes: u64) -> Option<Reservation> {
        if self.admission_is_stopped() {
            return None;
        }
        self.0.room.reserved.fetch_add(bytes, Ordering::SeqCst);
        let reservation = Reservation {
            cache: self.clone(),
            bytes,
        };
        if self.is_within() {
            return Some(reservation);
        }
        // Many may come while nothing can go, and each round looks at everything.
        let refused = Moment(self.0.room.refused.load(Ordering::SeqCst));
        let now = self.0.clock.now();
        if now.since(refused).is_none_or(|age| age >= REFUSED) {
            self.make_room(Wanted::default()).await;
        }
        if self.is_within() {
            return Some(reservation);
        }
        self.0.room.refused.store(now.0, Ordering::SeqCst);
        None
    }

    /// Whether all that is stored and on its way is allowed.
    fn is_within(&self) -> bool {
        let room = &self.0.room;
        let reserved = room.reserved.load(Ordering::SeqCst);
        self.0.store.used().saturating_add(reserved) <= room.max.load(Ordering::SeqCst)
    }

    /// Notes that a write of so many bytes failed. If the disk is full and room can be made, writes go on; else new content is passed through
    /// for a while.
    pub(super) async fn after_write_failure(&self, error: &Error, size: u64) {
        let full = matches!(error, Error::Store(error) if storage::Error::is_full(error));
        let freed = if full {
            let disk = size.max(DISK_STEP);
            self.make_room(Wanted { disk }).await
        } else {
            0
        };
        if freed == 0 {
            self.note_write_failure(error);
        } else {
            self.0.metrics.store_write_failures.inc();
            tracing::warn!(%error, freed, "the disk was full; room was made");
        }
    }

    /// Runs until told to stop: makes room when woken and now and then, and writes down what was used.
    pub async fn keep_room(self, stop: CancellationToken) {
        let mut timer = tokio::time::interval(self.0.patience.upkeep);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wake = self.0.room.wake.notified();
            let ticked = tokio::select! {
                () = stop.cancelled() => break,
                () = wake => false,
                () = tokio::time::sleep(AGAIN), if self.admission_is_stopped() => false,
                _ = timer.tick() => true,
            };
            self.make_room(Wanted::default()).await;
            if ticked {
                self.write_uses().await;
            }
        }
        self.write_uses().await;
    }

    async fn write_uses(&self) {
        let written = self.blocking(|store| Ok(store.write_uses())).await;
        if let Err(error) = written {
            tracing::error!(%error, "failed to write down what was used");
        }
    }
}
