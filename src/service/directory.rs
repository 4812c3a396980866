//! Which legs there are, whose they are, and which task owns their call.

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;

use tokio::task::AbortHandle;

use super::actor::CallHandle;
use super::{read, write};
use crate::call::{Call, Leg};
use crate::protocol::id::{CallId, LegId, TgId};

/// Which call a leg belongs to, and whose it is.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    legs: HashMap<LegId, (CallHandle, TgId, String)>,
    live: HashMap<String, HashSet<LegId>>,
    /// Live callers' legs below each TG.
    placed: HashMap<TgId, HashSet<LegId>>,
    owners: HashMap<CallId, AbortHandle>,
    live_legs: usize,
}

impl Directory {
    pub(crate) fn insert(&self, leg: &Leg, calls: &CallHandle) {
        let mut inner = write(&self.inner);
        inner.legs.insert(leg.id, (calls.clone(), leg.tg.clone(), leg.user.clone()));
        if inner.live.entry(leg.user.clone()).or_default().insert(leg.id) {
            inner.live_legs += 1;
        }
        if leg.is_outbound() {
            inner.placed.entry(leg.tg.clone()).or_default().insert(leg.id);
        }
    }

    pub(crate) fn owned_by(&self, id: CallId, task: AbortHandle) {
        write(&self.inner).owners.insert(id, task);
    }

    pub(crate) fn ended(&self, leg: LegId) {
        let mut inner = write(&self.inner);
        let Some((_, tg, user)) = inner.legs.get(&leg) else { return };
        let (tg, user) = (tg.clone(), user.clone());
        if let Some(placed) = inner.placed.get_mut(&tg) {
            placed.remove(&leg);
        }
        if let Some(live) = inner.live.get_mut(&user) {
            let was = live.remove(&leg);
            if live.is_empty() {
                inner.live.remove(&user);
            }
            inner.live_legs -= usize::from(was);
        }
    }

    pub(crate) fn forget(&self, call: &Call) {
        call.legs().for_each(|leg| self.ended(leg.id));
        let mut inner = write(&self.inner);
        for leg in call.legs() {
            inner.legs.remove(&leg.id);
        }
        inner.owners.remove(&call.id);
    }

    pub(crate) fn get(&self, leg: LegId) -> Option<CallHandle> {
        read(&self.inner).legs.get(&leg).map(|(calls, _, _)| calls.clone())
    }

    pub(super) fn of_user(&self, user: &str) -> Vec<LegId> {
        read(&self.inner).live.get(user).into_iter().flatten().copied().collect()
    }

    pub(super) fn counts(&self, user: &str) -> (usize, usize) {
        let inner = read(&self.inner);
        (inner.live.get(user).map_or(0, HashSet::len), inner.live_legs)
    }

    pub(super) fn placed(&self, tg: &TgId) -> usize {
        read(&self.inner).placed.get(tg).map_or(0, HashSet::len)
    }

    pub(crate) fn all(&self) -> Vec<CallHandle> {
        let inner = read(&self.inner);
        let mut seen = HashSet::new();
        inner.legs.values().filter(|(c, _, _)| seen.insert(c.id)).map(|(c, _, _)| c.clone()).collect()
    }

    /// A leg of this user below this TG.
    pub(super) fn own(&self, user: &str, tg: &TgId, leg: LegId) -> Option<CallHandle> {
        match read(&self.inner).legs.get(&leg) {
            Some((calls, at, of)) if at == tg && of == user => Some(calls.clone()),
            _ => None,
        }
    }

    pub(crate) fn abort_all(&self) {
        read(&self.inner).owners.values().for_each(AbortHandle::abort);
    }
}
