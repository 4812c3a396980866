//! CAMARA's generation of 2023, as it is served here. Tokens of either generation do: the current scope of the same act,
//! or the plain `read` or `write` of the files.

use serde_json::{Value, json};

use super::camara::{parameter, schema, text, usual};
use super::events::OPENS;
use super::operation::{JSON, Operation};

const READ: &str = "read";
const WRITE: &str = "write";

/// Comes back with each answer.
const ECHO: &[&str] = &["transactionId"];

fn new(method: &'static str, path: &str, id: &str, what: &'static str) -> Operation {
    Operation::new(method, path, format!("{id}2023"), what)
}

/// All of them.
pub(super) fn operations() -> Vec<Operation> {
    let all = [racm(), vvoip(), channels()].into_iter().flatten();
    let mut all: Vec<_> = all.map(|one| one.takes(&["transactionId"])).collect();
    all.push(socket());
    all.into_iter().map(usual).collect()
}

fn racm() -> Vec<Operation> {
    let one = "/racm/v1/{userId}/session/{sessionId}";
    vec![
        new("post", "/racm/v1/{userId}/session", "registerDevice", "Registers a device, or refreshes it")
            .scopes(&["webrtc-registration:sessions:create", WRITE])
            .body("DeviceRegistration")
            .answers_with(200, "The registration", &[(JSON, "RacmSession")], ECHO)
            .refuses(&[409]),
        new("put", one, "refreshRegistration", "Refreshes a registration, and its channel's token")
            .scopes(&["webrtc-registration:sessions:write", WRITE])
            .takes(&["clientId"])
            .answers_with(200, "It is refreshed", &[], ECHO)
            .refuses(&[404]),
        new("delete", one, "endRegistration", "Ends a registration")
            .scopes(&["webrtc-registration:sessions:delete", WRITE])
            .takes(&["clientId"])
            .answers_with(204, "It has ended", &[], ECHO)
            .refuses(&[404]),
    ]
}

fn vvoip() -> Vec<Operation> {
    let (all, one) = ("/vvoip/v1/{userId}/sessions", "/vvoip/v1/{userId}/sessions/{sessionId}");
    let calls = vec![
        new(
            "post",
            all,
            "createSession",
            "Calls; the same `clientCorrelator` and body again are the same call",
        )
        .scopes(&["webrtc-call-handling:sessions:create", WRITE])
        .body("VvoipSession")
        .answers_with(201, "The session", &[(JSON, "VvoipSession")], &["Location", "transactionId"]),
        new("get", one, "getSession", "A session")
            .scopes(&["webrtc-call-handling:sessions:read", READ])
            .answers_with(200, "The session", &[(JSON, "VvoipSession")], ECHO)
            .refuses(&[404]),
        new("delete", one, "endSession", "Cancels, declines or ends a session")
            .scopes(&["webrtc-call-handling:sessions:delete", WRITE])
            .answers_with(204, "It has ended", &[], ECHO)
            .refuses(&[404]),
        new("put", &format!("{one}/status"), "changeSession", "Changes a session")
            .scopes(&["webrtc-call-handling:sessions:write", WRITE])
            .body("ReceiverSessionStatus")
            .answers_with(200, "It is done", &[], ECHO)
            .refuses(&[404]),
    ];
    calls.into_iter().map(|one| one.takes(&["clientId"])).collect()
}

fn channels() -> Vec<Operation> {
    let all = "/notificationchannel/v1/{deviceId}/channels";
    let channels = vec![
        new("get", all, "listChannels", "A device's channel, if it has one")
            .scopes(&["webrtc-events:read", READ])
            .answers_with(200, "The channels", &[(JSON, "NotificationChannels")], ECHO),
        new("post", all, "createChannel", "The address of a device's channel")
            .scopes(&[OPENS[0], OPENS[1], OPENS[2], WRITE])
            .body("NotificationChannelsRequest")
            .answers_with(200, "The channel", &[(JSON, "NotificationChannels")], ECHO)
            .refuses(&[409, 429]),
    ];
    channels.into_iter().map(|one| one.takes(&["clientId"])).collect()
}

/// Not in the file: where a channelURL leads.
fn socket() -> Operation {
    let path = "/notificationchannel/v1/{deviceId}/channels/{secret}";
    new("get", path, "openChannel", "Where a channelURL leads: what can't be guessed stands for its token")
        .takes(&["afterEvent"])
        .answers_with(
            101,
            "A WebSocket (RFC 6455): each event is one text message, followed by a ping whose pong confirms it. Closed \
             as the current generation's, and with 4004 when the registration has ended",
            &[(JSON, "SessionNotification")],
            &[],
        )
        .refuses(&[404, 426, 429])
}

