//! BYON-CallHandling-Service.yaml: what a device asks for in a body.

use serde_json::{Map, Value};

use crate::adapter::camara::address::Address;
use crate::adapter::camara::body::{bad, text};
use crate::adapter::camara::error::{Code, Failure};
use crate::adapter::camara::registration::Registration;
use crate::adapter::camara::sessions::{Change, Wanted};
use crate::adapter::mapping::{self, Status};
use crate::protocol::number::Number;

/// The file names no lengths; these are the current generation's.
const MAX_TEXT: usize = 256;
const MAX_SDP: usize = 65_536;

/// BYON-CallHandling-Service.yaml, ReceiverSessionStatus: "possible values are 180, 183, 200".
const CODES: [u16; 3] = [180, 183, 200];

type Members = Map<String, Value>;

/// Reads VvoipSessionInformation. Calls to emergency services go to `emergency`.
pub(super) fn call(
    members: &Members,
    registration: Registration,
    emergency: Option<&Number>,
) -> Result<Wanted, Failure> {
    let originator = address(members, "originatorAddress")?;
    let receiver = address(members, "receiverAddress")?;
    let own = |field| text(members, field, MAX_TEXT).map(|text| text.map(str::to_owned));
    let (originator_name, receiver_name) = (own("originatorName")?, own("receiverName")?);
    let correlator = own("clientCorrelator")?;
    // WrtcsAnswer: "MUST NOT be present in a request from the application to the server to create a session".
    if members.contains_key("answer") {
        return Err(bad("answer", "a session is created with an offer; leave it out"));
    }
    // WrtcsOffer: "MUST be present in a request from the application to the server to create a session".
    let offer = sdp(members, "offer")?;
    let offer = offer.ok_or_else(|| bad("offer", "it is missing; {\"sdp\": …} is expected"))?;
    let from = meant(originator);
    let anonymous = from.as_ref().is_some_and(Address::is_anonymous);
    if !anonymous && !from.is_some_and(|from| from.is(&registration.number)) {
        let why = "originatorAddress: the number of the access token is expected, or sip:anonymous@anonymous.invalid";
        return Err(Failure::new(Code::PermissionDenied, why));
    }
    let to = meant(receiver);
    if to.as_ref().is_some_and(Address::is_anonymous) {
        return Err(bad("receiverAddress", "sip:anonymous@anonymous.invalid is for originatorAddress only"));
    }
    let sos = to.as_ref().is_some_and(Address::is_emergency);
    Ok(Wanted {
        registration,
        originator: originator.to_owned(),
        anonymous,
        receiver: receiver.to_owned(),
        to: if sos { emergency.cloned() } else { to.and_then(|to| to.number()) },
        originator_name,
        receiver_name,
        offer,
        emergency: sos && emergency.is_some(),
        location: None,
        correlator,
    })
}

/// Reads ReceiverSessionStatus; the file's examples wrap it once more.
pub(super) fn change(members: &Members) -> Result<Change, Failure> {
    let members = match members.get("receiverSessionStatus") {
        None => members,
        Some(Value::Object(inner)) => inner,
        Some(_) => return Err(bad("receiverSessionStatus", "a JSON object is expected")),
    };
    let code = members.get("responseCode").map(response_code).transpose()?;
    let status = match (members.get("status"), code) {
        (Some(value), _) => value.as_str().and_then(|text| text.parse().ok()),
        (None, Some(code)) if CODES.contains(&code) => Some(mapping::of_sip(code)),
        (None, _) => return Err(bad("status", "it is missing; a SessionStatus is expected")),
    };
    let status = status.filter(|status| *status != Status::Initial).ok_or_else(|| {
        let all = Status::ALL.iter().filter(|status| **status != Status::Initial);
        let names: Vec<_> = all.map(|status| status.as_str()).collect();
        bad("status", &format!("one of {} is expected", names.join(", ")))
    })?;
    let (offer, answer) = (sdp(members, "offer")?, sdp(members, "answer")?);
    for field in ["receiverName", "receiverAddress"] {
        text(members, field, MAX_TEXT)?;
    }
    Ok(Change { status, offer, answer, location: None })
}

