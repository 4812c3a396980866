//! BYON-CallHandling-Service.yaml: how sessions and what happens to them are told.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::adapter::camara::channels::{Closing, Due, Word};
use crate::adapter::camara::notice::{Notice, SessionNotice, SessionView};

/// A session's resourceUrl.
pub(super) fn url(base: &str, number: &str, session: Uuid) -> String {
    format!("{base}/vvoip/v1/tel:{number}/sessions/{session}")
}

/// VvoipSessionInformation
pub(super) fn session(session: &SessionView, base: &str, number: &str) -> Value {
    let mut members = parties(session);
    members.insert("status".into(), session.status.as_str().into());
    descriptions(&mut members, session);
    if let Some(correlator) = &session.correlator {
        members.insert("clientCorrelator".into(), correlator.as_str().into());
    }
    // The example calls it resourceURL; the schema counts.
    members.insert("resourceUrl".into(), url(base, number, session.id).into());
    members.into()
}

/// What a socket says of an event: the schemas' objects, and with each its `id` and the session's `resourceUrl`, which
/// "the client shall use". An invitation is known by having no `status`.
pub(super) fn word(due: &Due, base: &str, number: impl FnOnce(&SessionView) -> String) -> Word {
    let (told, mut members) = match &*due.notice {
        Notice::Invitation(told) => (told, invitation(told)),
        Notice::Status(told) => (told, status(told)),
        // The files have no words for it, so the channel's end tells it.
        Notice::RegistrationEnds { .. } => return Word::Close(Closing::RegistrationEnded),
    };
    let url = url(base, &number(&told.session), told.session.id);
    members.insert("id".into(), due.id.to_string().into());
    members.insert("callObjectRef".into(), url.as_str().into());
    members.insert("resourceUrl".into(), url.into());
    Word::Text(Value::Object(members).to_string())
}

/// SessionInvitationNotification
fn invitation(told: &SessionNotice) -> Map<String, Value> {
    let mut members = parties(&told.session);
    descriptions(&mut members, &told.session);
    members
}

/// SessionStatusNotification
fn status(told: &SessionNotice) -> Map<String, Value> {
    let session = &told.session;
    let mut members = parties(session);
    members.retain(|name, _| name.starts_with("receiver"));
    descriptions(&mut members, session);
    members.insert("status".into(), session.status.as_str().into());
    members.insert("reason".into(), told.reason.as_str().into());
    members.insert("sequenceNumber".into(), told.sequence.to_string().into());
    if let Some(code) = told.sip {
        members.insert("responseCode".into(), code.into());
    }
    // "This element shall be included and set to true, if the session updates are received without SDP offer."
    if told.offer_required {
        members.insert("offerRequired".into(), true.into());
    }
    members
}

fn parties(session: &SessionView) -> Map<String, Value> {
    let mut members = Map::new();
    let texts = [
        ("originatorAddress", Some(&session.originator)),
        ("originatorName", session.originator_name.as_ref()),
        ("receiverAddress", Some(&session.receiver)),
        ("receiverName", session.receiver_name.as_ref()),
    ];
    for (name, text) in texts {
        text.into_iter().for_each(|text| drop(members.insert(name.into(), text.as_str().into())));
    }
    members
}

fn descriptions(members: &mut Map<String, Value>, session: &SessionView) {
    for (name, sdp) in [("offer", &session.offer), ("answer", &session.answer)] {
        sdp.iter().for_each(|sdp| drop(members.insert(name.into(), json!({"sdp": sdp}))));
    }
}
