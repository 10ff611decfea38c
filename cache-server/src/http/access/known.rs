//! Remembers which credentials were right and which were wrong, without remembering any.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::rand::{GetRandomFlags, getrandom};
use sha2::{Digest as _, Sha256};

/// How long what was right counts as right without looking.
const RIGHT: Duration = Duration::from_mins(5);
/// How long what was wrong is not looked at again: a node with an old password asks often.
const WRONG: Duration = Duration::from_mins(1);
/// Entries of each kind.
const MANY: usize = 4096;

/// Known to this process only, and new in each guard: a digest made with it tells nothing, neither its value nor the time of
/// a comparison.
pub(super) struct Key([u8; 32]);

// Not derived: it must not be able to reach a log.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key")
    }
}

pub(super) type Keyed = [u8; 32];

/// Right and wrong ones apart, so that those who guess push out nobody who knows.
#[derive(Debug, Default)]
pub(super) struct Known {
    right: Mutex<HashMap<Keyed, Instant>>,
    wrong: Mutex<HashMap<Keyed, Instant>>,
}

impl Key {
    pub(super) fn random() -> io::Result<Self> {
        let mut key = [0; 32];
        let mut filled = 0;
        while filled < key.len() {
            filled += getrandom(&mut key[filled..], GetRandomFlags::empty())?;
        }
        Ok(Self(key))
    }

    /// Of texts that can't be divided otherwise.
    pub(super) fn digest(&self, parts: &[&[u8]]) -> Keyed {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        // Twice, so that nothing can be appended to what was hashed.
        Sha256::digest(hasher.finalize()).into()
    }
}

impl Known {
    /// Whether these credentials are right, if that was found out lately.
    pub(super) fn get(&self, credentials: &Keyed, now: Instant) -> Option<bool> {
        let is_in = |entries: &Mutex<HashMap<Keyed, Instant>>, lifetime| {
            let entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
            let put = entries.get(credentials);
            put.is_some_and(|put| now.duration_since(*put) < lifetime)
        };
        if is_in(&self.right, RIGHT) {
            return Some(true);
        }
        is_in(&self.wrong, WRONG).then_some(false)
    }

    pub(super) fn put(&self, credentials: Keyed, right: bool, now: Instant) {
        let (entries, lifetime) = if right {
            (&self.right, RIGHT)
        } else {
            (&self.wrong, WRONG)
        };
        let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() >= MANY {
            entries.retain(|_, put| now.duration_since(*put) < lifetime);
        }
        if entries.len() >= MANY {
            entries.clear();
        }
        entries.insert(credentials, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_out_is_forgotten_after_its_time() {
        let (known, key, start) = (Known::default(), Key::random().unwrap(), Instant::now());
        let [right, wrong] = [key.digest(&[b"a", b"b"]), key.digest(&[b"a", b"c"])];
        known.put(right, true, start);
        known.put(wrong, false, start);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(known.get(&right, at(299)), Some(true));
        assert_eq!(known.get(&right, at(300)), None);
        assert_eq!(known.get(&wrong, at(59)), Some(false));
        assert_eq!(known.get(&wrong, at(60)), None);
    }

    #[test]
    fn those_who_guess_push_out_nobody() {
        let (known, key, now) = (Known::default(), Key::random().unwrap(), Instant::now());
        let right = key.digest(&[b"right"]);
        known.put(right, true, now);
        for number in 0..3 * MANY {
            known.put(key.digest(&[&number.to_be_bytes()]), false, now);
        }
        assert_eq!(known.get(&right, now), Some(true));
        assert!(known.wrong.lock().unwrap().len() <= MANY);
    }

    #[test]
    fn parts_are_kept_apart_and_keys_differ() {
        let (one, other) = (Key::random().unwrap(), Key::random().unwrap());
        assert_ne!(one.digest(&[b"ab", b"c"]), one.digest(&[b"a", b"bc"]));
        assert_ne!(one.digest(&[b"a"]), other.digest(&[b"a"]));
        assert_eq!(format!("{one:?}"), "Key");
    }
}
