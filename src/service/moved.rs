//! Legs that left a call for another one: who held the old call's handle reaches them there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::mpsc;

use super::actor::{CallHandle, Command};
use super::lock;
use crate::protocol::id::{CallId, LegId};

/// Where a call's former legs went. A call that is forgotten keeps its list as long as somebody holds its handle.
#[derive(Clone, Debug, Default)]
pub(super) struct Moved(Arc<Mutex<HashMap<LegId, Onward>>>);

/// Another call, which doesn't live on for this.
#[derive(Clone, Debug)]
pub(super) struct Onward {
    id: CallId,
    mailbox: mpsc::WeakSender<Command>,
    moved: Weak<Mutex<HashMap<LegId, Onward>>>,
}

impl Onward {
    pub(super) fn to(calls: &CallHandle) -> Self {
        let (mailbox, moved) = (calls.mailbox.downgrade(), Arc::downgrade(&calls.moved.0));
        Self { id: calls.id, mailbox, moved }
    }

    fn call(&self) -> Option<CallHandle> {
        let (mailbox, moved) = (self.mailbox.upgrade()?, Moved(self.moved.upgrade()?));
        Some(CallHandle { id: self.id, mailbox, moved })
    }
}

impl Moved {
    /// A leg has left.
    pub(super) fn to(&self, leg: LegId, call: Onward) {
        lock(&self.0).insert(leg, call);
    }

    /// It is back.
    pub(super) fn back(&self, leg: LegId) {
        lock(&self.0).remove(&leg);
    }

    fn next(&self, leg: LegId) -> Option<CallHandle> {
        lock(&self.0).get(&leg).and_then(Onward::call)
    }

    /// The call in which a leg is now, if it left. Each step was taken later than the one before, so there is a last one.
    pub(super) fn onward(&self, leg: LegId) -> Option<CallHandle> {
        let mut at = self.next(leg)?;
        while let Some(next) = at.moved.next(leg) {
            at = next;
        }
        Some(at)
    }

    /// All calls to which legs went.
    pub(super) fn all(&self) -> Vec<CallHandle> {
        let legs: Vec<LegId> = lock(&self.0).keys().copied().collect();
        legs.into_iter().filter_map(|leg| self.onward(leg)).collect()
    }
}

impl CallHandle {
    /// The call in which a leg is now.
    pub(super) fn of(&self, leg: LegId) -> Self {
        self.moved.onward(leg).unwrap_or_else(|| self.clone())
    }
}
