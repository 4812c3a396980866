//! RIPT's resources.

use serde_json::{Value, json};

use super::operation::{JSON, Operation};
use crate::protocol::problem::Code;
use crate::protocol::resource::{self as bodies, CHUNKS, ROOT};
use crate::resource::scope::{CALLS, CERTS, HANDLERS, TRUNKS};

const EVENTS: &[(&str, &str)] = &[(JSON, "Events"), ("application/x-ndjson", "Event")];

fn on(method: &'static str, path: &str, id: &'static str, what: &'static str) -> Operation {
    Operation::new(method, format!("{ROOT}{path}"), id, what)
}

/// All of them, in the order of their routes.
pub(super) fn operations() -> Vec<Operation> {
    let mut all = vec![
        on("get", "/providertgs", "listTgs", "The TGs that the token may use")
            .token()
            .answers(200, "The TGs", "TgList"),
        on("get", "/providertgs/{tg}", "describeTg", "What a TG allows, and its times")
            .token()
            .answers(200, "The TG", "TgDescription")
            .refuses(&[404]),
    ];
    all.extend(handlers());
    all.extend([enrol("certs", "enrol"), enrol("cert", "enrolInDraftsSpelling").deprecated()]);
    all.extend(calls());
    for (collection, suffix) in [("consumertgs", ""), ("customertgs", "InDraftsSpelling")] {
        let spelling = |all: Vec<Operation>| {
            all.into_iter()
                .map(|one| if suffix.is_empty() { one } else { one.deprecated() })
                .collect::<Vec<_>>()
        };
        all.extend(spelling(registrations(&format!("/{collection}"), suffix)));
        all.extend(spelling(registrations(
            &format!("/providertgs/{{tg}}/{collection}"),
            &format!("OnTg{suffix}"),
        )));
        all.extend(spelling(registration(&format!("/{collection}/{{id}}"), suffix)));
    }
    all.extend(push());
    all.extend([
        Operation::new("get", "/.well-known/ript-oauth", "login", "Where to log in")
            .answers(200, "Endpoints with the names of RFC 8414, `client_id` and `scopes`", "Login")
            .answers_with(302, "For browsers: the login page", &[], &["Location"])
            .refuses(&[404]),
        Operation::new("get", "/.well-known/oauth-protected-resource", "protectedResource", "RFC 9728")
            .answers(200, "What this server asks of tokens", "ProtectedResource"),
    ]);
    // What any request may meet.
    for operation in &mut all {
        let usual: &[u16] = if operation.method == "get" { &[500, 503, 508] } else { &[425, 500, 503, 508] };
        *operation = operation.clone().refuses(usual);
    }
    all
}

fn handlers() -> Vec<Operation> {
    let handlers = "/providertgs/{tg}/handlers";
    let one = "/providertgs/{tg}/handlers/{key}";
    let all = vec![
        on("get", handlers, "listHandlers", "The user's devices on a TG").answers(
            200,
            "The devices",
            "HandlerList",
        ),
        on("post", handlers, "registerHandler", "Registers a device")
            .body("HandlerDescription")
            .answers_with(201, "The device", &[(JSON, "HandlerDescription")], &["Location"])
            .answers_with(
                200,
                "A device of that `handler-id`, unchanged",
                &[(JSON, "HandlerDescription")],
                &["Location"],
            )
            .refuses(&[400, 413, 422, 429]),
        on("get", one, "describeHandler", "A device").answers(200, "The device", "HandlerDescription"),
        on("put", one, "changeHandler", "Changes what a device can do, or its name")
            .body("HandlerDescription")
            .answers(200, "The device", "HandlerDescription")
            .refuses(&[400, 413, 422]),
        on("delete", one, "removeHandler", "Removes a device").answers_nothing(204, "It is gone"),
    ];
    all.into_iter().map(|one| one.scope(HANDLERS).refuses(&[404])).collect()
}

fn enrol(path: &str, id: &'static str) -> Operation {
    on("post", &format!("/providertgs/{{tg}}/{path}"), id, "Issues a certificate for a number of the token's")
        .scope(CERTS)
        .bodies(true, &[("application/pkcs10", ""), ("application/x-pem-file", "")])
        .answers_with(200, "The chain, leaf first", &[("application/pem-certificate-chain", "")], &[])
        .refuses(&[400, 404, 413, 422, 429, 502])
}

