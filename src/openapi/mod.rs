//! What this server serves, as an OpenAPI document: `GET /openapi.json`, `ript openapi`, `interop/openapi.json`.
//!
//! It is made of tables of operations, one for each API, and of schemas, which are derived where bodies have types.
//!
//! | for | look in |
//! |---|---|
//! | RIPT's resources | `ript` |
//! | CAMARA's registration and call handling | `camara` |
//! | CAMARA's events: subscriptions and channels | `events` |
//! | CAMARA's generation of 2023 | `byon` |
//! | what an operation is made of | `operation` |

mod byon;
mod camara;
mod events;
mod operation;
mod ript;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::identity::sha256;
use crate::protocol::problem::{Code, Problem};
use operation::{Operation, component};

/// Where it is.
const PATH: &str = "/openapi.json";

/// The whole document.
pub fn document() -> Value {
    let mut paths: BTreeMap<String, Value> = BTreeMap::new();
    let own = Operation::new("get", PATH, "openapi", "This document")
        .answers_with(200, "The document", &[("application/json", "")], &["ETag"])
        .answers_with(304, "What `If-None-Match` names is current", &[], &["ETag"]);
    for (tag, words, operations) in [
        ("RIPT", "Problem", ript::operations()),
        ("CAMARA", "Error", camara::operations()),
        ("CAMARA", "Error", events::operations()),
        ("CAMARA 2023", "Error", byon::operations()),
        ("This document", "Problem", vec![own]),
    ] {
        for operation in operations {
            let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
            path[operation.method] = operation.document(tag, words);
        }
    }
    // OpenAPI has no CONNECT.
    for (path, operation) in &mut paths {
        if path.ends_with("/media") {
            operation["x-connect"] = "`:protocol = webtransport`: the media session, on HTTP/3".into();
        } else if path.ends_with("/push") || path.contains("/channels/") {
            operation["x-connect"] = "`:protocol = websocket`: the same channel, on HTTP/2 and HTTP/3".into();
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "ript",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Calls as a web application: RIPT's resources, and CAMARA's WebRTC APIs in front of them",
            "description": "Chunks, events, advertisements and WebTransport are described in interop/PROTOCOL.md. \
                            An unknown path is 404, an unknown method 405 with `Allow`; what belongs to others is 404.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "RIPT", "description": "Calls, devices, trunks; interop/PROTOCOL.md" },
            { "name": "CAMARA", "description": "webrtc-registration, webrtc-call-handling and webrtc-events" },
            {
                "name": "CAMARA 2023",
                "description": "The same devices, sessions and events in the words of 2023 (BYON). A token of either \
                                generation does: with the current scope of the same act, or with `read` or `write`.",
            },
            { "name": "This document" },
        ],
        "paths": paths,
        "components": {
            "schemas": merged([ript::schemas(), camara::schemas(), events::schemas(), byon::schemas()]),
            "parameters": merged([
                ript::parameters(), camara::parameters(), events::parameters(), byon::parameters(),
            ]),
            "headers": headers(),
            "responses": merged([
                refusals("Problem", "ProblemBody", "application/problem+json", &ript::codes()),
                refusals("Error", "ErrorInfo", "application/json", &crate::adapter::camara::codes()),
            ]),
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "A token of an issuer that the server trusts; the roles of an operation are scopes. \
                                    GET /.well-known/ript-oauth tells where to log in.",
                },
                "ticket": {
                    "type": "apiKey", "in": "query", "name": "ticket",
                    "description": "From `media.webtransport` of a call, or POST …/push/tickets; good for 30 s and one use.",
                },
                "cookie": {
                    "type": "apiKey", "in": "cookie", "name": "ript-media",
                    "description": "Set by the first request below a call's media.",
                },
            },
        },
    })
}

fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let maps =
        parts.into_iter().filter_map(|part| if let Value::Object(map) = part { Some(map) } else { None });
    Value::Object(maps.flatten().collect::<Map<_, _>>())
}

/// One response for each status, with the codes that it carries.
fn refusals(words: &str, body: &str, media: &str, codes: &[(u16, &'static str)]) -> Value {
    let mut statuses: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for (status, code) in codes {
        statuses.entry(*status).or_default().push(code);
    }
    let one = |(status, codes): (u16, Vec<&str>)| {
        let members = json!({ "properties": { "status": { "const": status }, "code": { "enum": codes } } });
        let schema = json!({ "allOf": [component("schemas", body), members] });
        let mut response =
            json!({ "description": codes.join(", "), "content": { media: { "schema": schema } } });
        match status {
            401 | 403 => {
                response["headers"] = json!({ "WWW-Authenticate": component("headers", "WWW-Authenticate") })
            }
            405 => response["headers"] = json!({ "Allow": component("headers", "Allow") }),
            426 => response["headers"] = json!({ "Upgrade": component("headers", "Upgrade") }),
            429 | 503 => response["headers"] = json!({ "Retry-After": component("headers", "Retry-After") }),
            _ => {}
        }
        (format!("{words}{status}"), response)
    };
    Value::Object(statuses.into_iter().map(one).collect())
}

fn headers() -> Value {
    let all = [
        ("Location", "Where it is"),
        ("ETag", "Which version this is"),
        ("Set-Cookie", "`ript-media`, once a bearer was checked"),
        (
            "WWW-Authenticate",
            "What is wrong with the token, or which scope it lacks; where to read more (RFC 9728)",
        ),
        ("Allow", "The methods that there are"),
        ("Retry-After", "Seconds after which another try makes sense"),
        ("Upgrade", "`websocket`; over HTTP/1.1 only"),
        ("transactionId", "The request's"),
        ("Preference-Applied", "`return=minimal`"),
    ];
    let one = |(name, what): (&str, &str)| {
        (name.to_owned(), json!({ "description": what, "schema": { "type": "string" } }))
    };
    Value::Object(all.into_iter().map(one).collect())
}

/// The route.
pub fn routes() -> Router {
    Router::new().route(PATH, get(show)).method_not_allowed_fallback(async || {
        Problem::new(Code::MethodNotAllowed, "the resource has no such method; `Allow` lists those it has")
    })
}

/// The document as it is sent, and its tag.
static SENT: LazyLock<(String, String)> = LazyLock::new(|| {
    let text = document().to_string();
    let digest = sha256(text.as_bytes());
    let tag: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    (text, format!("\"{tag}\""))
});

async fn show(headers: HeaderMap) -> Response {
    let (text, tag) = &*SENT;
    let mut response = if is_current(&headers, tag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = text.as_str().into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    headers.extend(HeaderValue::from_str(tag).ok().map(|tag| (header::ETAG, tag)));
    response
}

/// RFC 9110 §13.1.2: the comparison is weak.
fn is_current(headers: &HeaderMap, tag: &str) -> bool {
    let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
    tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
}
