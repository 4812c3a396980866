//! The memory that lets a PASSporT be used once.

use std::collections::{BTreeMap, HashSet};

use super::passport::{Passport, PassportError};
use crate::protocol::time::Timestamp;

/// Remembers used PASSporTs for as long as they could be used again. When it is full it refuses new calls
/// rather than forget an old one: forgetting would open the door that it guards.
#[derive(Debug)]
pub struct ReplayGuard {
    capacity: usize,
    seen: HashSet<[u8; 32]>,
    by_end: BTreeMap<Timestamp, Vec<[u8; 32]>>,
}

impl ReplayGuard {
    /// A guard that remembers at most `capacity` PASSporTs at a time.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, seen: HashSet::new(), by_end: BTreeMap::new() }
    }

    /// Uses up a PASSporT that passed `Passport::check`.
    pub fn spend(&mut self, passport: &Passport, now: Timestamp) -> Result<(), PassportError> {
        self.forget(now);
        let key = passport.replay_key();
        if self.seen.contains(&key) {
            return Err(PassportError::Replay);
        }
        if self.seen.len() >= self.capacity {
            return Err(PassportError::Full);
        }
        self.seen.insert(key);
        self.by_end.entry(passport.forgotten()).or_default().push(key);
        Ok(())
    }

    /// Takes back a use that came to nothing.
    pub fn unspend(&mut self, passport: &Passport) {
        let (key, end) = (passport.replay_key(), passport.forgotten());
        self.seen.remove(&key);
        if let Some(keys) = self.by_end.get_mut(&end) {
            keys.retain(|k| *k != key);
            if keys.is_empty() {
                self.by_end.remove(&end);
            }
        }
    }

    /// Remembers, after a restart, one that was used before it; false: there is no room.
    pub fn restore(&mut self, key: [u8; 32], forgotten: Timestamp) -> bool {
        if self.seen.len() >= self.capacity {
            return false;
        }
        if self.seen.insert(key) {
            self.by_end.entry(forgotten).or_default().push(key);
        }
        true
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn forget(&mut self, now: Timestamp) {
        while let Some(entry) = self.by_end.first_entry().filter(|entry| *entry.key() <= now) {
            for key in entry.remove() {
                self.seen.remove(&key);
            }
        }
    }
}
