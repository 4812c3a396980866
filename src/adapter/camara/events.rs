//! webrtc-events.yaml: subscriptions, and the webhooks that they are served by.

use std::sync::Arc;

use uuid::Uuid;

use super::notice::Notice;
use crate::identity::principal::UserId;

/// All subscriptions.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {}

impl Subscriptions {
    /// Something happened to a user's device.
    pub(super) fn hear(&self, _user: &UserId, _device: Uuid, _notice: &Arc<Notice>) {}
}
