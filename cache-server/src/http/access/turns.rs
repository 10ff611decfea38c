//! Who may have a password verified now. It costs a core for a while, so there are few places, and one address has one of them
//! at most: whoever guesses waits for his own guesses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Line, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// Lines by address, and the places that they lead to.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    lines: Arc<Mutex<HashMap<IpAddr, Waiting>>>,
    places: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Waiting {
    line: Arc<Line<()>>,
    count: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _place: OwnedSemaphorePermit,
    _line: OwnedMutexGuard<()>,
    _entry: Entry,
}

/// One who waits or has a place.
#[derive(Debug)]
struct Entry {
    turns: Turns,
    address: IpAddr,
}

impl Default for Turns {
    /// Half of the cores.
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::of((cores / 2).max(1))
    }
}

impl Turns {
    fn of(places: usize) -> Self {
        Self {
            lines: Arc::default(),
            places: Arc::new(Semaphore::new(places)),
        }
    }

    pub(super) async fn wait(&self, address: IpAddr) -> Turn {
        let address = network(address);
        let line = {
            let mut lines = self.lines();
            let waiting = lines.entry(address).or_default();
            waiting.count += 1;
            waiting.line.clone()
        };
        let entry = Entry {
            turns: self.clone(),
            address,
        };
        let line = line.lock_owned().await;
        let Ok(place) = self.places.clone().acquire_owned().await else {
            unreachable!("the places are never closed");
        };
        Turn {
            _place: place,
            _line: line,
            _entry: entry,
        }
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<IpAddr, Waiting>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut lines = self.turns.lines();
        if let Some(waiting) = lines.get_mut(&self.address) {
            waiting.count -= 1;
            if waiting.count == 0 {
                lines.remove(&self.address);
            }
        }
    }
}

/// One machine has as many IPv6 addresses as it likes, in one network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn one_address_has_one_place_and_leaves_the_others_to_others() {
        let turns = Turns::of(2);
        let first = turns.wait(address("10.0.0.1")).await;
        assert!(turns.wait(address("10.0.0.1")).now_or_never().is_none());
        let other = turns.wait(address("10.0.0.2")).now_or_never().unwrap();
        assert!(turns.wait(address("10.0.0.3")).now_or_never().is_none());
        drop(first);
        assert!(turns.wait(address("10.0.0.1")).now_or_never().is_some());
        drop(other);
        assert!(turns.lines().is_empty());
    }

    #[tokio::test]
    async fn addresses_of_one_network_stand_in_one_line() {
        let turns = Turns::of(2);
        let _first = turns.wait(address("2001:db8::1")).await;
        let same = turns.wait(address("2001:db8::ffff:2"));
        assert!(same.now_or_never().is_none());
        let other = turns.wait(address("2001:db8:0:1::1"));
        assert!(other.now_or_never().is_some());
    }
}
