//! A [`Notice`] as a CloudEvents 1.0 event in structured JSON (webrtc-events.yaml, CloudEvent).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::notice::{Notice, RegistrationEnd, SessionNotice};
use crate::protocol::time::Timestamp;

/// Somebody calls.
pub(super) const INVITATION: &str = "org.camaraproject.webrtc-events.v0.session-invitation";
/// A session has changed.
pub(super) const STATUS: &str = "org.camaraproject.webrtc-events.v0.session-status";
/// A registration has ended.
pub(super) const REGISTRATION_ENDS: &str = "org.camaraproject.webrtc-events.v0.registration-ends";
/// A subscription has ended.
pub(crate) const SUBSCRIPTION_ENDED: &str = "org.camaraproject.webrtc-events.v0.subscription-ended";
/// What may be subscribed to.
pub(crate) const EVENT_TYPES: [&str; 3] = [STATUS, INVITATION, REGISTRATION_ENDS];

/// webrtc-events.yaml: `maxLength` of names, and of what is said for people.
const MAX_NAME: usize = 256;
const MAX_REASON: usize = 2048;

/// Why a subscription ends (webrtc-events.yaml, TerminationReason).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum SubscriptionEnd {
    /// As many events were sent as were asked for.
    MaxEvents,
    /// The server stops.
    Network,
    /// Its time has passed.
    Expired,
    /// The sink's token is about to end.
    TokenExpired,
    /// Its owner deleted it.
    Deleted,
}

impl SubscriptionEnd {
    /// As it is written.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::MaxEvents => "MAX_EVENTS_REACHED",
            Self::Network => "NETWORK_TERMINATED",
            Self::Expired => "SUBSCRIPTION_EXPIRED",
            Self::TokenExpired => "ACCESS_TOKEN_EXPIRED",
            Self::Deleted => "SUBSCRIPTION_DELETED",
        }
    }

    /// For people.
    const fn description(self) -> &'static str {
        match self {
            Self::MaxEvents => "as many events were sent as subscriptionMaxEvents allows; subscribe again",
            Self::Network => "the server stopped sending events; subscribe again",
            Self::Expired => "the subscription's time has passed; subscribe again",
            Self::TokenExpired => "the sink's access token expires; subscribe again with a new one",
            Self::Deleted => "the subscription was deleted",
        }
    }
}

impl Notice {
    /// The event's `type`.
    pub(super) const fn event_type(&self) -> &'static str {
        match self {
            Self::Invitation(_) => INVITATION,
            Self::Status(_) => STATUS,
            Self::RegistrationEnds { .. } => REGISTRATION_ENDS,
        }
    }
}

/// One event: `id` stays the same however often it is sent, `source` is this server, `time` when it happened.
pub(super) fn cloudevent(
    notice: &Notice,
    id: &str,
    subscription: Option<&str>,
    source: &str,
    time: Timestamp,
) -> Value {
    let mut data = match notice {
        Notice::Invitation(told) | Notice::Status(told) => session(told),
        Notice::RegistrationEnds { registration, reason, description } => Map::from_iter([
            ("registrationId".to_owned(), registration.to_string().into()),
            ("terminationReason".to_owned(), registration_end(*reason).into()),
            ("terminationDescription".to_owned(), short(description, MAX_REASON).into()),
        ]),
    };
    if let Some(subscription) = subscription {
        data.insert("subscriptionId".to_owned(), subscription.into());
    }
    envelope(notice.event_type(), id, source, time, data.into())
}

/// The event that a subscription's end is.
pub(super) fn subscription_ended(
    end: SubscriptionEnd,
    id: &str,
    subscription: &str,
    source: &str,
    time: Timestamp,
) -> Value {
    let data = json!({
        "subscriptionId": subscription,
        "terminationReason": end.as_str(),
        "terminationDescription": end.description(),
    });
    envelope(SUBSCRIPTION_ENDED, id, source, time, data)
}

