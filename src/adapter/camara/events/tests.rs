//! Subscriptions: the queue in virtual time, and real requests to a webhook on loopback.

mod delivery;
mod queue;
mod sinks;
#[path = "../../../../tests/common/webhook.rs"]
#[allow(unreachable_pub, reason = "the end-to-end tests use it too")]
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::notice::{Notice, RegistrationEnd, SessionNotice, SessionView};
use super::record::{Credential, Kind, Record, Secret};
use crate::adapter::mapping::Status;
use crate::identity::principal::UserId;
use crate::protocol::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const DEVICE: Uuid = Uuid::from_u128(0xd);

fn alice() -> UserId {
    UserId::derive("urn:test", "alice")
}

fn record(kind: Kind, sink: &str, now: Timestamp) -> Record {
    Record {
        id: Uuid::new_v4(),
        user: alice(),
        device: DEVICE,
        kind,
        sink: Secret(sink.to_owned()),
        credential: None,
        headers: None,
        method: false,
        expiry_asked: false,
        max_events: None,
        initial: None,
        starts: now,
        expires: now + SECOND * 3600,
        taken: 0,
        ended: None,
    }
}

fn session(id: u128, status: Status, sdp: usize) -> SessionNotice {
    SessionNotice {
        session: Arc::new(SessionView {
            id: Uuid::from_u128(id),
            user: alice(),
            device: DEVICE,
            registration: Uuid::from_u128(1),
            originator: "tel:+14085550002".into(),
            originator_name: None,
            receiver: "tel:+14085550001".into(),
            receiver_name: None,
            status,
            offer: Some("v".repeat(sdp)),
            answer: None,
            emergency: false,
            location: None,
            correlator: None,
        }),
        reason: "for tests".into(),
        sequence: 1,
        sip: None,
        offer_required: false,
        location: None,
    }
}

fn invitation(id: u128) -> Arc<Notice> {
    Arc::new(Notice::Invitation(session(id, Status::Initial, 10)))
}

fn status(id: u128, sequence: u32) -> Arc<Notice> {
    Arc::new(Notice::Status(SessionNotice { sequence, ..session(id, Status::InProgress, 10) }))
}

fn registration_ends(id: u128) -> Arc<Notice> {
    let registration = Uuid::from_u128(id);
    let reason = RegistrationEnd::Expired;
    Arc::new(Notice::RegistrationEnds { registration, reason, description: "for tests" })
}

fn credential(token: &str, life: Duration, now: Timestamp) -> Option<Credential> {
    Some(Credential::new(token.to_owned(), now + life, now))
}
