//! Media sessions: each is a call's leg on one side and a device's WebRTC session on the other.

use std::sync::Arc;

use uuid::Uuid;

use super::auth::Caller;
use super::error::{Code, Failure};
use super::location::Location;
use super::notice::SessionView;
use super::registration::Registration;
use crate::adapter::mapping::Status;
use crate::identity::principal::UserId;
use crate::protocol::number::Number;

/// A session that a device asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The device's registration: active, and the caller's own.
    pub(super) registration: Registration,
    /// originatorAddress as it was written.
    pub(super) originator: String,
    /// The caller withholds their number (RFC 3323).
    pub(super) anonymous: bool,
    /// receiverAddress as it was written.
    pub(super) receiver: String,
    /// Whom that is; none: an address that this server can't route, so the session ends as NotReachable.
    pub(super) to: Option<Number>,
    /// originatorName
    pub(super) originator_name: Option<String>,
    /// receiverName
    pub(super) receiver_name: Option<String>,
    /// The offer.
    pub(super) offer: String,
    /// callType EMERGENCY
    pub(super) emergency: bool,
    /// Where the device is.
    pub(super) location: Option<Location>,
    /// 2023: clientCorrelator
    pub(super) correlator: Option<String>,
}

/// What a device wants changed.
#[derive(Debug)]
pub(super) struct Change {
    /// The status that it asks for.
    pub(super) status: Status,
    /// Its offer.
    pub(super) offer: Option<String>,
    /// Its answer to ours.
    pub(super) answer: Option<String>,
    /// Where it is.
    pub(super) location: Option<Location>,
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {}

impl Sessions {
    /// Calls.
    pub(super) async fn create(
        &self,
        _caller: &Caller,
        _wanted: Wanted,
    ) -> Result<Arc<SessionView>, Failure> {
        Err(none())
    }

    /// A user's session. Ended ones stay readable for a while.
    pub(super) async fn get(&self, _user: &UserId, _id: Uuid) -> Result<Arc<SessionView>, Failure> {
        Err(none())
    }

    /// Changes one.
    pub(super) async fn update(
        &self,
        _user: &UserId,
        _id: Uuid,
        _change: Change,
    ) -> Result<Arc<SessionView>, Failure> {
        Err(none())
    }

    /// Cancels, declines or ends one.
    pub(super) async fn remove(&self, _user: &UserId, _id: Uuid) -> Result<(), Failure> {
        Err(none())
    }
}

fn none() -> Failure {
    Failure::new(Code::NotFound, "mediaSessionId: there is no such session")
}
