//! webrtc-registration.yaml: the routes, and how their parameters and bodies are read.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Camara;
use super::auth::Caller;
use super::error::{Code, Failure, json_response};
use super::registration::{Refusal, Registration, Wanted};
use crate::clock;
use crate::protocol::time::Timestamp;

/// Where the API is: its last version, and the one in work.
const BASES: [&str; 2] = ["/webrtc-registration/v0.3", "/webrtc-registration/vwip"];

const READ: &str = "webrtc-registration:sessions:read";
const CREATE: &str = "webrtc-registration:sessions:create";
const WRITE: &str = "webrtc-registration:sessions:write";
const DELETE: &str = "webrtc-registration:sessions:delete";

/// webrtc-registration.yaml: `maxLength` of registrationId and of registrationExpireTime.
const MAX_ID: usize = 256;
const MAX_TIME: usize = 64;

pub(super) type App = State<Arc<Camara>>;
pub(super) type Id = Result<Path<String>, PathRejection>;
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// All routes, and an answer for every other path below them.
pub(super) fn routes() -> Router<Arc<Camara>> {
    let mut router = Router::new();
    for base in BASES {
        router = router
            .route(&format!("{base}/sessions"), get(list).post(create))
            .route(&format!("{base}/sessions/{{registrationId}}"), get(describe).put(update).delete(remove));
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

async fn no_such_method() -> Failure {
    Failure::new(Code::MethodNotAllowed, "the path has no such method; `Allow` lists those it has")
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
    let Caller { user, number, .. } = caller;
    let wanted = Wanted { user, device, number, expires };
    let made = app.registrations.create(clock::now(), wanted).await?;
    Ok(json_response(StatusCode::CREATED, &described(&made)))
}

/// webrtc-registration.yaml, getRegistrationById
async fn describe(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, READ).await?;
    let found = app.registrations.get(clock::now(), &caller.user, registration_id(id)?)?;
    Ok(json_response(StatusCode::OK, &described(&found)))
}

/// webrtc-registration.yaml, updateRegistrationById
async fn update(State(app): App, headers: HeaderMap, id: Id, body: Body) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, WRITE).await?;
    let id = registration_id(id)?;
    let expires = expire_time(&members(body, app.max_body).await?)?;
    let now = clock::now();
    // Who has lost a number keeps no device registered for it.
    caller.speaks_for(&app.registrations.get(now, &caller.user, id)?.number)?;
    let after = app.registrations.refresh(now, &caller.user, id, expires).await?;
    // The file documents 204 too, and leaves open when: a client that wants no body says so (RFC 7240 §4.2).
    if prefers_minimal(&headers) {
        let applied =
            (HeaderName::from_static("preference-applied"), HeaderValue::from_static("return=minimal"));
        return Ok((StatusCode::NO_CONTENT, [applied]).into_response());
    }
    Ok(json_response(StatusCode::OK, &described(&after)))
}

/// webrtc-registration.yaml, deleteRegistrationById
async fn remove(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, DELETE).await?;
    app.registrations.remove(clock::now(), &caller.user, registration_id(id)?).await?;
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

pub(super) fn bad(field: &str, why: &str) -> Failure {
    Failure::new(Code::InvalidArgument, format!("{field}: {why}"))
}

/// `format: uuid`, `maxLength: 36`: with its hyphens, in either case.
pub(super) fn device_id(text: &str) -> Result<Uuid, Failure> {
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.ok_or_else(|| bad("deviceId", "a UUID is expected, as 123e4567-e89b-42d3-a456-426614174000"))
}

/// A name that is none of ours is one that isn't there.
fn registration_id(id: Id) -> Result<Uuid, Failure> {
    let Path(text) = id.map_err(|_| bad("registrationId", "it is to be text in UTF-8"))?;
    if text.chars().count() > MAX_ID {
        return Err(bad("registrationId", "it has at most 256 characters"));
    }
    let id = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
    id.ok_or_else(|| Refusal::NotFound.into())
}

/// The members of a body that is a JSON object, or nothing at all.
async fn members(body: Body, limit: usize) -> Result<Map<String, Value>, Failure> {
    Ok(object(body, limit).await?.unwrap_or_default())
}

