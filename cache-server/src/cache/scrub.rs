//! The scrubber: reads all content once in an interval, slowly, and takes away what rotted on the disk, so that the next
//! request fetches it anew.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Cache;
use crate::clock::Moment;
use crate::oci::Digest;
use crate::storage::{self, Verdict};

/// Bytes that are read in a second at most: a terabyte takes 17 hours.
const PACE: u32 = 16 << 20;

impl Cache {
    /// Runs until told to stop. An interval of zero: never scrubs.
    pub async fn scrub(self, interval: Duration, stop: CancellationToken) {
        if interval.is_zero() {
            return;
        }
        let mut timer = tokio::time::interval(self.0.patience.upkeep);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timer.tick() => {}
            }
            let Some(then) = self.last_scrub(&mut last).await else {
                continue;
            };
            let due = self
                .0
                .clock
                .now()
                .since(then)
                .is_none_or(|age| age >= interval);
            if !due || !self.0.store.is_scanned() {
                continue;
            }
            let (cache, stopped) = (self.clone(), stop.clone());
            let pass = self.blocking(move |_| cache.scrub_once(&stopped)).await;
            match pass {
                Ok(Some(end)) => last = Some(end),
                Ok(None) => return,
                Err(error) => tracing::error!(%error, "failed to scrub the store"),
            }
        }
    }

    /// When the last pass ended.
    async fn last_scrub(&self, last: &mut Option<Moment>) -> Option<Moment> {
        if last.is_none() {
            let now = self.0.clock.now();
            let read = self
                .blocking(move |store| Ok(store.last_scrub()?.unwrap_or(now)))
                .await;
            *last = read
                .inspect_err(
                    |error| tracing::error!(%error, "failed to read when the store was scrubbed"),
                )
                .ok();
        }
        *last
    }

    /// One pass over everything. When it ended, or `None` if it was stopped.
    fn scrub_once(&self, stop: &CancellationToken) -> Result<Option<Moment>, storage::Error> {
        let store = &self.0.store;
        let (mut checked, mut wrong) = (0_u64, 0_u64);
        store.each_content(&mut |digest, _| {
            let metrics = &self.0.metrics;
            let verdict = store.verify(&digest, &mut |count| {
                metrics.scrubbed_bytes.inc_by(count as u64);
                let bytes = u32::try_from(count).unwrap_or(u32::MAX);
                std::thread::sleep(Duration::from_secs(1) * bytes / PACE);
                !stop.is_cancelled()
            })?;
            if verdict == Verdict::Wrong {
                self.forget_recent();
                wrong += 1;
                self.take_away(&digest)?;
            }
            checked += 1;
            Ok(verdict != Verdict::Stopped && !stop.is_cancelled())
        })?;
        if stop.is_cancelled() {
            return Ok(None);
        }
        let now = self.0.clock.now();
        store.put_last_scrub(now)?;
        tracing::info!(checked, wrong, "scrubbed the store");
        Ok(Some(now))
    }

    fn take_away(&self, digest: &Digest) -> Result<(), storage::Error> {
        self.0.metrics.scrub_wrong.inc();
        tracing::error!(%digest, "the content of {digest} rotted; it is moved to quarantine and fetched anew when it is asked for");
        self.0.store.quarantine(digest)
    }
}
