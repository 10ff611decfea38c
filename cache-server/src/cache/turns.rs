//! Which blobs are moved first. When many fills get their bytes at the same moment, one after the other is done early; all at
//! once would be done late, and their clients would ask for the next thing all at once again.

use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Who waits longer goes on without a turn: they make things quicker, and must never stop anything.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// For so long, the one whose turn it is may wait for its source.
const PATIENCE: Duration = Duration::from_millis(2);
/// So many bytes of a blob are moved in a turn; most layers have fewer. The rest of a larger one is in nobody's way.
const BYTES: u64 = 4 * 1024 * 1024;

/// A bounded number of turns, given in the order in which they were asked for.
#[derive(Debug)]
pub(super) struct Turns(Arc<Semaphore>);

/// The right to use a processor; ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    /// Absent if there was none to be had in time, or if it was given up.
    permit: Option<OwnedSemaphorePermit>,
    moved: u64,
}

impl Default for Turns {
    /// One for each processor.
    fn default() -> Self {
        Self::new(std::thread::available_parallelism().map_or(2, NonZero::get))
    }
}

impl Turns {
    fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for a turn, but not for long.
    pub(super) async fn take(&self) -> Turn {
        let waiting = timeout(LONGEST_WAIT, self.0.clone().acquire_owned());
        let permit = waiting.await.ok().and_then(Result::ok);
        Turn { permit, moved: 0 }
    }
}

impl Turn {
    /// For what needs none.
    pub(super) fn none() -> Self {
        Self {
            permit: None,
            moved: 0,
        }
    }

    /// Others work while this one waits for its source: it does not get the turn back.
    pub(super) async fn wait_for<T>(&mut self, source: impl Future<Output = T>) -> T {
        if self.permit.is_none() {
            return source.await;
        }
        let mut source = std::pin::pin!(source);
        if let Ok(came) = timeout(PATIENCE, source.as_mut()).await {
            return came;
        }
        self.permit = None;
        source.await
    }

    /// So many bytes more were given to the writer.
    pub(super) fn moved(&mut self, bytes: u64) {
        self.moved += bytes;
        if self.moved >= BYTES {
            self.permit = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn turns_are_given_in_order_and_nobody_waits_for_long() {
        let turns = Turns::new(1);
        let first = turns.take().await;
        let (mut second, mut third) = (Box::pin(turns.take()), Box::pin(turns.take()));
        let begun = std::time::Instant::now();
        assert!(second.as_mut().now_or_never().is_none());
        assert!(third.as_mut().now_or_never().is_none());
        drop(first);
        assert!(third.as_mut().now_or_never().is_none());
        let second = second.now_or_never().unwrap();
        assert!(second.permit.is_some());
        assert!(third.await.permit.is_none());
        assert!(begun.elapsed() >= LONGEST_WAIT);
    }

    #[tokio::test]
    async fn who_waits_for_its_source_gives_its_turn_up() {
        let turns = Turns::new(1);
        let mut turn = turns.take().await;
        assert_eq!(turn.wait_for(async { 1 }).await, 1);
        assert!(turns.take().now_or_never().is_none());
        let (sender, source) = tokio::sync::oneshot::channel();
        let other = async {
            let other = turns.take().await;
            sender.send(()).unwrap();
            other
        };
        let (other, came) = tokio::join!(other, turn.wait_for(source));
        came.unwrap();
        assert!(other.permit.is_some() && turn.permit.is_none());
    }

    #[tokio::test]
    async fn who_has_moved_enough_gives_its_turn_up() {
        let turns = Turns::new(1);
        let mut turn = turns.take().await;
        turn.moved(BYTES - 1);
        assert!(turns.take().now_or_never().is_none());
        turn.moved(1);
        assert!(turns.take().now_or_never().unwrap().permit.is_some());
    }
}