fn calls() -> Vec<Operation> {
    let (calls, call) = ("/providertgs/{tg}/calls", "/providertgs/{tg}/calls/{leg}");
    let (events, media) = (format!("{call}/events"), format!("{call}/media"));
    let described = &[(JSON, "CallDescription")];
    let signalling = vec![
        on("get", calls, "listCalls", "The user's live calls").answers(200, "The calls", "CallList"),
        on("post", calls, "placeCall", "Places a call")
            .takes(&["Idempotency-Key"])
            .body("CallRequest")
            .answers_with(201, "The call", described, &["Location", "ETag"])
            .refuses(&[400, 413, 422, 429, 502]),
        on("get", call, "describeCall", "A call, with a fresh ticket for its media")
            .takes(&["handler"])
            .answers_with(200, "The call", described, &["ETag"]),
        on("post", call, "takeCall", "Takes a call, taps a device, or (without a body) reads the call")
            .takes(&["handler", "If-Match"])
            .bodies(false, &[(JSON, "Claim")])
            .answers_with(200, "The call, taken or read", described, &["ETag"])
            .answers_with(202, "The device is tapped", described, &["ETag"])
            .refuses(&[400, 409, 412, 413, 422]),
        on("get", &events, "hearEvents", "Events from the server; the answer stays open")
            .takes(&["handler", "after", "Last-Event-ID"])
            .answers_with(200, "Events, one by one", EVENTS, &[]),
        on(
            "put",
            &events,
            "sendEvents",
            "Events from the client; without Content-Length the request stays open",
        )
        .takes(&["handler"])
        .bodies(true, EVENTS)
        .answers(200, "The newest `seq` taken", "Accepted")
        .refuses(&[400, 409, 413, 422, 429, 502]),
    ];
    let media = [
        on("get", &media, "fetchMedia", "The next chunks for a device; waits up to 10 s")
            .answers_with(200, "Chunks", &[(CHUNKS, "")], &["Set-Cookie"])
            .answers_with(204, "Nothing came", &[], &["Set-Cookie"]),
        on("put", &media, "sendMedia", "Chunks from a device, one of them media at most")
            .bodies(true, &[(CHUNKS, "")])
            .answers_with(200, "Acks and answers", &[(CHUNKS, "")], &["Set-Cookie"])
            .refuses(&[413]),
    ];
    let media =
        media.into_iter().map(|one| one.takes(&["handler"]).or("ticket").or("cookie").refuses(&[400, 410]));
    let all = signalling.into_iter().chain(media);
    all.map(|one| one.scope(CALLS).refuses(&[404])).collect()
}

fn registrations(path: &str, suffix: &str) -> Vec<Operation> {
    let put = |method, id: &str| {
        Operation::new(method, format!("{ROOT}{path}"), format!("{id}{suffix}"), "Registers a customer's TG")
            .body("ConsumerTg")
            .answers_with(201, "The registration", &[(JSON, "ConsumerTg")], &["Location"])
            .answers_with(
                200,
                "That of the same `target-uri`, changed",
                &[(JSON, "ConsumerTg")],
                &["Location"],
            )
            .refuses(&[400, 413, 422, 429])
    };
    let list = Operation::new(
        "get",
        format!("{ROOT}{path}"),
        format!("listCustomers{suffix}"),
        "The user's customers' TGs",
    );
    let all = vec![
        list.answers(200, "The registrations", "ConsumerTgList"),
        put("post", "registerCustomer"),
        put("put", "putCustomer"),
    ];
    all.into_iter().map(|one| one.scope(TRUNKS).refuses(&[404])).collect()
}

fn registration(path: &str, suffix: &str) -> Vec<Operation> {
    let new = |method, id: &str, what| {
        Operation::new(method, format!("{ROOT}{path}"), format!("{id}{suffix}"), what)
            .scope(TRUNKS)
            .refuses(&[404])
    };
    vec![
        new("get", "describeCustomer", "A customer's TG").answers(200, "The registration", "ConsumerTg"),
        new("put", "changeCustomer", "Changes a customer's TG")
            .body("ConsumerTg")
            .answers_with(200, "The registration", &[(JSON, "ConsumerTg")], &["Location"])
            .answers_with(201, "The registration, made anew", &[(JSON, "ConsumerTg")], &["Location"])
            .refuses(&[400, 413, 422, 429, 502]),
        new("delete", "removeCustomer", "Ends a customer's registration")
            .answers_nothing(204, "It has ended"),
    ]
}