/// The schemas of the files, as this server holds requests and answers to them.
pub(super) fn schemas() -> Value {
    let uri = || json!({ "type": "string", "format": "uri-reference" });
    let party =
        || json!({ "type": "string", "minLength": 1, "maxLength": 256, "examples": ["tel:+14085551000"] });
    let session = json!({
        "originatorAddress": party(),
        "originatorName": text(256),
        "receiverAddress": party(),
        "receiverName": text(256),
        "status": schema("SessionStatus"),
        "offer": schema("WrtcSdpDescriptor"),
        "answer": schema("WrtcSdpDescriptor"),
        "clientCorrelator": text(256),
        "resourceUrl": uri(),
    });
    let mut told = session.clone();
    for (name, member) in [
        ("id", json!({ "type": "string", "format": "uuid" })),
        ("callObjectRef", uri()),
        ("reason", text(2048)),
        ("sequenceNumber", json!({ "type": "string" })),
        ("responseCode", json!({ "type": "integer", "minimum": 100, "maximum": 699 })),
        ("offerRequired", json!({ "const": true })),
    ] {
        told[name] = member;
    }
    let status = json!({
        "status": schema("SessionStatusAsked"),
        "responseCode": {
            "type": ["integer", "string"], "examples": [180, 183, 200],
            "description": "SIP's; 180, 183 and 200 stand for a status where none is there.",
        },
        "offer": schema("WrtcSdpDescriptor"),
        "answer": schema("WrtcSdpDescriptor"),
        "receiverName": text(256),
        "receiverAddress": text(256),
    });
    let mut wrapped = status.clone();
    wrapped["receiverSessionStatus"] = json!({ "type": "object", "properties": status });
    let kind = || json!({ "type": "string", "enum": ["WebSockets"] });
    let data = json!({
        "type": "object", "required": ["channelURL"], "properties": { "channelURL": uri() },
    });
    let list = |items: Value| json!({ "type": "array", "items": items });
    json!({
        "DeviceRegistration": {
            "type": "object", "required": ["deviceId"],
            "properties": { "deviceId": { "type": "string", "format": "uuid", "maxLength": 36 } },
        },
        "RacmSession": {
            "type": "object", "required": ["connectionInformation", "resourceURL"],
            "properties": {
                "connectionInformation": {
                    "type": "object", "required": ["clientId"],
                    "properties": { "clientId": { "type": "string", "format": "uuid" } },
                },
                "resourceURL": uri(),
            },
        },
        "VvoipSession": {
            "type": "object", "required": ["originatorAddress", "receiverAddress"],
            "description": "A request needs `offer`, and `answer` is refused in it; an answer has `status` and `resourceUrl`.",
            "properties": session,
        },
        "ReceiverSessionStatus": {
            "type": "object",
            "description": "`status` or `responseCode` is needed; all of it may be one level deeper, as in the file's examples.",
            "properties": wrapped,
        },
        "NotificationChannelsRequest": {
            "type": "object", "required": ["channels"],
            "properties": { "channels": list(json!({
                "type": "object", "required": ["channelType", "channelData"],
                "properties": { "channelType": kind(), "channelData": { "type": "object" } },
            })) },
        },
        "NotificationChannels": {
            "type": "object", "required": ["channels"],
            "properties": {
                "channels": list(json!({
                    "type": "object", "required": ["channelType", "channelData", "resourceURL"],
                    "properties": { "channelType": kind(), "channelData": data, "resourceURL": uri() },
                })),
                "resourceURL": uri(),
            },
        },
        "SessionNotification": {
            "type": "object", "required": ["id", "receiverAddress", "callObjectRef", "resourceUrl"],
            "description": "An invitation has no `status`.",
            "properties": told,
        },
    })
}

/// The parameters, by their names in paths and in operations.
pub(super) fn parameters() -> Value {
    let visible = || json!({ "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[!-~]+$" });
    let user = "The number that the token is for: `tel:+14085551000`, `sip:+14085551000@example.com` or the number itself";
    json!({
        "userId": parameter("userId", "path", true, user, text(256)),
        "sessionId": parameter("sessionId", "path", true, "A registration, or a call's session", text(256)),
        "secret": parameter("secret", "path", true, "What the server made", text(256)),
        "transactionId": parameter("transactionId", "header", true, "Comes back with the answer", visible()),
        "clientId": parameter("clientId", "header", true, "The device's, as registering it gave it", visible()),
    })
}
