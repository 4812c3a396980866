//! The same events over a WebSocket.

use std::sync::Arc;

use uuid::Uuid;

use super::notice::Notice;
use crate::identity::principal::UserId;

/// All channels.
#[derive(Debug, Default)]
pub(super) struct Channels {}

impl Channels {
    /// Something happened to a user's device.
    pub(super) fn hear(&self, _user: &UserId, _device: Uuid, _notice: &Arc<Notice>) {}
}
