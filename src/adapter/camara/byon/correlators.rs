//! `clientCorrelator`: the same correlator and body again is the same session.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::Mutex as Turn;
use uuid::Uuid;

use crate::identity::principal::UserId;
use crate::service::lock;

/// Correlators that are remembered; beyond it the oldest goes.
const MAX: usize = 50_000;

/// Whose it is, and on which device.
type Key = (UserId, Uuid, String);

/// What a correlator stands for, once its session exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Used {
    /// The body's hash.
    pub(super) body: [u8; 32],
    /// The session that came of it.
    pub(super) session: Uuid,
}

/// Who holds its lock is the only one at work on it.
pub(super) type Slot = Arc<Turn<Option<Used>>>;

/// All correlators.
#[derive(Debug, Default)]
pub(crate) struct Correlators(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    slots: HashMap<Key, Slot>,
    order: VecDeque<Key>,
}

impl Correlators {
    /// The correlator's slot.
    pub(super) fn slot(&self, user: &UserId, device: Uuid, correlator: &str) -> Slot {
        lock(&self.0).slot((user.clone(), device, correlator.to_owned()), MAX)
    }
}

impl Book {
    fn slot(&mut self, key: Key, most: usize) -> Slot {
        if let Some(slot) = self.slots.get(&key) {
            return slot.clone();
        }
        while self.order.len() >= most {
            let Some(oldest) = self.order.pop_front() else { break };
            self.slots.remove(&oldest);
        }
        self.order.push_back(key.clone());
        self.slots.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slot_is_its_correlators_until_newer_ones_take_its_place() {
        let mut book = Book::default();
        let key = |n: &str| (UserId::derive("urn:test", "alice"), Uuid::nil(), n.to_owned());
        let used = Used { body: [1; 32], session: Uuid::from_u128(1) };
        *book.slot(key("a"), 2).lock().await = Some(used.clone());
        assert_eq!(*book.slot(key("a"), 2).lock().await, Some(used.clone()));
        assert_eq!(*book.slot(key("b"), 2).lock().await, None);
        assert_eq!(*book.slot(key("a"), 2).lock().await, Some(used));
        book.slot(key("c"), 2);
        assert_eq!((book.slots.len(), book.order.len()), (2, 2));
        assert_eq!(*book.slot(key("a"), 2).lock().await, None);
    }
}
