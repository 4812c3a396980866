//! CAMARA's registration and call handling, as they are served here.

use serde_json::{Value, json};

use super::operation::Operation;
use crate::adapter::camara::ADDRESS_PATTERN;
use crate::adapter::mapping::Status;

/// The last version of each API, and the one in work.
const VERSIONS: [(&str, &str); 2] = [("v0.3", ""), ("vwip", "Wip")];

/// All of them, at each version's path.
pub(super) fn operations() -> Vec<Operation> {
    let of = |(version, suffix): (&str, &str)| {
        let mut all = registration(&format!("/webrtc-registration/{version}"), suffix);
        all.extend(calls(&format!("/webrtc-call-handling/{version}"), suffix));
        all
    };
    let all = VERSIONS.into_iter().flat_map(of);
    all.map(usual).collect()
}

/// With what any request of these APIs brings, and may meet.
pub(super) fn usual(one: Operation) -> Operation {
    let usual: &[u16] = if one.method == "get" { &[500, 503, 508] } else { &[425, 500, 503, 508] };
    one.takes(&["x-correlator"]).refuses(&[400]).refuses(usual)
}

fn registration(base: &str, suffix: &str) -> Vec<Operation> {
    let all = format!("{base}/sessions");
    let one = format!("{base}/sessions/{{registrationId}}");
    let new =
        |method, path: &str, id: &str, what| Operation::new(method, path, format!("{id}{suffix}"), what);
    vec![
        new("get", &all, "getRegistrationsByDeviceId", "The user's active registrations on a device")
            .scope("webrtc-registration:sessions:read")
            .takes(&["deviceIdQuery"])
            .answers(200, "The registrations", "RegSessionResponses"),
        new("post", &all, "createRegistration", "Registers a device for the token's number")
            .scope("webrtc-registration:sessions:create")
            .body("RegSessionRequest")
            .answers(201, "The registration", "RegSessionResponse")
            .refuses(&[409]),
        new("get", &one, "getRegistrationById", "A registration")
            .scope("webrtc-registration:sessions:read")
            .answers(200, "The registration", "RegSessionResponse")
            .refuses(&[404]),
        new("put", &one, "updateRegistrationById", "Refreshes a registration")
            .scope("webrtc-registration:sessions:write")
            .takes(&["Prefer"])
            .bodies(false, &[("application/json", "RegSessionUpdate")])
            .answers(200, "The registration", "RegSessionResponse")
            .answers_with(204, "Done, where no more was asked for", &[], &["Preference-Applied"])
            .refuses(&[404]),
        new("delete", &one, "deleteRegistrationById", "Ends a registration")
            .scope("webrtc-registration:sessions:delete")
            .answers_nothing(204, "It has ended")
            .refuses(&[404]),
    ]
}

fn calls(base: &str, suffix: &str) -> Vec<Operation> {
    let one = format!("{base}/sessions/{{mediaSessionId}}");
    let new =
        |method, path: &str, id: &str, what| Operation::new(method, path, format!("{id}{suffix}"), what);
    vec![
        new("post", &format!("{base}/sessions"), "createSession", "Calls")
            .scope("webrtc-call-handling:sessions:create")
            .takes(&["registrationIdHeader"])
            .body("MediaSessionCreate")
            .answers(201, "The session", "MediaSessionResponse")
            .refuses(&[501]),
        new("get", &one, "getSessionDetailsById", "A session")
            .scope("webrtc-call-handling:sessions:read")
            .answers(200, "The session", "MediaSessionResponse")
            .refuses(&[404]),
        new("delete", &one, "deleteSessionById", "Cancels, declines or ends a session")
            .scope("webrtc-call-handling:sessions:delete")
            .answers_nothing(204, "It has ended")
            .refuses(&[404]),
        new("put", &format!("{one}/status"), "updateSessionStatus", "Changes a session")
            .scope("webrtc-call-handling:sessions:write")
            .takes(&["Prefer"])
            .body("MediaSessionStatusChange")
            .answers(200, "The session", "MediaSessionResponse")
            .answers_with(204, "Done, where no more was asked for", &[], &["Preference-Applied"])
            .refuses(&[404]),
    ]
}

pub(super) fn text(most: u32) -> Value {
    json!({ "type": "string", "maxLength": most })
}

fn number(least: Option<i32>, most: Option<i32>) -> Value {
    let mut schema = json!({ "type": "number" });
    for (name, bound) in [("minimum", least), ("maximum", most)] {
        if let Some(bound) = bound {
            schema[name] = bound.into();
        }
    }
    schema
}

pub(super) fn schema(name: &str) -> Value {
    super::operation::component("schemas", name)
}

/// A time as RFC 3339 writes it.
pub(super) fn time() -> Value {
    json!({ "type": "string", "format": "date-time", "maxLength": 64 })
}

