//! CAMARA's events, as they are served here: subscriptions with webhooks, and channels.

use serde_json::{Value, json};

use super::camara::{parameter, schema, text, time, usual};
use super::operation::{JSON, Operation, component};
use crate::adapter::camara::{EVENT_TYPES, SUBSCRIPTION_ENDED};

/// The last versions of the API, and the one in work.
const VERSIONS: [(&str, &str); 3] = [("v0.3", ""), ("v0.2", "V02"), ("vwip", "Wip")];

const CLOUDEVENT: &str = "application/cloudevents+json";

/// The scopes of which creating a subscription needs that of its type.
pub(super) const CREATES: [&str; 3] = [
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create",
];
/// The same, as channels name them.
pub(super) const OPENS: [&str; 3] = [CREATES[1], CREATES[0], CREATES[2]];

/// All of them, at each version's path.
pub(super) fn operations() -> Vec<Operation> {
    let of = |(version, suffix): (&str, &str)| {
        let base = format!("/webrtc-events/{version}");
        let mut all = subscriptions(&base, suffix);
        all.push(channel(&base, suffix));
        all
    };
    VERSIONS.into_iter().flat_map(of).map(usual).collect()
}

fn subscriptions(base: &str, suffix: &str) -> Vec<Operation> {
    let all = format!("{base}/subscriptions");
    let one = format!("{base}/subscriptions/{{subscriptionId}}");
    let new = |method, path: &str, act: &str, what| {
        Operation::new(method, path, format!("{act}NotificationChannelSubscription{suffix}"), what)
    };
    let list = Operation::new(
        "get",
        &all,
        format!("retrieveNotificationChannelSubscriptionList{suffix}"),
        "The user's subscriptions",
    );
    vec![
        list.scope("webrtc-events:read").answers(200, "The subscriptions", "Subscriptions"),
        new("post", &all, "create", "Subscribes a webhook to one type of events of a device")
            .scopes(&CREATES)
            .body("SubscriptionRequest")
            .answers(201, "The subscription", "Subscription")
            .refuses(&[409, 422, 429])
            .calls_back(webhook()),
        new("get", &one, "retrieve", "A subscription")
            .scope("webrtc-events:read")
            .answers(200, "The subscription", "Subscription")
            .refuses(&[404]),
        new("put", &one, "update", "Changes a subscription's end, or its webhook's token")
            .scope("webrtc-events:update")
            .body("SubscriptionUpdateRequest")
            .answers(200, "The subscription", "Subscription")
            .refuses(&[404]),
        new("delete", &one, "delete", "Ends a subscription")
            .scope("webrtc-events:delete")
            .answers_nothing(204, "It has ended")
            .refuses(&[404]),
    ]
}

/// An extension of the file: the same events over a WebSocket.
fn channel(base: &str, suffix: &str) -> Operation {
    let what = "A device's events over a WebSocket, of the types that the token's scopes name";
    Operation::new("get", format!("{base}/channels/{{deviceId}}"), format!("openChannel{suffix}"), what)
        .scopes(&OPENS)
        .takes(&["afterEvent"])
        .answers_with(
            101,
            "A WebSocket (RFC 6455), which is no part of CAMARA's file: each event is one text message, followed by a \
             ping whose pong confirms it; what is not confirmed comes again to the next socket. A browser gives its \
             token as a subprotocol: `camara-events, bearer.<token>`. Closed with 4000: a newer socket has the \
             channel; 4001: the token has expired; 4002: no pongs; 4003: events were lost",
            &[(CLOUDEVENT, "CloudEvent")],
            &[],
        )
        .refuses(&[404, 426, 429])
}

/// What a webhook is sent.
fn webhook() -> Value {
    let answer = |what: &str| json!({ "description": what });
    json!({
        "notifications": { "{$request.body#/sink}": { "post": {
            "summary": "An event, with the subscription's headers and token; at least once, and in order",
            "requestBody": { "required": true, "content": { CLOUDEVENT: { "schema": schema("CloudEvent") } } },
            "parameters": [component("parameters", "x-correlator")],
            "responses": {
                "204": answer("It has come; so does each other 2xx"),
                "410": answer("No more is wanted: the subscription ends"),
                "429": answer("It is sent again, `Retry-After` later"),
                "default": answer("It is sent again, a limited number of times"),
            },
        } } },
    })
}

