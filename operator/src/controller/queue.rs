//! Caches that wait to be looked at, in the order in which they were woken, before kube's controller takes them up. Whatever happens to
//! one, the controller goes through all that it has taken up, and through all that were woken again meanwhile; so it gets few at a time, and
//! none that it is at work on.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::{Stream, StreamExt as _, stream};

use crate::watches::CacheRef;

/// Caches that the controller may have at a time: twice as many as may talk to the API server, so that those never wait for it. Those that wait for
/// their pods don't count.
const AHEAD: usize = 32;

/// The waiting caches of one controller.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    order: VecDeque<CacheRef>,
    /// Those in `order`.
    waiting: HashSet<CacheRef>,
    /// Given to the controller, which has not let others go first since.
    ahead: HashSet<CacheRef>,
    running: HashSet<CacheRef>,
    /// Woken while running.
    again: HashSet<CacheRef>,
    /// Of the stream, which has nothing to give at the moment.
    waker: Option<Waker>,
}

impl Queue {
    /// Each cache that `woken` names at least once more, those that wait longest first.
    pub(super) fn in_order<S>(&self, woken: S) -> impl Stream<Item = CacheRef> + Send + use<S>
    where
        S: Stream<Item = CacheRef> + Send + 'static,
    {
        let queue = self.clone();
        let mut woken = Box::pin(woken.fuse());
        stream::poll_fn(move |context| {
            while let Poll::Ready(Some(cache)) = woken.poll_next_unpin(context) {
                queue.state().wake(cache);
            }
            queue.state().poll_next(context, woken.is_done())
        })
    }

    /// To be called when the controller begins with a cache.
    pub(super) fn begin(&self, cache: &CacheRef) -> Run {
        self.state().running.insert(cache.clone());
        Run {
            queue: self.clone(),
            cache: cache.clone(),
        }
    }

    /// Lets others go first: for a cache that will not be begun with, or that only waits from now on.
    pub(super) fn pass(&self, cache: &CacheRef) {
        let mut state = self.state();
        state.ahead.remove(cache);
        state.notify();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&mut self, cache: CacheRef) {
        if self.running.contains(&cache) {
            self.again.insert(cache);
        } else if self.waiting.insert(cache.clone()) {
            self.order.push_back(cache);
        }
    }

    fn poll_next(&mut self, context: &Context<'_>, last: bool) -> Poll<Option<CacheRef>> {
        while self.ahead.len() < AHEAD
            && let Some(cache) = self.order.pop_front()
        {
            self.waiting.remove(&cache);
            if self.running.contains(&cache) {
                // It came by itself, for its time to be looked at.
                self.again.insert(cache);
                continue;
            }
            self.ahead.insert(cache.clone());
            return Poll::Ready(Some(cache));
        }
        if last && self.order.is_empty() && self.again.is_empty() {
            return Poll::Ready(None);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn notify(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The controller is at work on a cache until this is dropped.
#[must_use]
pub(super) struct Run {
    queue: Queue,
    cache: CacheRef,
}

impl Run {
    /// Counts as one that the controller has until what is returned is dropped.
    pub(super) fn place(&self) -> Place<'_> {
        Place(self)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.running.remove(&self.cache);
        state.ahead.remove(&self.cache);
        if state.again.remove(&self.cache) {
            state.wake(self.cache.clone());
        }
        state.notify();
    }
}

/// See [`Run::place`].
#[must_use]
pub(super) struct Place<'a>(&'a Run);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queue.pass(&self.0.cache);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use futures::channel::mpsc;

    use super::*;

    fn cache(number: usize) -> CacheRef {
        CacheRef::new(&number.to_string()).within("team-a")
    }

    /// A queue, its stream, and the way to wake caches.
    fn queue() -> (
        Queue,
        impl Stream<Item = CacheRef> + Send + Unpin,
        mpsc::UnboundedSender<CacheRef>,
    ) {
        let queue = Queue::default();
        let (sender, receiver) = mpsc::unbounded();
        let stream = Box::pin(queue.in_order(receiver));
        (queue, stream, sender)
    }

    fn wake(sender: &mpsc::UnboundedSender<CacheRef>, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            sender.unbounded_send(cache(number)).unwrap();
        }
    }