fn push() -> Vec<Operation> {
    let taps = &[(JSON, "Taps"), ("application/x-ndjson", "Tap")];
    vec![
        on("get", "/push", "hearTaps", "Calls to look at; the answer stays open, or becomes a WebSocket")
            .or("ticket")
            .takes(&["handler"])
            .answers_with(101, "A WebSocket: one tap a text message", &[], &[])
            .answers_with(200, "Taps, one by one", taps, &[])
            .scope(CALLS)
            .refuses(&[400, 404, 429]),
        on("post", "/push/tickets", "pushTicket", "A ticket for the push channel, good for 30 s and one use")
            .takes(&["handler"])
            .answers(201, "The ticket", "TicketAnswer")
            .scope(CALLS)
            .refuses(&[404]),
    ]
}

/// The codes of the problems, each with its status.
pub(super) fn codes() -> Vec<(u16, &'static str)> {
    Code::ALL.iter().map(|code| (code.status(), code.as_str())).collect()
}

#[derive(utoipa::OpenApi)]
#[openapi(components(schemas(
    bodies::TgList,
    bodies::TgDescription,
    bodies::HandlerDescription,
    bodies::HandlerList,
    bodies::ConsumerTg,
    bodies::ConsumerTgList,
    bodies::CallRequest,
    bodies::CallList,
    bodies::CallDescription,
    bodies::Claim,
    bodies::Tap,
    bodies::TicketAnswer,
    crate::protocol::problem::ProblemBody,
)))]
struct Bodies;

/// The schemas of the bodies, from their types, and of what has no type.
pub(super) fn schemas() -> Value {
    use utoipa::OpenApi as _;
    let derived = serde_json::to_value(Bodies::openapi()).unwrap_or_default();
    let mut schemas = derived["components"]["schemas"].clone();
    let uri = || json!({ "type": "string", "format": "uri" });
    for (name, schema) in [
        (
            "Accepted",
            json!({
                "type": "object", "required": ["accepted"],
                "properties": { "accepted": { "type": "integer", "minimum": 0 } },
            }),
        ),
        (
            "Event",
            json!({
                "type": "object", "required": ["event"],
                "description": "Members beyond these are each type's own (interop/PROTOCOL.md, section 4.3).",
                "properties": {
                    "event": { "type": "string", "examples": ["alerting"] },
                    "direction": { "enum": ["c2s", "s2c"] },
                    "timestamp": { "$ref": "#/components/schemas/Timestamp" },
                    "call": uri(),
                    "handler": { "type": "string" },
                    "seq": { "type": "integer", "minimum": 0 },
                },
            }),
        ),
        ("Events", json!({ "type": "array", "items": { "$ref": "#/components/schemas/Event" } })),
        ("Taps", json!({ "type": "array", "items": { "$ref": "#/components/schemas/Tap" } })),
        (
            "Login",
            json!({
                "type": "object", "required": ["issuer", "client_id", "scopes"],
                "properties": {
                    "issuer": { "type": "string" },
                    "client_id": { "type": "string" },
                    "scopes": { "type": "array", "items": { "type": "string" } },
                    "authorization_endpoint": uri(),
                    "token_endpoint": uri(),
                    "device_authorization_endpoint": uri(),
                },
            }),
        ),
        (
            "ProtectedResource",
            json!({
                "type": "object", "required": ["resource", "scopes_supported", "bearer_methods_supported"],
                "properties": {
                    "resource": uri(),
                    "scopes_supported": { "type": "array", "items": { "type": "string" } },
                    "bearer_methods_supported": { "type": "array", "items": { "type": "string" } },
                    "authorization_servers": { "type": "array", "items": uri() },
                },
            }),
        ),
    ] {
        schemas[name] = schema;
    }
    schemas
}

/// The parameters, by their names in paths and in operations.
pub(super) fn parameters() -> Value {
    let path = |name: &str, what: &str| json!({ "name": name, "in": "path", "required": true, "description": what, "schema": { "type": "string" } });
    let other = |name: &str, place: &str, what: &str, schema: Value| json!({ "name": name, "in": place, "description": what, "schema": schema });
    let text = || json!({ "type": "string" });
    json!({
        "tg": path("tg", "A TG's id"),
        "key": path("key", "The server's name for a device"),
        "leg": path("leg", "A call, as one of its sides sees it: a UUID"),
        "id": path("id", "A registration of a customer's TG"),
        "handler": other("handler", "query", "A device: its absolute URI, or its `handler-id`", text()),
        "after": other("after", "query", "Events after this `seq`", json!({ "type": "integer", "minimum": 0 })),
        "Last-Event-ID": other("Last-Event-ID", "header", "As `after`, which wins", text()),
        "If-Match": other("If-Match", "header", "Only if the call is as it was with this `ETag`", text()),
        "Idempotency-Key": other(
            "Idempotency-Key", "header", "The same key and body give the same call",
            json!({ "type": "string", "minLength": 1, "maxLength": 255 }),
        ),
    })
}
