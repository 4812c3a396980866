//! The same events over a WebSocket, for those who can't be called back: a device has one channel, which keeps what
//! was not confirmed, so that a socket that was cut off resumes where it was.
//!
//! | for | look in |
//! |---|---|
//! | the route and its token | `open` |
//! | what is kept, for how long, and what goes first | `rows` |
//! | one socket's life: pings, pongs, closing codes | `socket` |
//! | which events, in which words | `wording` |

mod limits;
mod open;
mod rows;
mod socket;
mod wording;

use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::notice::Notice;
use crate::clock;
use crate::identity::principal::UserId;
use crate::protocol::time::Timestamp;
use crate::service::lock;

use limits::Limits;
use rows::Rows;

pub(super) use open::{Parameters, Socket, after, routes, upgrade};
pub(super) use rows::{Door, Due, Full, Key};
pub(super) use socket::{Closing, Opening};
pub(super) use wording::{SCOPES, Types, Word, Wording};

/// All channels; a handle.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    limits: Arc<Limits>,
    rows: Arc<Mutex<Rows>>,
}

impl Default for Channels {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

impl Channels {
    fn new(limits: Limits) -> Self {
        Self { rows: Arc::new(Mutex::new(Rows::new(limits.clone()))), limits: Arc::new(limits) }
    }

    /// Something happened to a user's device.
    pub(super) fn hear(&self, user: &UserId, device: Uuid, notice: &Arc<Notice>) {
        lock(&self.rows).hear(clock::now(), &(user.clone(), device), Uuid::new_v4(), notice);
    }

    /// An address that opens a device's channel without a token; the one that there is, where there is one.
    pub(super) fn open_door(
        &self,
        user: &UserId,
        device: Uuid,
        types: Types,
        until: Timestamp,
        secret: String,
    ) -> Result<Door, Full> {
        lock(&self.rows).open_door(clock::now(), &(user.clone(), device), types, until, secret)
    }

    /// A newer token keeps it open for longer.
    pub(super) fn renew(&self, user: &UserId, device: Uuid, until: Timestamp) {
        lock(&self.rows).renew(clock::now(), &(user.clone(), device), until);
    }

    /// The address of a device's channel.
    pub(super) fn door(&self, user: &UserId, device: Uuid) -> Option<Door> {
        lock(&self.rows).door(clock::now(), &(user.clone(), device))
    }

    /// Whose channel an address opens.
    pub(super) fn behind(&self, secret: &str) -> Option<(Key, Door)> {
        lock(&self.rows).behind(clock::now(), secret)
    }

    /// Whether a socket may come.
    pub(super) fn room(&self, user: &UserId, device: Uuid) -> Result<(), Full> {
        lock(&self.rows).room(&(user.clone(), device))
    }
}

#[cfg(test)]
mod tests;
