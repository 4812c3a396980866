//! Channels over real sockets.

use crate::adapter::camara::notice::{SessionNotice, SessionView};
use crate::adapter::mapping::Status;

use super::*;

/// A session's change, as large as its offer.
pub(super) fn status(offer: &str) -> Arc<Notice> {
    let session = SessionView {
        id: Uuid::from_u128(7),
        user: UserId::derive("urn:test", "alice"),
        device: Uuid::from_u128(8),
        registration: Uuid::from_u128(9),
        originator: "tel:+14085550002".into(),
        originator_name: None,
        receiver: "tel:+14085550001".into(),
        receiver_name: None,
        status: Status::Ringing,
        offer: Some(offer.to_owned()),
        answer: None,
        emergency: false,
        location: None,
        correlator: None,
    };
    Arc::new(Notice::Status(SessionNotice {
        session: Arc::new(session),
        reason: "it rings".into(),
        sequence: 1,
        sip: Some(180),
        offer_required: false,
        location: None,
    }))
}
