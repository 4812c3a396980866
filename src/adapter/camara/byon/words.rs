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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::adapter::camara::notice::RegistrationEnd;
    use crate::adapter::mapping::Status;
    use crate::identity::principal::UserId;
    use crate::protocol::time::Timestamp;

    const URL: &str =
        "https://a.example/vvoip/v1/tel:+14085550002/sessions/00000000-0000-0000-0000-000000000007";

    fn view() -> SessionView {
        SessionView {
            id: Uuid::from_u128(7),
            user: UserId::derive("urn:test", "bob"),
            device: Uuid::from_u128(8),
            registration: Uuid::from_u128(9),
            originator: "tel:+14085550001".into(),
            originator_name: Some("Alice".into()),
            receiver: "tel:+14085550002".into(),
            receiver_name: None,
            status: Status::Initial,
            offer: Some("v=0".into()),
            answer: None,
            emergency: false,
            location: None,
            correlator: None,
        }
    }

    fn told(session: SessionView) -> SessionNotice {
        SessionNotice {
            session: Arc::new(session),
            reason: "it rings".into(),
            sequence: 3,
            sip: Some(180),
            offer_required: false,
            location: None,
        }
    }

    fn said(notice: Notice) -> Value {
        let due = Due::new(Uuid::from_u128(5), Timestamp::from_millis(0), Arc::new(notice));
        let word = word(&due, "https://a.example", |_| "+14085550002".to_owned());
        let Word::Text(text) = word else { panic!("{word:?}") };
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn an_invitation_names_both_parties_and_has_no_status() {
        assert_eq!(
            said(Notice::Invitation(told(view()))),
            json!({
                "id": "00000000-0000-0000-0000-000000000005",
                "originatorAddress": "tel:+14085550001",
                "originatorName": "Alice",
                "receiverAddress": "tel:+14085550002",
                "offer": {"sdp": "v=0"},
                "callObjectRef": URL,
                "resourceUrl": URL,
            })
        );
    }

    #[test]
    fn a_status_has_sips_code_as_a_number_and_its_own_as_text() {
        let session = SessionView {
            status: Status::Ringing,
            receiver_name: Some("Bob".into()),
            offer: None,
            answer: Some("v=1".into()),
            ..view()
        };
        let mut expected = json!({
            "id": "00000000-0000-0000-0000-000000000005",
            "status": "Ringing",
            "responseCode": 180,
            "answer": {"sdp": "v=1"},
            "receiverName": "Bob",
            "receiverAddress": "tel:+14085550002",
            "reason": "it rings",
            "sequenceNumber": "3",
            "callObjectRef": URL,
            "resourceUrl": URL,
        });
        assert_eq!(said(Notice::Status(told(session.clone()))), expected);
        let asked = SessionNotice { offer_required: true, sip: None, ..told(session) };
        expected["offerRequired"] = true.into();
        expected.as_object_mut().unwrap().remove("responseCode");
        assert_eq!(said(Notice::Status(asked)), expected);
    }

    #[test]
    fn a_registrations_end_ends_the_channel() {
        let (registration, reason) = (Uuid::nil(), RegistrationEnd::Network);
        let notice = Notice::RegistrationEnds { registration, reason, description: "over" };
        let due = Due::new(Uuid::nil(), Timestamp::from_millis(0), Arc::new(notice));
        assert_eq!(word(&due, "", |_| unreachable!()), Word::Close(Closing::RegistrationEnded));
    }

    #[test]
    fn a_session_is_shown_by_its_schema() {
        let session = SessionView { correlator: Some("c".into()), answer: Some("v=1".into()), ..view() };
        assert_eq!(
            super::session(&session, "https://a.example", "+14085550002"),
            json!({
                "originatorAddress": "tel:+14085550001",
                "originatorName": "Alice",
                "receiverAddress": "tel:+14085550002",
                "status": "Initial",
                "offer": {"sdp": "v=0"},
                "answer": {"sdp": "v=1"},
                "clientCorrelator": "c",
                "resourceUrl": URL,
            })
        );
    }
}
