//! webrtc-registration.yaml: the routes, and how their parameters and bodies are read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Camara;
use super::auth::Caller;
use super::body::{
    App, Id, TIME, bad, id_in_path, members, minimal, no_such_method, prefers_minimal, time, uuid,
};
use super::error::{Code, Failure, json_response};
use super::registration::{Refusal, Registration};
use crate::clock;
use crate::protocol::time::Timestamp;

/// Where the API is: its last version, and the one in work.
const BASES: [&str; 2] = ["/webrtc-registration/v0.3", "/webrtc-registration/vwip"];

const READ: &str = "webrtc-registration:sessions:read";
const CREATE: &str = "webrtc-registration:sessions:create";
const WRITE: &str = "webrtc-registration:sessions:write";
const DELETE: &str = "webrtc-registration:sessions:delete";

/// The path's parameter.
const FIELD: &str = "registrationId";

type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// All routes, and an answer for every other path below them.
pub(super) fn routes() -> Router<Arc<Camara>> {
    let mut router = Router::new();
    for base in BASES {
        router = router
            .route(&format!("{base}/sessions"), get(list).post(create))
            .route(&format!("{base}/sessions/{{registrationId}}"), get(describe).put(update).delete(remove))
            // webrtc-registration-*.feature, 400.2: an empty registrationId is an invalid one, not another path.
            .route(&format!("{base}/sessions/"), get(describe).put(update).delete(remove));
    }
    for path in ["/webrtc-registration", "/webrtc-registration/", "/webrtc-registration/{*rest}"] {
        router = router.route(path, any(no_such_path));
    }
    router.method_not_allowed_fallback(no_such_method)
}

async fn no_such_path() -> Failure {
    let why = "there is no such path; the API is /webrtc-registration/v0.3/sessions";
    Failure::new(Code::NotFound, why)
}

/// webrtc-registration.yaml, getRegistrationsByDeviceId
async fn list(State(app): App, headers: HeaderMap, query: Parameters) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, READ).await?;
    let Query(query) = query.map_err(|error| bad("query", &error.body_text()))?;
    let mut named = query.into_iter().filter(|(name, _)| name == "deviceId").map(|(_, value)| value);
    let device = match (named.next(), named.next()) {
        (Some(text), None) => device_id(&text)?,
        _ => return Err(bad("deviceId", "it is expected in the query, once: ?deviceId=<UUID>")),
    };
    let found = app.registrations.list(clock::now(), &caller.user, device);
    let found: Vec<_> = found.iter().map(described).collect();
    Ok(json_response(StatusCode::OK, &Value::Array(found)))
}

/// webrtc-registration.yaml, createRegistration
async fn create(State(app): App, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, CREATE).await?;
    let members = members(body, app.max_body).await?;
    let device = match members.get("deviceId") {
        Some(Value::String(text)) => device_id(text)?,
        Some(_) => return Err(bad("deviceId", "a string with a UUID is expected")),
        None => return Err(bad("deviceId", "it is missing; a UUID is expected that stays the device's own")),
    };
    let expires = expire_time(&members)?;
    let made = app.register(&caller, device, expires).await?;
    Ok(json_response(StatusCode::CREATED, &described(&made)))
}

/// webrtc-registration.yaml, getRegistrationById
async fn describe(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, READ).await?;
    let found = app.registrations.get(clock::now(), &caller.user, known(id_in_path(id, FIELD)?)?)?;
    Ok(json_response(StatusCode::OK, &described(&found)))
}

/// webrtc-registration.yaml, updateRegistrationById
async fn update(State(app): App, headers: HeaderMap, id: Id, body: Body) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, WRITE).await?;
    let id = id_in_path(id, FIELD)?;
    let expires = expire_time(&members(body, app.max_body).await?)?;
    let id = known(id)?;
    let now = clock::now();
    // Who has lost a number keeps no device registered for it.
    caller.speaks_for(&app.registrations.get(now, &caller.user, id)?.number)?;
    let after = app.registrations.refresh(now, &caller.user, id, expires).await?;
    if prefers_minimal(&headers) {
        return Ok(minimal());
    }
    Ok(json_response(StatusCode::OK, &described(&after)))
}

/// webrtc-registration.yaml, deleteRegistrationById
async fn remove(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, DELETE).await?;
    app.unregister(&caller.user, known(id_in_path(id, FIELD)?)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// webrtc-registration.yaml, RegSessionResponse
fn described(registration: &Registration) -> Value {
    json!({
        "regInfo": {"phoneNumber": registration.number.as_str(), "regStatus": "Registered"},
        "registrationId": registration.id.to_string(),
        "expiresAt": registration.expires.to_string(),
    })
}

/// `format: uuid`, `maxLength: 36`: with its hyphens, in either case.
pub(super) fn device_id(text: &str) -> Result<Uuid, Failure> {
    uuid(text).ok_or_else(|| bad("deviceId", "a UUID is expected, as 123e4567-e89b-42d3-a456-426614174000"))
}

/// What is no name of ours names nothing.
fn known(id: Option<Uuid>) -> Result<Uuid, Failure> {
    id.ok_or_else(|| Refusal::NotFound.into())
}

/// webrtc-registration.yaml, registrationExpireTime
fn expire_time(members: &Map<String, Value>) -> Result<Option<Timestamp>, Failure> {
    let at = match members.get("registrationExpireTime") {
        None => return Ok(None),
        Some(value) => value.as_str().and_then(time),
    };
    let at = at.ok_or_else(|| bad("registrationExpireTime", TIME))?;
    // A time before 1970 is a time, and too early.
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    Ok(Some(Timestamp::from_millis(millis)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(value: Value) -> Result<Option<Timestamp>, Failure> {
        expire_time(&Map::from_iter([("registrationExpireTime".to_owned(), value)]))
    }

    #[test]
    fn an_expiry_is_a_time_with_an_offset() {
        let at = |text: &str| expiry(text.into()).unwrap().unwrap().as_millis();
        assert_eq!(at("1970-01-01T00:00:01Z"), 1_000);
        assert_eq!(at("1970-01-01T02:00:01.25+02:00"), 1_250);
        assert_eq!(at("1969-12-31T23:59:59Z"), 0);
        assert_eq!(at("0000-01-01T00:00:00+23:59"), 0);
        assert!(at("9999-12-31T23:59:59-23:59") > 253_402_300_799_000);
        for bad in ["", "now", "2026-05-05", "2026-05-05T13:32:17", "2026-13-05T13:32:17Z", "1", "+2026"] {
            assert!(expiry(bad.into()).is_err(), "{bad}");
        }
        for bad in [Value::Null, json!(7), json!(true), json!([]), json!({}), "9".repeat(65).into()] {
            assert!(expiry(bad.clone()).is_err(), "{bad}");
        }
        assert_eq!(expire_time(&Map::new()).unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_panic(text in ".{0,80}", near in "[0-9TZtz:.+-]{0,40}") {
            for text in [text, near] {
                let _ = (device_id(&text), expiry(text.into()));
            }
        }
    }
}
