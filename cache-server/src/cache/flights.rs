//! One question at a time: whoever asks what is being asked waits for the same answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::Error;
use crate::spans;

/// Running questions by key.
#[derive(Debug)]
pub struct Flights<K, V> {
    running: Arc<Mutex<Running<K, V>>>,
}

type Running<K, V> = HashMap<K, (Instant, watch::Receiver<Option<V>>)>;

/// A place among those who wait for an answer.
#[derive(Debug)]
pub struct Seat<V> {
    answer: watch::Receiver<Option<V>>,
    /// When it was asked.
    pub asked: Instant,
    /// Whether this one made the question be asked.
    pub first: bool,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the running question, or has `start` make the future that a task then runs. The task outlives its askers.
    pub fn join<F>(
        &self,
        key: &K,
        tasks: &tokio_util::task::TaskTracker,
        start: impl FnOnce() -> F,
    ) -> Seat<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, answer)) = running.get(key) {
            return Seat {
                answer: answer.clone(),
                asked: *asked,
                first: false,
            };
        }
        let (sender, receiver) = watch::channel(None);
        let asked = Instant::now();
        running.insert(key.clone(), (asked, receiver.clone()));
        let landing = Landing {
            running: self.running.clone(),
            key: key.clone(),
        };
        let question = start();
        let span = spans::question();
        tasks.spawn(async move {
            let answer = question.instrument(span).await;
            // Removed before it is told: who comes later asks anew.
            drop(landing);
            let _ = sender.send(Some(answer));
        });
        Seat {
            answer: receiver,
            asked,
            first: true,
        }
    }
}

impl<V: Clone> Seat<V> {
    /// The answer; `None` if its task ended without one.
    pub async fn wait(&mut self) -> Option<V> {
        self.answer
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|answer| answer.clone())
    }
}

impl<T: Clone> Seat<Result<T, Error>> {
    /// The answer of a question that can fail. `patience`: how long after it was asked it is waited for at most; it is asked on.
    pub async fn answer(&mut self, patience: Option<Duration>) -> Result<T, Error> {
        let answer = match patience {
            Some(patience) => timeout_at(self.asked + patience, self.wait())
                .await
                .map_err(|_| Error::Slow)?,
            None => self.wait().await,
        };
        answer.unwrap_or(Err(Error::Gone))
    }
}

/// Removes the question when its task ends, however it ends.
struct Landing<K: Hash + Eq, V> {
    running: Arc<Mutex<Running<K, V>>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;

    #[tokio::test]
    async fn a_question_is_asked_once_and_then_anew() {
        let flights = Flights::default();
        let tasks = TaskTracker::new();
        let (sender, receiver) = tokio::sync::oneshot::channel::<u32>();
        let mut first = flights.join(&"key", &tasks, || async { receiver.await.unwrap() });
        let mut second = flights.join(&"key", &tasks, || async { 0 });
        assert!(first.first && !second.first);
        sender.send(7).unwrap();
        assert_eq!(
            (first.wait().await, second.wait().await),
            (Some(7), Some(7))
        );
        assert!(flights.join(&"key", &tasks, || async { 8 }).first);
    }

    #[tokio::test]
    async fn a_question_that_dies_leaves_no_one_waiting() {
        let flights = Flights::<_, u32>::default();
        let tasks = TaskTracker::new();
        let mut seat = flights.join(&"key", &tasks, || async { panic!("on purpose") });
        assert_eq!(seat.wait().await, None);
        assert!(flights.join(&"key", &tasks, || async { 1 }).first);
    }
}
