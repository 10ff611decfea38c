//! Remembers answers for a short moment, so that a failing upstream is not asked by every client anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use std::time::Duration;

use crate::clock::Moment;

/// Above this number the old ones are thrown out; above twice of it, all.
const MANY: usize = 4096;

/// A map whose entries end.
#[derive(Debug)]
pub struct Memory<K, V> {
    entries: Mutex<HashMap<K, (Moment, V)>>,
}

impl<K, V> Default for Memory<K, V> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
        }
    }
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    /// What was put not longer than `lifetime` ago.
    pub fn get(&self, key: &K, now: Moment, lifetime: Duration) -> Option<V> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (put, value) = entries.get(key)?;
        if now.since(*put).is_some_and(|age| age < lifetime) {
            return Some(value.clone());
        }
        entries.remove(key);
        None
    }

    pub fn put(&self, key: K, value: V, now: Moment, lifetime: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MANY {
            entries.retain(|_, (put, _)| now.since(*put).is_some_and(|age| age < lifetime));
        }
        if entries.len() >= 2 * MANY {
            entries.clear();
        }
        entries.insert(key, (now, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_end() {
        let memory = Memory::default();
        let lifetime = Duration::from_secs(1);
        memory.put("a", 1, Moment(0), lifetime);
        assert_eq!(memory.get(&"a", Moment(999), lifetime), Some(1));
        assert_eq!(memory.get(&"a", Moment(1000), lifetime), None);
        assert_eq!(memory.get(&"a", Moment(0), lifetime), None);
    }
}
