//! What was read from the store lately, so that what is asked for often takes no way to the disk. Bounded by weight and by
//! time: the store stays the truth, and what somebody removes from it by hand is forgotten soon.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::{Equivalent, HashMap};

use crate::clock::Moment;

/// How long an entry is believed without another look at the store.
pub const LIFETIME: Duration = Duration::from_secs(10);

/// A bounded map. What is asked for moves from the old half to the young one; when the young one is full it becomes the old
/// one, and what was not asked for since is dropped.
#[derive(Debug)]
pub struct Recent<K, V> {
    halves: Mutex<Halves<K, V>>,
    /// Weight of each half.
    bound: usize,
}

#[derive(Debug)]
struct Halves<K, V> {
    young: HashMap<K, Entry<V>>,
    old: HashMap<K, Entry<V>>,
    young_weight: usize,
    /// Counts what was set and forgotten.
    changes: u64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    weight: usize,
    put: Moment,
}

/// Says that the store was not read before this moment. Taken before reading, given back with what was read.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(u64);

impl<K: Hash + Eq, V> Recent<K, V> {
    /// A map of at most that weight.
    pub fn new(weight: usize) -> Self {
        Self {
            halves: Mutex::new(Halves {
                young: HashMap::new(),
                old: HashMap::new(),
                young_weight: 0,
                changes: 0,
            }),
            bound: weight / 2,
        }
    }

    /// What `read` takes of the entry with that key.
    pub fn get<Q, T>(&self, key: &Q, now: Moment, read: impl FnOnce(&mut V) -> T) -> Option<T>
    where
        Q: Hash + Equivalent<K>,
    {
        let mut halves = self.halves();
        if let Some(entry) = halves.young.get_mut(key) {
            if entry.is_believed(now) {
                return Some(read(&mut entry.value));
            }
            halves.remove(key);
            return None;
        }
        let entry = halves.old.remove_entry(key);
        let (key, mut entry) = entry.filter(|(_, entry)| entry.is_believed(now))?;
        let value = read(&mut entry.value);
        halves.insert(key, entry, self.bound);
        Some(value)
    }

    pub fn ticket(&self) -> Ticket {
        Ticket(self.halves().changes)
    }

    /// Keeps what was read from the store, unless something has changed since the ticket was taken.
    pub fn put(&self, key: K, value: V, weight: usize, now: Moment, ticket: Ticket) {
        let mut halves = self.halves();
        if halves.changes == ticket.0 {
            halves.put(key, value, weight, now, self.bound);
        }
    }

    /// Keeps what was written to the store just now.
    pub fn set(&self, key: K, value: V, weight: usize, now: Moment) {
        let mut halves = self.halves();
        halves.changes += 1;
        halves.put(key, value, weight, now, self.bound);
    }

    /// Drops what is no longer so in the store. Called after the store was changed.
    pub fn forget(&self, key: &(impl Hash + Equivalent<K>)) {
        let mut halves = self.halves();
        halves.changes += 1;
        halves.remove(key);
    }

    /// Drops everything.
    pub fn clear(&self) {
        let mut halves = self.halves();
        halves.changes += 1;
        halves.old.clear();
        halves.young.clear();
        halves.young_weight = 0;
    }

    fn halves(&self) -> MutexGuard<'_, Halves<K, V>> {
        self.halves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Entry<V> {
    fn is_believed(&self, now: Moment) -> bool {
        now.since(self.put).is_some_and(|age| age < LIFETIME)
    }
}

impl<K: Hash + Eq, V> Halves<K, V> {
    fn put(&mut self, key: K, value: V, weight: usize, put: Moment, bound: usize) {
        self.remove(&key);
        let entry = Entry { value, weight, put };
        self.insert(key, entry, bound);
    }

    fn insert(&mut self, key: K, entry: Entry<V>, bound: usize) {
        if entry.weight > bound {
            return;
        }
        if self.young_weight + entry.weight > bound {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += entry.weight;
        self.young.insert(key, entry);
    }

    fn remove(&mut self, key: &(impl Hash + Equivalent<K>)) {
        self.old.remove(key);
        if let Some(entry) = self.young.remove(key) {
            self.young_weight -= entry.weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1000);

    fn get(recent: &Recent<&'static str, u32>, key: &'static str, now: Moment) -> Option<u32> {
        recent.get(&key, now, |value| *value)
    }

    fn put(recent: &Recent<&'static str, u32>, key: &'static str, value: u32) {
        let ticket = recent.ticket();
        recent.put(key, value, 10, NOW, ticket);
    }

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let recent = Recent::new(40);
        put(&recent, "a", 1);
        put(&recent, "b", 2);
        put(&recent, "c", 3);
        assert_eq!(get(&recent, "a", NOW), Some(1));
        put(&recent, "d", 4);
        assert_eq!(get(&recent, "b", NOW), None);
        assert_eq!(get(&recent, "a", NOW), Some(1));
        assert_eq!(get(&recent, "d", NOW), Some(4));
        let halves = recent.halves();
        assert!(halves.young.len() + halves.old.len() <= 4);
    }

    #[test]
    fn what_is_too_heavy_is_not_kept() {
        let recent = Recent::new(40);
        recent.set("a", 1, 21, NOW);
        assert_eq!(get(&recent, "a", NOW), None);
        recent.set("a", 1, 20, NOW);
        assert_eq!(get(&recent, "a", NOW), Some(1));
    }

    #[test]
    fn entries_are_believed_for_a_while() {
        let recent = Recent::new(40);
        put(&recent, "a", 1);
        assert_eq!(get(&recent, "a", Moment(10_999)), Some(1));
        assert_eq!(get(&recent, "a", Moment(11_000)), None);
        assert_eq!(recent.halves().young_weight, 0);
        put(&recent, "a", 1);
        assert_eq!(get(&recent, "a", Moment(0)), None, "the clock went back");
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept() {
        let recent = Recent::new(40);
        let early = recent.ticket();
        recent.set("a", 2, 10, NOW);
        recent.put("a", 1, 10, NOW, early);
        assert_eq!(get(&recent, "a", NOW), Some(2));
        let early = recent.ticket();
        recent.forget(&"a");
        recent.put("a", 2, 10, NOW, early);
        assert_eq!(get(&recent, "a", NOW), None);
        put(&recent, "a", 3);
        let early = recent.ticket();
        recent.clear();
        recent.put("a", 3, 10, NOW, early);
        assert_eq!(get(&recent, "a", NOW), None);
        assert_eq!(recent.halves().young_weight, 0);
    }
}