// EventSessionStatus also demands `mediaSessionId` and `status` beside `data`: a slip of the file, for its own
// example has them in `data` only, and CloudEvents §3 allows no capitals in an attribute's name.
fn envelope(event_type: &str, id: &str, source: &str, time: Timestamp, data: Value) -> Value {
    json!({
        "id": id,
        "source": source,
        "specversion": "1.0",
        "type": event_type,
        "time": time.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// webrtc-events.yaml, MediaSession
fn session(told: &SessionNotice) -> Map<String, Value> {
    let session = &told.session;
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| data.insert(name.to_owned(), value);
    put("mediaSessionId", session.id.to_string().into());
    put("originatorAddress", session.originator.as_str().into());
    put("receiverAddress", session.receiver.as_str().into());
    for (name, value) in
        [("originatorName", &session.originator_name), ("receiverName", &session.receiver_name)]
    {
        value.iter().for_each(|value| drop(put(name, short(value, MAX_NAME).into())));
    }
    put("status", session.status.as_str().into());
    for (name, sdp) in [("offer", &session.offer), ("answer", &session.answer)] {
        sdp.iter().for_each(|sdp| drop(put(name, json!({"sdp": sdp}))));
    }
    put("reason", short(&told.reason, MAX_REASON).into());
    // minimum 1, maximum 2147483647
    put("sequenceNumber", told.sequence.clamp(1, i32::MAX.unsigned_abs()).into());
    // "The field always refers to the sender's own device location": the other party's, as this device sees it.
    told.location.iter().for_each(|location| drop(put("locationDetails", location.0.clone())));
    data
}

const fn registration_end(reason: RegistrationEnd) -> &'static str {
    match reason {
        RegistrationEnd::Expired => "REGISTRATION_EXPIRED",
        RegistrationEnd::Network => "NETWORK_TERMINATED",
    }
}

fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::super::location::Location;
    use super::super::notice::SessionView;
    use super::*;
    use crate::adapter::mapping::Status;
    use crate::identity::principal::UserId;

    const AT: Timestamp = Timestamp::from_millis(1_730_785_223_682);

    fn told(change: impl FnOnce(&mut SessionView)) -> SessionNotice {
        let mut session = SessionView {
            id: Uuid::from_u128(7),
            user: UserId::derive("urn:test", "bob"),
            device: Uuid::from_u128(8),
            registration: Uuid::from_u128(9),
            originator: "tel:+11234567899".into(),
            originator_name: None,
            receiver: "tel:+11234998765".into(),
            receiver_name: None,
            status: Status::Initial,
            offer: None,
            answer: None,
            emergency: false,
            location: Some(Location(json!({"shape": "Circle"}))),
            correlator: None,
        };
        change(&mut session);
        SessionNotice {
            session: Arc::new(session),
            reason: "New subscriber incoming call".into(),
            sequence: 1,
            sip: None,
            offer_required: false,
            location: None,
        }
    }

    #[test]
    fn an_invitation_has_what_is_needed_to_join() {
        let mut told = told(|session| {
            session.originator_name = Some("A".repeat(300));
            session.receiver_name = Some("Bob".into());
            session.offer = Some("v=0\r\n".into());
        });
        told.location = Some(Location(json!({"shape": "Ellipsoid"})));
        let event = cloudevent(&Notice::Invitation(told), "e1", Some("s1"), "https://a.example", AT);
        assert_eq!(
            event,
            json!({
                "id": "e1",
                "source": "https://a.example",
                "specversion": "1.0",
                "type": "org.camaraproject.webrtc-events.v0.session-invitation",
                "time": "2024-11-05T05:40:23.682Z",
                "datacontenttype": "application/json",
                "data": {
                    "subscriptionId": "s1",
                    "originatorAddress": "tel:+11234567899",
                    "originatorName": "A".repeat(256),
                    "receiverAddress": "tel:+11234998765",
                    "receiverName": "Bob",
                    "status": "Initial",
                    "offer": {"sdp": "v=0\r\n"},
                    "mediaSessionId": "00000000-0000-0000-0000-000000000007",
                    "reason": "New subscriber incoming call",
                    "sequenceNumber": 1,
                    "locationDetails": {"shape": "Ellipsoid"},
                },
            })
        );
    }

    #[test]
    fn a_status_leaves_out_what_there_is_not_and_never_tells_where_the_device_itself_is() {
        let mut told = told(|session| {
            session.status = Status::Connected;
            session.answer = Some("v=0\r\n".into());
        });
        told.sequence = u32::MAX;
        let event = cloudevent(&Notice::Status(told), "e2", None, "urn:x", AT);
        assert_eq!(event["type"], STATUS);
        let data = event["data"].as_object().unwrap();
        let names: Vec<_> = data.keys().map(String::as_str).collect();
        let mut expected = [
            "answer",
            "mediaSessionId",
            "originatorAddress",
            "reason",
            "receiverAddress",
            "sequenceNumber",
            "status",
        ];
        expected.sort_unstable();
        let mut names = names;
        names.sort_unstable();
        assert_eq!(names, expected);
        assert_eq!((&data["status"], &data["sequenceNumber"]), (&"Connected".into(), &2_147_483_647.into()));
    }

    #[test]
    fn an_end_says_why() {
        let ended = |reason| {
            let registration = Uuid::from_u128(9);
            let notice = Notice::RegistrationEnds { registration, reason, description: "it is over" };
            cloudevent(&notice, "e3", Some("s1"), "urn:x", AT)
        };
        let event = ended(RegistrationEnd::Expired);
        assert_eq!(event["type"], REGISTRATION_ENDS);
        assert_eq!(
            event["data"],
            json!({
                "subscriptionId": "s1",
                "registrationId": "00000000-0000-0000-0000-000000000009",
                "terminationReason": "REGISTRATION_EXPIRED",
                "terminationDescription": "it is over",
            })
        );
        assert_eq!(ended(RegistrationEnd::Network)["data"]["terminationReason"], "NETWORK_TERMINATED");
        for (end, reason) in [
            (SubscriptionEnd::MaxEvents, "MAX_EVENTS_REACHED"),
            (SubscriptionEnd::Network, "NETWORK_TERMINATED"),
            (SubscriptionEnd::Expired, "SUBSCRIPTION_EXPIRED"),
            (SubscriptionEnd::TokenExpired, "ACCESS_TOKEN_EXPIRED"),
            (SubscriptionEnd::Deleted, "SUBSCRIPTION_DELETED"),
        ] {
            let event = subscription_ended(end, "e4", "s1", "urn:x", AT);
            assert_eq!((&event["type"], &event["id"]), (&SUBSCRIPTION_ENDED.into(), &"e4".into()));
            assert_eq!(event["data"]["subscriptionId"], "s1");
            assert_eq!(event["data"]["terminationReason"], reason);
        }
    }
}
