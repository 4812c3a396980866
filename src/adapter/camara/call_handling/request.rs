//! webrtc-call-handling.yaml: what a device asks for in a body.

use serde_json::{Map, Value};

use crate::adapter::camara::address::Address;
use crate::adapter::camara::body::{bad, text};
use crate::adapter::camara::error::{Code, Failure};
use crate::adapter::camara::location::Location;
use crate::adapter::camara::registration::Registration;
use crate::adapter::camara::sessions::{Change, Wanted};
use crate::adapter::mapping::Status;
use crate::protocol::number::Number;
use crate::protocol::time::Timestamp;

/// webrtc-call-handling.yaml: `maxLength` of names and of an SDP.
const MAX_NAME: usize = 256;
const MAX_SDP: usize = 65_536;

type Members = Map<String, Value>;

/// webrtc-call-handling.yaml, MediaSessionCreate
#[derive(Debug)]
pub(super) struct Call {
    originator: Address,
    receiver: Address,
    originator_name: Option<String>,
    receiver_name: Option<String>,
    offer: String,
    emergency: bool,
    location: Option<Location>,
}

/// Reads a request for a session.
pub(super) fn call(members: &Members, now: Timestamp) -> Result<Call, Failure> {
    let originator = address(members, "originatorAddress")?;
    let receiver = address(members, "receiverAddress")?;
    if receiver.is_anonymous() {
        return Err(bad("receiverAddress", "sip:anonymous@anonymous.invalid is for originatorAddress only"));
    }
    let originator_name = text(members, "originatorName", MAX_NAME)?.map(str::to_owned);
    let receiver_name = text(members, "receiverName", MAX_NAME)?.map(str::to_owned);
    // webrtc-call-handling.yaml, SessionStatus and WrtcSdpDescriptor: neither belongs to a request for a session.
    if members.contains_key("status") {
        return Err(bad("status", "it is the server's to say when a session is created; leave it out"));
    }
    if members.contains_key("answer") {
        return Err(bad("answer", "a session is created with an offer; leave it out"));
    }
    let offer = sdp(members, "offer")?;
    let offer = offer.ok_or_else(|| bad("offer", "it is missing; {\"sdp\": …} is expected"))?;
    let emergency = match members.get("callType") {
        None => false,
        Some(Value::String(text)) if text == "REGULAR" => false,
        Some(Value::String(text)) if text == "EMERGENCY" => true,
        Some(_) => return Err(bad("callType", "REGULAR or EMERGENCY is expected")),
    };
    let location = location(members, now)?;
    Ok(Call { originator, receiver, originator_name, receiver_name, offer, emergency, location })
}

impl Call {
    /// What it means for the holder of a registration, where emergency calls go to `emergency`.
    pub(super) fn wanted(
        self,
        registration: Registration,
        emergency: Option<&Number>,
    ) -> Result<Wanted, Failure> {
        let anonymous = self.originator.is_anonymous();
        if !anonymous && !self.originator.is(&registration.number) {
            let why = "originatorAddress: originator info is not consistent with the access token; the number of \
                       the registration or sip:anonymous@anonymous.invalid is expected";
            return Err(Failure::new(Code::InvalidTokenContext, why));
        }
        let to = match (self.emergency, emergency) {
            (true, None) => {
                let why = "callType: this server has no route for emergency calls";
                return Err(Failure::new(Code::EmergencyNotSupported, why));
            }
            (true, Some(route)) => Some(route.clone()),
            // webrtc-call-handling.yaml: without callType the call is a regular one, to that service.
            (false, route) if self.receiver.is_emergency() => route.cloned(),
            (false, _) => self.receiver.number(),
        };
        Ok(Wanted {
            registration,
            originator: self.originator.into_text(),
            anonymous,
            receiver: self.receiver.into_text(),
            to,
            originator_name: self.originator_name,
            receiver_name: self.receiver_name,
            offer: self.offer,
            emergency: self.emergency,
            location: self.location,
            correlator: None,
        })
    }
}

/// Reads a request for a change: webrtc-call-handling.yaml, MediaSessionStatusChange.
pub(super) fn change(members: &Members, now: Timestamp) -> Result<Change, Failure> {
    let status = match members.get("status") {
        None => return Err(bad("status", "it is missing; a SessionStatus is expected")),
        Some(value) => value.as_str().and_then(|text| text.parse::<Status>().ok()),
    };
    let status = status.filter(|status| *status != Status::Initial).ok_or_else(|| {
        let all = Status::ALL.iter().filter(|status| **status != Status::Initial);
        let names: Vec<_> = all.map(|status| status.as_str()).collect();
        bad("status", &format!("one of {} is expected", names.join(", ")))
    })?;
    let (offer, answer) = (sdp(members, "offer")?, sdp(members, "answer")?);
    Ok(Change { status, offer, answer, location: location(members, now)? })
}

fn address(members: &Members, field: &str) -> Result<Address, Failure> {
    match members.get(field) {
        None => Err(bad(field, "it is missing; an address is expected, as in tel:+14085551000")),
        Some(Value::String(text)) => text.parse().map_err(|why| bad(field, &format!("{why}"))),
        Some(_) => Err(bad(field, "a string with an address is expected, as in tel:+14085551000")),
    }
}

fn location(members: &Members, now: Timestamp) -> Result<Option<Location>, Failure> {
    members.get("locationDetails").map(|value| Location::read(value, now)).transpose()
}