/// The schemas of the files, as this server holds requests and answers to them.
pub(super) fn schemas() -> Value {
    let statuses = |all: &mut dyn Iterator<Item = &Status>| json!({ "type": "string", "enum": all.map(|status| status.as_str()).collect::<Vec<_>>() });
    let latitude = || number(Some(-90), Some(90));
    let longitude = || number(Some(-180), Some(180));
    let length = || number(Some(0), None);
    let call = json!({
        "originatorAddress": schema("Address"),
        "originatorName": text(256),
        "receiverAddress": schema("Address"),
        "receiverName": text(256),
        "offer": schema("WrtcSdpDescriptor"),
        "callType": { "type": "string", "enum": ["REGULAR", "EMERGENCY"] },
        "locationDetails": schema("LocationDetails"),
    });
    let mut session = call.clone();
    for (name, member) in [
        ("mediaSessionId", text(256)),
        ("status", schema("SessionStatus")),
        ("answer", schema("WrtcSdpDescriptor")),
    ] {
        session[name] = member;
    }
    json!({
        "ErrorInfo": {
            "type": "object", "required": ["status", "code", "message"],
            "properties": {
                "status": { "type": "integer", "minimum": 100, "maximum": 599 },
                "code": text(96),
                "message": text(512),
            },
        },
        "PhoneNumber": { "type": "string", "pattern": "^\\+[1-9][0-9]{4,14}$", "examples": ["+14085551000"] },
        "RegSessionRequest": {
            "type": "object", "required": ["deviceId"],
            "properties": {
                "deviceId": { "type": "string", "format": "uuid", "maxLength": 36 },
                "registrationExpireTime": time(),
            },
        },
        "RegSessionUpdate": { "type": "object", "properties": { "registrationExpireTime": time() } },
        "RegSessionResponse": {
            "type": "object", "required": ["regInfo", "registrationId", "expiresAt"],
            "properties": {
                "regInfo": {
                    "type": "object", "required": ["phoneNumber", "regStatus"],
                    "properties": {
                        "phoneNumber": schema("PhoneNumber"),
                        "regStatus": { "type": "string", "enum": ["Registered"] },
                    },
                },
                "registrationId": text(256),
                "expiresAt": time(),
            },
        },
        "RegSessionResponses": { "type": "array", "maxItems": 10, "items": schema("RegSessionResponse") },
        "Address": {
            "type": "string", "maxLength": 256, "pattern": ADDRESS_PATTERN, "examples": ["tel:+14085551000"],
        },
        "SessionStatus": statuses(&mut Status::ALL.iter()),
        "SessionStatusAsked": statuses(&mut Status::ALL.iter().filter(|status| **status != Status::Initial)),
        "WrtcSdpDescriptor": {
            "type": "object",
            "description": "A session description; empty where nobody has given one yet.",
            "properties": { "sdp": text(65_536) },
        },
        "MediaSessionCreate": {
            "type": "object", "required": ["originatorAddress", "receiverAddress", "offer"],
            "description": "`status` and `answer` are refused.",
            "properties": call,
        },
        "MediaSessionResponse": {
            "type": "object", "required": ["originatorAddress", "receiverAddress", "status", "offer", "mediaSessionId"],
            "properties": session,
        },
        "MediaSessionStatusChange": {
            "type": "object", "required": ["status"],
            "properties": {
                "status": schema("SessionStatusAsked"),
                "offer": schema("WrtcSdpDescriptor"),
                "answer": schema("WrtcSdpDescriptor"),
                "locationDetails": schema("LocationDetails"),
            },
        },
        "LocationDetails": {
            "type": "object",
            "properties": {
                "shape": { "type": "string", "enum": ["Circle", "Ellipsoid"] },
                "coordinates": { "oneOf": [schema("CircleCoordinates"), schema("EllipsoidCoordinates")] },
                "method": { "type": "string", "enum": ["GPS", "DBH", "DBH_HELO", "Other"] },
                "confidence": {
                    "type": "object",
                    "properties": {
                        "pdf": { "type": "string", "enum": ["normal", "uniform"] },
                        "value": number(Some(0), Some(100)),
                    },
                },
                "timestamp": time(),
            },
        },
        "CircleCoordinates": {
            "type": "object", "required": ["latitude", "longitude", "radius"],
            "properties": { "latitude": latitude(), "longitude": longitude(), "radius": length() },
        },
        "EllipsoidCoordinates": {
            "type": "object",
            "required": [
                "latitude", "longitude", "zAxis", "semiMajorAxis", "semiMinorAxis", "verticalAxis", "orientation",
            ],
            "properties": {
                "latitude": latitude(),
                "longitude": longitude(),
                "zAxis": number(None, None),
                "semiMajorAxis": length(),
                "semiMinorAxis": length(),
                "verticalAxis": length(),
                "orientation": number(None, None),
            },
        },
    })
}

pub(super) fn parameter(name: &str, place: &str, required: bool, what: &str, schema: Value) -> Value {
    json!({ "name": name, "in": place, "required": required, "description": what, "schema": schema })
}

/// The parameters, by their names in paths and in operations.
pub(super) fn parameters() -> Value {
    let one = parameter;
    let correlator =
        json!({ "type": "string", "maxLength": 256, "pattern": "^[a-zA-Z0-9-_:;.\\/<>{}]{0,256}$" });
    let device = json!({ "type": "string", "format": "uuid" });
    json!({
        "registrationId": one("registrationId", "path", true, "A registration", text(256)),
        "mediaSessionId": one("mediaSessionId", "path", true, "A session", text(256)),
        "registrationIdHeader": one("registrationId", "header", true, "The device's registration", text(256)),
        "deviceIdQuery": one("deviceId", "query", true, "The device's own name for itself", device),
        "x-correlator": one("x-correlator", "header", false, "Comes back with the answer", correlator),
        "Prefer": one("Prefer", "header", false, "`return=minimal` asks for 204 (RFC 7240)", text(256)),
    })
}
