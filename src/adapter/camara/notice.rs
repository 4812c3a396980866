//! What devices are told: each generation of the API words it in its own way.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::location::Location;
use crate::adapter::mapping::Status;
use crate::identity::principal::UserId;

/// A media session as its device may see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SessionView {
    /// mediaSessionId
    pub(super) id: Uuid,
    /// Whose it is.
    pub(super) user: UserId,
    /// The device that it runs on.
    pub(super) device: Uuid,
    /// Its registration.
    pub(super) registration: Uuid,
    /// originatorAddress
    pub(super) originator: String,
    /// originatorName
    pub(super) originator_name: Option<String>,
    /// receiverAddress
    pub(super) receiver: String,
    /// receiverName
    pub(super) receiver_name: Option<String>,
    /// Where it stands.
    pub(super) status: Status,
    /// The newest offer of either side.
    pub(super) offer: Option<String>,
    /// Its answer.
    pub(super) answer: Option<String>,
    /// EMERGENCY instead of REGULAR.
    pub(super) emergency: bool,
    /// Where the device itself said that it is.
    pub(super) location: Option<Location>,
    /// 2023: clientCorrelator
    pub(super) correlator: Option<String>,
}

/// Why a registration ends (webrtc-events.yaml, RegistrationTerminationReason).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RegistrationEnd {
    /// Its time has passed.
    Expired,
    /// The network ended it.
    Network,
}

/// One thing that a device is told.
#[derive(Clone, Debug)]
pub(super) enum Notice {
    /// Somebody calls.
    Invitation(SessionNotice),
    /// A session has changed.
    Status(SessionNotice),
    /// A registration has ended.
    RegistrationEnds {
        /// Which one.
        registration: Uuid,
        /// Why.
        reason: RegistrationEnd,
        /// For people.
        description: &'static str,
    },
}

/// A session, when it was told.
#[derive(Clone, Debug)]
pub(super) struct SessionNotice {
    /// As it is now.
    pub(super) session: Arc<SessionView>,
    /// What happened, for people.
    pub(super) reason: String,
    /// Counts from 1 within the session.
    pub(super) sequence: u32,
    /// 2023, responseCode: what SIP would say.
    pub(super) sip: Option<u16>,
    /// 2023, offerRequired: the device is asked for an offer of its own.
    pub(super) offer_required: bool,
    /// Where the other party said that it is, where policy allows it.
    pub(super) location: Option<Location>,
}

/// Everybody who may want to know.
#[derive(Debug)]
pub(super) struct Notices {
    /// By webhook.
    pub(super) subscriptions: super::events::Subscriptions,
    /// By WebSocket.
    pub(super) channels: super::channels::Channels,
}

impl Notices {
    /// Tells a user's device; never waits.
    pub(super) fn tell(&self, user: &UserId, device: Uuid, notice: Notice) {
        let notice = Arc::new(notice);
        self.subscriptions.hear(user, device, &notice);
        self.channels.hear(user, device, &notice);
    }
}
