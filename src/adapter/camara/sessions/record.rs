//! Sessions outlive the process, though their media does not: the call goes on, and the device makes a new offer.

use serde::{Deserialize, Serialize};

use super::owner::Owner;
use super::rules::Role;
use super::{Sessions, Shared};
use crate::adapter::camara::notice::SessionView;
use crate::call::LegView;
use crate::protocol::event::State;
use crate::protocol::id::LegId;
use crate::service::registry::Handler;
use crate::store::{StoreError, Table, Write};

/// Numbers that a session's notices skip at a restart: more than it told before.
const SKIPPED: u32 = 100_000;

/// A session as the store holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) view: SessionView,
    pub(super) role: Role,
    pub(super) leg: LegId,
    pub(super) handler: Handler,
    pub(super) sequence: u32,
}

impl Shared {
    /// Writes a session down. One that can't be is lost at a crash, and its call with it: no reason to refuse it now.
    pub(super) async fn remember(&self, record: &Record) {
        let written = match serde_json::to_vec(record) {
            Ok(value) => {
                let write = Write::put(Table::Sessions, record.view.id.to_string(), value);
                self.service.store.0.write(vec![write]).await
            }
            Err(error) => Err(StoreError::Unavailable(error.to_string())),
        };
        if let Err(error) = written {
            tracing::warn!(%error, "a session could not be written down");
        }
    }

    /// Forgets one. What can't be deleted now goes at the next start.
    pub(super) fn forget(&self, id: uuid::Uuid) {
        drop(self.service.store.0.write(vec![Write::delete(Table::Sessions, id.to_string())]));
    }
}

impl Sessions {
    /// After a restart: the sessions of calls that go on.
    pub(in crate::adapter::camara) async fn restore(&self) -> Result<(), StoreError> {
        for (key, value) in self.shared.service.store.0.load(Table::Sessions).await? {
            let taken_up = match serde_json::from_slice::<Record>(&value) {
                Ok(record) => self.take_up(record).await,
                Err(error) => {
                    tracing::error!(key, %error, "a stored session can't be read; it is left out");
                    None
                }
            };
            if taken_up.is_none() {
                drop(self.shared.service.store.0.write(vec![Write::delete(Table::Sessions, key)]));
            }
        }
        Ok(())
    }

    async fn take_up(&self, mut record: Record) -> Option<()> {
        let Handler { user, tg, key, .. } = &record.handler;
        let calls = self.shared.service.leg(user, tg, record.leg).ok()?;
        let call = calls.view(record.leg, Some(*key)).await.ok()?;
        if !goes_on(&record, &call) {
            return None;
        }
        record.sequence = record.sequence.saturating_add(SKIPPED);
        record.view.answer = None;
        let leg = record.leg;
        self.shared.remember(&record).await;
        let (media, media_events) = self.shared.webrtc.session()?;
        let owner = Owner::restored(&self.shared, record, call.state, media, media_events);
        self.shared.start(owner, calls.id, leg);
        Some(())
    }
}

/// A device that was rung is invited anew; what it had is over.
fn goes_on(record: &Record, call: &LegView) -> bool {
    match call.state {
        State::Answered => true,
        State::Ended => false,
        State::Proceeding | State::Alerting => record.role == Role::Originator,
    }
}

impl Owner {
    /// What the store is to hold of it.
    pub(super) fn record(&self) -> Record {
        Record {
            view: self.view.clone(),
            role: self.role(),
            leg: self.leg,
            handler: self.handler.clone(),
            sequence: self.sequence(),
        }
    }
}