/// An integer by the schema, a string by the examples.
fn response_code(value: &Value) -> Result<u16, Failure> {
    let code = match value {
        Value::Number(number) => number.as_u64().and_then(|code| u16::try_from(code).ok()),
        Value::String(text) if text.len() == 3 => text.parse().ok(),
        _ => None,
    };
    let code = code.filter(|code| (100..700).contains(code));
    code.ok_or_else(|| bad("responseCode", "a SIP response code is expected, as 180, 183 or 200"))
}

/// Address: `^(tel:+[0-9]{5,15}|sip:.+@.+|.+)$`, which is any text.
fn address<'a>(members: &'a Members, field: &str) -> Result<&'a str, Failure> {
    let found = text(members, field, MAX_TEXT)?
        .ok_or_else(|| bad(field, "it is missing; an address is expected, as in tel:+14085551000"))?;
    if found.is_empty() || found.contains(char::is_control) {
        return Err(bad(field, "an address is expected, as in tel:+14085551000"));
    }
    Ok(found)
}

/// What an address means; a bare number is one too.
fn meant(text: &str) -> Option<Address> {
    text.parse().or_else(|_| format!("tel:{text}").parse()).ok()
}

/// WrtcsOffer, WrtcsAnswer. One without an SDP offers nothing.
fn sdp(members: &Members, field: &str) -> Result<Option<String>, Failure> {
    let Some(value) = members.get(field) else { return Ok(None) };
    let inner = value.as_object().ok_or_else(|| bad(field, "a JSON object is expected: {\"sdp\": …}"))?;
    let field = format!("{field}.sdp");
    match text(inner, "sdp", MAX_SDP).map_err(|_| {
        bad(
            &field,
            &format!("a string with a session description is expected, of at most {MAX_SDP} characters"),
        )
    })? {
        None => Err(bad(&field, "it is missing; a session description is expected")),
        Some(text) => Ok(Some(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::identity::principal::UserId;
    use crate::protocol::time::Timestamp;

    fn registration() -> Registration {
        Registration {
            id: Uuid::nil(),
            user: UserId::derive("urn:test", "alice"),
            device: Uuid::nil(),
            number: "+14085550001".parse().unwrap(),
            expires: Timestamp::from_millis(0),
        }
    }

    fn members(value: Value) -> Members {
        value.as_object().unwrap().clone()
    }

    fn with(changes: Value) -> Members {
        let mut body = members(json!({
            "originatorAddress": "tel:+14085550001",
            "receiverAddress": "tel:+14085550002",
            "offer": {"sdp": "v=0"},
        }));
        body.extend(members(changes));
        body
    }

    fn read(body: &Members) -> Result<Wanted, Code> {
        let route = "+14085550911".parse().unwrap();
        call(body, registration(), Some(&route)).map_err(|failure| failure.code())
    }

    #[test]
    fn a_call_is_read_with_each_way_to_write_an_address() {
        for (text, to) in [
            ("tel:+14085550002", Some("+14085550002")),
            ("+14085550002", Some("+14085550002")),
            ("sip:+14085550002@ims.example.com", Some("+14085550002")),
            ("sip:bob@example.com", Some("bob@example.com")),
            ("urn:service:sos", Some("+14085550911")),
            ("somebody", None),
        ] {
            let wanted = read(&with(json!({"receiverAddress": text}))).unwrap();
            assert_eq!((wanted.to.map(|to| to.to_string()).as_deref(), &wanted.receiver[..]), (to, text));
        }
        for own in ["+14085550001", "sip:+14085550001@x.example", "sip:anonymous@anonymous.invalid"] {
            let wanted = read(&with(json!({"originatorAddress": own}))).unwrap();
            assert_eq!((&wanted.originator[..], wanted.anonymous), (own, own.contains("anonymous")));
        }
        let all = json!({
            "originatorName": "A", "receiverName": "B", "clientCorrelator": "c", "status": "Initial", "unknown": [1],
        });
        let wanted = read(&with(all)).unwrap();
        let texts = [wanted.originator_name, wanted.receiver_name, wanted.correlator, Some(wanted.offer)];
        assert_eq!(texts.map(Option::unwrap), ["A", "B", "c", "v=0"]);
        assert!(!wanted.emergency && !wanted.anonymous);
    }

    #[test]
    fn a_call_that_cannot_be_read_is_refused() {
        for other in ["tel:+14085550002", "somebody", "sip:alice@example.com", "tel:+140855500011"] {
            let refused = read(&with(json!({"originatorAddress": other}))).map(drop);
            assert_eq!(refused, Err(Code::PermissionDenied), "{other}");
        }
        let long = "x".repeat(257);
        for bad in [
            json!({"originatorAddress": 7}),
            json!({"receiverAddress": null}),
            json!({"receiverAddress": ""}),
            json!({"receiverAddress": "a\r\nb"}),
            json!({"receiverAddress": long}),
            json!({"receiverAddress": "sip:anonymous@anonymous.invalid"}),
            json!({"originatorName": []}),
            json!({"receiverName": long}),
            json!({"clientCorrelator": 1}),
            json!({"clientCorrelator": long}),
            json!({"answer": {"sdp": "v=0"}}),
            json!({"offer": "v=0"}),
            json!({"offer": {}}),
            json!({"offer": {"sdp": 1}}),
            json!({"offer": {"sdp": "x".repeat(65_537)}}),
        ] {
            assert_eq!(read(&with(bad.clone())).map(drop), Err(Code::InvalidArgument), "{bad}");
        }
        for missing in ["originatorAddress", "receiverAddress", "offer"] {
            let mut body = with(json!({}));
            body.remove(missing);
            assert_eq!(read(&body).map(drop), Err(Code::InvalidArgument), "{missing}");
        }
    }

    #[test]
    fn a_change_is_read_wrapped_or_not_with_its_code_as_number_or_text() {
        let read =
            |body: Value| change(&members(body)).map(|change| (change.status, change.answer.is_some()));
        for code in [json!(183), json!("183")] {
            let body = json!({"status": "InProgress", "answer": {"sdp": "v=0"}, "responseCode": code});
            assert_eq!(read(body.clone()).unwrap(), (Status::InProgress, true));
            assert_eq!(read(json!({"receiverSessionStatus": body})).unwrap(), (Status::InProgress, true));
        }
        for (code, status) in [(180, Status::Ringing), (183, Status::InProgress), (200, Status::Connected)] {
            assert_eq!(read(json!({"responseCode": code})).unwrap(), (status, false));
        }
        assert_eq!(read(json!({"status": "Declined", "responseCode": 603})).unwrap().0, Status::Declined);
        for bad in [
            json!({}),
            json!({"status": "Initial"}),
            json!({"status": "ringing"}),
            json!({"status": 180}),
            json!({"responseCode": 486}),
            json!({"status": "Ringing", "responseCode": 99}),
            json!({"status": "Ringing", "responseCode": 1800}),
            json!({"status": "Ringing", "responseCode": "+18"}),
            json!({"status": "Ringing", "responseCode": -180}),
            json!({"status": "Ringing", "responseCode": true}),
            json!({"status": "Ringing", "answer": []}),
            json!({"status": "Ringing", "receiverName": 1}),
            json!({"receiverSessionStatus": "Ringing"}),
            json!({"receiverSessionStatus": {}, "status": "Ringing"}),
        ] {
            assert_eq!(read(bad.clone()).unwrap_err().code(), Code::InvalidArgument, "{bad}");
        }
    }
}