/// The schemas of the file, as this server holds requests and answers to them.
pub(super) fn schemas() -> Value {
    let kind = || json!({ "type": "string", "enum": EVENT_TYPES });
    let headers = json!({
        "type": "object", "maxProperties": 16, "additionalProperties": text(512),
        "description": "None that the connection or the server sets.",
    });
    let settings = json!({
        "type": "object",
        "properties": { "headers": headers, "method": { "type": "string", "enum": ["POST"] } },
    });
    let config = json!({
        "type": "object", "required": ["subscriptionDetail"],
        "properties": {
            "subscriptionDetail": {
                "type": "object", "required": ["deviceId"],
                "properties": { "deviceId": { "type": "string", "format": "uuid", "maxLength": 36 } },
            },
            "subscriptionExpireTime": time(),
            "subscriptionMaxEvents": { "type": "integer", "minimum": 1, "maximum": 1_000_000 },
            "initialEvent": { "type": "boolean" },
        },
    });
    let sink = || json!({ "type": "string", "format": "uri", "pattern": "^https://", "maxLength": 1024 });
    let told = json!({
        "protocol": { "type": "string", "enum": ["HTTP"] },
        "sink": sink(),
        "protocolSettings": settings,
        "types": { "type": "array", "minItems": 1, "maxItems": 1, "items": kind() },
        "config": config,
    });
    let mut asked = told.clone();
    asked["types"]["maxItems"] = 3.into();
    asked["types"]["description"] = "More than one is refused by 422.".into();
    asked["sinkCredential"] = schema("SinkCredential");
    let mut subscription = told;
    for (name, member) in [
        ("id", json!({ "type": "string", "format": "uuid" })),
        ("startsAt", time()),
        ("expiresAt", time()),
        ("status", json!({ "type": "string", "enum": ["ACTIVE"] })),
    ] {
        subscription[name] = member;
    }
    json!({
        "SubscriptionRequest": {
            "type": "object", "required": ["protocol", "sink", "types", "config"],
            "description": "Types but registration-ends need an active registration of the device.",
            "properties": asked,
        },
        "SubscriptionUpdateRequest": {
            "type": "object", "additionalProperties": false,
            "properties": {
                "sinkCredential": schema("SinkCredential"),
                "config": {
                    "type": "object", "additionalProperties": false,
                    "properties": { "subscriptionExpireTime": time() },
                },
            },
        },
        "Subscription": {
            "type": "object", "required": ["protocol", "sink", "types", "config", "id", "startsAt", "status"],
            "description": "Credentials are never told.",
            "properties": subscription,
        },
        "Subscriptions": { "type": "array", "maxItems": 100, "items": schema("Subscription") },
        "SinkCredential": {
            "type": "object",
            "required": ["credentialType", "accessToken", "accessTokenExpiresUtc", "accessTokenType"],
            "properties": {
                "credentialType": { "type": "string", "enum": ["ACCESSTOKEN"] },
                "accessToken": text(8192),
                "accessTokenExpiresUtc": time(),
                "accessTokenType": { "type": "string", "enum": ["bearer"] },
            },
        },
        "CloudEvent": {
            "type": "object",
            "description": "CloudEvents 1.0, structured: an event keeps its `id` however often it is sent.",
            "required": ["id", "source", "specversion", "type", "time", "datacontenttype", "data"],
            "properties": {
                "id": { "type": "string", "format": "uuid" },
                "source": { "type": "string", "format": "uri-reference", "minLength": 1 },
                "specversion": { "const": "1.0" },
                "type": { "enum": EVENT_TYPES.iter().chain([&SUBSCRIPTION_ENDED]).collect::<Vec<_>>() },
                "time": time(),
                "datacontenttype": { "const": JSON },
                "data": { "anyOf": [schema("SessionEventData"), schema("EndEventData")] },
            },
        },
        "SessionEventData": {
            "type": "object",
            "description": "An invitation's, and a status's.",
            "required": ["mediaSessionId", "originatorAddress", "receiverAddress", "status", "reason", "sequenceNumber"],
            "properties": {
                "subscriptionId": { "type": "string", "format": "uuid" },
                "mediaSessionId": text(256),
                "originatorAddress": schema("Address"),
                "originatorName": text(256),
                "receiverAddress": schema("Address"),
                "receiverName": text(256),
                "status": schema("SessionStatus"),
                "offer": schema("WrtcSdpDescriptor"),
                "answer": schema("WrtcSdpDescriptor"),
                "reason": text(2048),
                "sequenceNumber": { "type": "integer", "minimum": 1, "maximum": i32::MAX },
                "locationDetails": schema("LocationDetails"),
            },
        },
        "EndEventData": {
            "type": "object",
            "description": "A registration's end, or the subscription's own.",
            "required": ["terminationReason", "terminationDescription"],
            "properties": {
                "subscriptionId": { "type": "string", "format": "uuid" },
                "registrationId": text(256),
                "terminationReason": { "enum": [
                    "REGISTRATION_EXPIRED", "MAX_EVENTS_REACHED", "NETWORK_TERMINATED", "SUBSCRIPTION_EXPIRED",
                    "ACCESS_TOKEN_EXPIRED", "SUBSCRIPTION_DELETED",
                ] },
                "terminationDescription": text(2048),
            },
        },
    })
}

/// The parameters, by their names in paths and in operations.
pub(super) fn parameters() -> Value {
    let uuid = || json!({ "type": "string", "format": "uuid" });
    json!({
        "subscriptionId": parameter("subscriptionId", "path", true, "A subscription", text(256)),
        "deviceId": parameter("deviceId", "path", true, "The device's own name for itself", uuid()),
        "afterEvent": parameter("after", "query", false, "The `id` of the last event that the client has", uuid()),
    })
}