    /// What the stream gives before it waits.
    fn given(stream: &mut (impl Stream<Item = CacheRef> + Unpin)) -> Vec<String> {
        let next = || stream.next().now_or_never().flatten();
        std::iter::from_fn(next).map(|cache| cache.name).collect()
    }

    fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
        numbers
            .into_iter()
            .map(|number| number.to_string())
            .collect()
    }

    #[test]
    fn each_waiting_cache_is_given_once_in_the_order_of_the_first_wakes() {
        let (_queue, mut stream, sender) = queue();
        wake(&sender, [2, 1, 2, 3, 1]);
        assert_eq!(given(&mut stream), names([2, 1, 3]));
        assert!(given(&mut stream).is_empty());
    }

    #[test]
    fn no_more_are_given_than_may_be_at_work() {
        let (queue, mut stream, sender) = queue();
        wake(&sender, 0..100);
        assert_eq!(given(&mut stream), names(0..AHEAD));
        let run = queue.begin(&cache(0));
        assert!(given(&mut stream).is_empty());
        drop(run.place());
        assert_eq!(given(&mut stream), names([AHEAD]), "one only waits now");
        drop(run);
        assert!(given(&mut stream).is_empty());
        drop(queue.begin(&cache(1)));
        assert_eq!(given(&mut stream), names([AHEAD + 1]), "one has ended");
        queue.pass(&cache(2));
        assert_eq!(given(&mut stream), names([AHEAD + 2]), "one is gone");
    }

    #[test]
    fn a_cache_that_is_woken_at_work_is_given_once_more_when_it_has_ended() {
        let (queue, mut stream, sender) = queue();
        wake(&sender, [1]);
        assert_eq!(given(&mut stream), names([1]));
        let run = queue.begin(&cache(1));
        wake(&sender, [1, 2, 1]);
        assert_eq!(given(&mut stream), names([2]));
        drop(run);
        assert_eq!(given(&mut stream), names([1]));
        assert!(given(&mut stream).is_empty());
    }

    #[test]
    fn a_waiting_cache_that_the_controller_begins_with_by_itself_is_not_given_meanwhile() {
        let (queue, mut stream, sender) = queue();
        wake(&sender, 0..=AHEAD);
        assert_eq!(given(&mut stream), names(0..AHEAD));
        let run = queue.begin(&cache(AHEAD));
        queue.pass(&cache(0));
        assert!(given(&mut stream).is_empty());
        drop(run);
        assert_eq!(given(&mut stream), names([AHEAD]));
    }

    #[tokio::test]
    async fn the_stream_is_woken_when_there_is_room() {
        let (queue, mut stream, sender) = queue();
        wake(&sender, 0..=AHEAD);
        given(&mut stream);
        let next = tokio::spawn(async move { stream.next().await });
        // On this one thread, it comes to its wait meanwhile.
        tokio::task::yield_now().await;
        queue.pass(&cache(0));
        let next = tokio::time::timeout(Duration::from_secs(10), next).await;
        assert_eq!(next.expect("it hangs").unwrap(), Some(cache(AHEAD)));
    }

    #[test]
    fn the_stream_ends_with_what_wakes_and_gives_all_before() {
        let (queue, mut stream, sender) = queue();
        let run = queue.begin(&cache(1));
        wake(&sender, [1, 2]);
        drop(sender);
        assert_eq!(given(&mut stream), names([2]));
        assert!(stream.next().now_or_never().is_none(), "one is at work");
        drop(run);
        assert_eq!(given(&mut stream), names([1]));
        assert_eq!(stream.next().now_or_never(), Some(None));
    }
}