/// webrtc-call-handling.yaml, WrtcSdpDescriptor. One without an SDP offers nothing.
fn sdp(members: &Members, field: &str) -> Result<Option<String>, Failure> {
    let Some(value) = members.get(field) else { return Ok(None) };
    let inner = value.as_object().ok_or_else(|| bad(field, "a JSON object is expected: {\"sdp\": …}"))?;
    let field = format!("{field}.sdp");
    match inner.get("sdp") {
        None => Err(bad(&field, "it is missing; a session description is expected")),
        Some(Value::String(text)) if text.chars().count() <= MAX_SDP => Ok(Some(text.clone())),
        Some(Value::String(_)) => Err(bad(&field, &format!("it has at most {MAX_SDP} characters"))),
        Some(_) => Err(bad(&field, "a string with a session description is expected")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::identity::principal::UserId;

    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn registration() -> Registration {
        Registration {
            id: Uuid::nil(),
            user: UserId::derive("urn:test", "alice"),
            device: Uuid::nil(),
            number: "+14085550001".parse().unwrap(),
            expires: NOW,
        }
    }

    fn body() -> Value {
        json!({
            "originatorAddress": "tel:+14085550001",
            "receiverAddress": "tel:+14085550002",
            "offer": {"sdp": "v=0"},
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut body = body();
        body[name] = value;
        body
    }

    fn wanted(body: &Value, emergency: Option<&str>) -> Result<Wanted, Failure> {
        let emergency = emergency.map(|number| number.parse::<Number>().unwrap());
        call(body.as_object().unwrap(), NOW)?.wanted(registration(), emergency.as_ref())
    }

    #[test]
    fn a_call_goes_where_its_address_and_type_say() {
        let to = |body: &Value, emergency| {
            wanted(body, emergency).map(|wanted| wanted.to.map(|to| to.to_string())).map_err(|e| e.code())
        };
        let sos = with("receiverAddress", json!("urn:service:sos.fire"));
        let urgent = |mut body: Value| {
            body["callType"] = "EMERGENCY".into();
            body
        };
        let route = Some("+14085551911");
        let there = |number: &str| Ok(Some(number.to_owned()));
        assert_eq!(to(&body(), None), there("+14085550002"));
        assert_eq!(to(&with("callType", json!("REGULAR")), route), there("+14085550002"));
        assert_eq!(to(&sos, route), there("+14085551911"));
        assert_eq!(to(&sos, None), Ok(None));
        assert_eq!(to(&urgent(sos.clone()), route), there("+14085551911"));
        assert_eq!(to(&urgent(body()), route), there("+14085551911"));
        for body in [urgent(sos), urgent(body())] {
            assert_eq!(to(&body, None), Err(Code::EmergencyNotSupported));
        }
        assert_eq!(to(&with("receiverAddress", json!("sip:a%40b@example.com")), None), Ok(None));
    }

    #[test]
    fn who_calls_is_the_registrations_number_or_withheld() {
        for (address, anonymous) in [
            ("tel:+14085550001", false),
            ("sip:+14085550001@example.com", false),
            ("sip:anonymous@anonymous.invalid", true),
        ] {
            let wanted = wanted(&with("originatorAddress", json!(address)), None).unwrap();
            assert_eq!((wanted.originator.as_str(), wanted.anonymous), (address, anonymous));
        }
        for address in
            ["tel:+14085550009", "sip:alice@example.com", "urn:service:sos", "tel:1;phone-context=+1"]
        {
            let failure = wanted(&with("originatorAddress", json!(address)), None).unwrap_err();
            assert_eq!(failure.code(), Code::InvalidTokenContext, "{address}");
        }
    }

    #[test]
    fn all_that_a_call_brings_arrives_and_what_is_unknown_is_passed_over() {
        let mut whole = with("originatorName", "é".repeat(256).into());
        for (name, value) in [
            ("receiverName", json!("Bob")),
            ("offer", json!({"sdp": "😀".repeat(65_536), "x": 1})),
            ("locationDetails", json!({"method": "GPS"})),
            ("clientCorrelator", json!("c")),
            ("mediaSessionId", json!(7)),
        ] {
            whole[name] = value;
        }
        let wanted = wanted(&whole, None).unwrap();
        assert_eq!(wanted.originator_name.unwrap().chars().count(), 256);
        assert_eq!(
            (wanted.receiver_name.as_deref(), wanted.receiver.as_str()),
            (Some("Bob"), "tel:+14085550002")
        );
        assert_eq!(wanted.offer.chars().count(), 65_536);
        assert_eq!(wanted.location.unwrap().0["method"], "GPS");
        assert!(!wanted.emergency && wanted.correlator.is_none());
    }

    #[test]
    fn a_change_may_ask_for_every_status_but_the_first() {
        for status in Status::ALL {
            let read = change(json!({"status": status.as_str()}).as_object().unwrap(), NOW);
            assert_eq!(
                read.map(|change| change.status).ok(),
                Some(*status).filter(|s| *s != Status::Initial)
            );
        }
        let body = json!({
            "status": "Connected", "offer": {"sdp": "o"}, "answer": {"sdp": ""}, "locationDetails": {},
            "originatorAddress": 7, "callType": "x",
        });
        let read = change(body.as_object().unwrap(), NOW).unwrap();
        assert_eq!((read.offer.as_deref(), read.answer.as_deref()), (Some("o"), Some("")));
        assert!(read.location.is_some());
    }
}