/// A body that is a JSON object; none where there is no body.
pub(super) async fn object(body: Body, limit: usize) -> Result<Option<Map<String, Value>>, Failure> {
    let bytes = axum::body::to_bytes(body, limit)
        .await
        .map_err(|_| bad("body", &format!("at most {limit} bytes are taken, and they are to come whole")))?;
    if bytes.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(members)) => Ok(Some(members)),
        Ok(_) => Err(bad("body", "a JSON object is expected")),
        Err(error) => Err(bad("body", &format!("it is no JSON that can be read: {error}"))),
    }
}

/// webrtc-registration.yaml, registrationExpireTime: RFC 3339 §5.6, with its offset.
fn expire_time(members: &Map<String, Value>) -> Result<Option<Timestamp>, Failure> {
    members.get("registrationExpireTime").map(|value| date_time("registrationExpireTime", value)).transpose()
}

/// `format: date-time`, `maxLength: 64`
pub(super) fn date_time(field: &str, value: &Value) -> Result<Timestamp, Failure> {
    let expected = "an RFC 3339 time with an offset is expected: 2026-05-05T13:32:17Z";
    let text = match value {
        Value::String(text) if text.len() <= MAX_TIME => text,
        _ => return Err(bad(field, expected)),
    };
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad(field, expected))?;
    // A time before 1970 is a time, and too early.
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    Ok(Timestamp::from_millis(millis))
}

fn prefers_minimal(headers: &HeaderMap) -> bool {
    let lines = headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok());
    let wishes = lines.flat_map(|line| line.split(','));
    let mut names = wishes.map(|wish| wish.split(';').next().unwrap_or_default().trim());
    names.any(|name| name.eq_ignore_ascii_case("return=minimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(value: Value) -> Result<Option<Timestamp>, Failure> {
        expire_time(&Map::from_iter([("registrationExpireTime".to_owned(), value)]))
    }

    #[test]
    fn an_expiry_is_a_time_with_an_offset() {
        let at = |text: &str| time(text.into()).unwrap().unwrap().as_millis();
        assert_eq!(at("1970-01-01T00:00:01Z"), 1_000);
        assert_eq!(at("1970-01-01T02:00:01.25+02:00"), 1_250);
        assert_eq!(at("1969-12-31T23:59:59Z"), 0);
        assert_eq!(at("0000-01-01T00:00:00+23:59"), 0);
        assert!(at("9999-12-31T23:59:59-23:59") > 253_402_300_799_000);
        for bad in ["", "now", "2026-05-05", "2026-05-05T13:32:17", "2026-13-05T13:32:17Z", "1", "+2026"] {
            assert!(time(bad.into()).is_err(), "{bad}");
        }
        for bad in [Value::Null, json!(7), json!(true), json!([]), json!({}), "9".repeat(65).into()] {
            assert!(time(bad.clone()).is_err(), "{bad}");
        }
        assert_eq!(expire_time(&Map::new()).unwrap(), None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_panic(text in ".{0,80}", near in "[0-9TZtz:.+-]{0,40}") {
            for text in [text, near] {
                let _ = (device_id(&text), time(text.into()));
            }
        }
    }

    #[test]
    fn a_device_id_is_a_hyphenated_uuid_in_either_case() {
        let id = device_id("123e4567-e89b-42d3-a456-426614174000").unwrap();
        assert_eq!(device_id("123E4567-E89B-42D3-A456-426614174000").unwrap(), id);
        for bad in [
            "",
            "123e4567e89b42d3a456426614174000",
            "{123e4567-e89b-42d3-a456-426614174000}",
            "urn:uuid:123e4567-e89b-42d3-a456-426614174000",
            "123e4567-e89b-42d3-a456-42661417400g",
            "123e4567-e89b-42d3-a456-4266141740000",
            "123e4567e-89b-42d3-a456-426614174000",
        ] {
            assert!(device_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_wish_for_a_minimal_answer_is_one() {
        let wish = |text: &'static str| {
            prefers_minimal(&HeaderMap::from_iter([(
                HeaderName::from_static("prefer"),
                HeaderValue::from_static(text),
            )]))
        };
        assert!(wish("return=minimal") && wish("wait=1, Return=Minimal; x=y"));
        assert!(!wish("return=representation") && !wish("x=\"return=minimal\"") && !wish(""));
    }
}
