//! How much is asked of an upstream at once, and in a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crds::policy;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place among the requests that run. Given back when it is dropped.
pub(super) type Slot = Option<OwnedSemaphorePermit>;

/// Bounds of one upstream.
#[derive(Debug)]
pub(super) struct Limits {
    slots: Option<Arc<Semaphore>>,
    bucket: Option<Mutex<Bucket>>,
}

impl Limits {
    pub(super) fn new(limits: policy::Limits) -> Self {
        let places = limits
            .concurrency
            .and_then(|number| usize::try_from(number).ok());
        Self {
            slots: places.map(|number| Arc::new(Semaphore::new(number))),
            bucket: limits
                .bytes_per_second
                .map(|rate| Mutex::new(Bucket::new(rate, Instant::now()))),
        }
    }

    /// Waits in line for a place, first come, first served. `None`: it took too long.
    pub(super) async fn slot(&self, patience: Duration) -> Option<Slot> {
        let Some(slots) = &self.slots else {
            return Some(None);
        };
        let permit = tokio::time::timeout(patience, slots.clone().acquire_owned()).await;
        Some(Some(permit.ok()?.ok()?))
    }

    /// Waits until so many bytes more may have come.
    pub(super) async fn throttle(&self, bytes: usize) {
        let Some(bucket) = &self.bucket else {
            return;
        };
        let wait = bucket
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// A token bucket that holds a second's worth and may be overdrawn: who overdraws waits until it is even.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    level: f64,
    filled: Instant,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate and a piece of a body are far below 2^52"
)]
impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        Self {
            rate: rate as f64,
            level: rate as f64,
            filled: now,
        }
    }

    fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.filled);
        self.filled = now;
        self.level = (self.level + age.as_secs_f64() * self.rate).min(self.rate) - bytes as f64;
        Duration::from_secs_f64((-self.level / self.rate).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_at_hand_and_more_is_waited_for() {
        let start = Instant::now();
        let mut bucket = Bucket::new(1000, start);
        assert_eq!(bucket.take(1000, start), Duration::ZERO);
        assert_eq!(bucket.take(500, start), Duration::from_millis(500));
        // Somebody else waits behind.
        assert_eq!(bucket.take(500, start), Duration::from_secs(1));
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.take(250, later), Duration::from_millis(250));
        // Silence does not add up.
        let much_later = start + Duration::from_secs(1000);
        assert_eq!(bucket.take(1000, much_later), Duration::ZERO);
        assert_eq!(bucket.take(1000, much_later), Duration::from_secs(1));
    }
}
