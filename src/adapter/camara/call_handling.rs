//! webrtc-call-handling.yaml: the routes, and how a session is shown.

mod request;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post, put};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Camara;
use super::auth::Caller;
use super::body::{App, Id, bad, id_in_path, members, minimal, no_such_method, prefers_minimal, uuid};
use super::error::{Code, Failure, json_response};
use super::notice::SessionView;
use crate::clock;

/// Where the API is: its last version, and the one in work.
const BASES: [&str; 2] = ["/webrtc-call-handling/v0.3", "/webrtc-call-handling/vwip"];

const CREATE: &str = "webrtc-call-handling:sessions:create";
const READ: &str = "webrtc-call-handling:sessions:read";
const WRITE: &str = "webrtc-call-handling:sessions:write";
const DELETE: &str = "webrtc-call-handling:sessions:delete";

/// Room for an offer and an answer of 65536 characters with each of them escaped (`\u000a`).
const SDP_BODY: usize = 1024 * 1024;

/// All routes, and an answer for every other path below them.
pub(super) fn routes() -> Router<Arc<Camara>> {
    let mut router = Router::new();
    for base in BASES {
        router = router
            .route(&format!("{base}/sessions"), post(create))
            .route(&format!("{base}/sessions/{{mediaSessionId}}"), get(describe).delete(remove))
            .route(&format!("{base}/sessions/{{mediaSessionId}}/status"), put(update))
            // webrtc-call-handling-*.feature, 400.2: an empty mediaSessionId is an invalid one, not another path.
            .route(&format!("{base}/sessions/"), get(describe).delete(remove))
            .route(&format!("{base}/sessions//status"), put(update));
    }
    for path in ["/webrtc-call-handling", "/webrtc-call-handling/", "/webrtc-call-handling/{*rest}"] {
        router = router.route(path, any(no_such_path));
    }
    router.method_not_allowed_fallback(no_such_method)
}

async fn no_such_path() -> Failure {
    let why = "there is no such path; the API is /webrtc-call-handling/v0.3/sessions";
    Failure::new(Code::NotFound, why)
}

/// webrtc-call-handling.yaml, createSession
async fn create(State(app): App, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, CREATE).await?;
    let id = registration_id(&headers)?;
    let now = clock::now();
    let call = request::call(&members(body, app.max_body.max(SDP_BODY)).await?, now)?;
    let registration = app.registrations.get(now, &caller.user, id).map_err(|_| {
        // webrtc-call-handling.yaml, createSession: it has no 404.
        let why = "registrationId is not consistent with the access token: its user has no such active \
                   registration; webrtc-registration makes one";
        Failure::new(Code::InvalidTokenContext, why)
    })?;
    caller.speaks_for(&registration.number)?;
    let wanted = call.wanted(registration, app.emergency.as_ref())?;
    let made = app.sessions.create(&caller, wanted).await?;
    Ok(json_response(StatusCode::CREATED, &described(&made)))
}

/// webrtc-call-handling.yaml, getSessionDetailsById
async fn describe(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, READ).await?;
    let found = app.sessions.get(&caller.user, known(id_in_path(id, "mediaSessionId")?)?).await?;
    Ok(json_response(StatusCode::OK, &described(&found)))
}

/// webrtc-call-handling.yaml, updateSessionStatus
async fn update(State(app): App, headers: HeaderMap, id: Id, body: Body) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, WRITE).await?;
    let id = id_in_path(id, "mediaSessionId")?;
    let change = request::change(&members(body, app.max_body.max(SDP_BODY)).await?, clock::now())?;
    let after = app.sessions.update(&caller.user, known(id)?, change).await?;
    if prefers_minimal(&headers) {
        return Ok(minimal());
    }
    Ok(json_response(StatusCode::OK, &described(&after)))
}

/// webrtc-call-handling.yaml, deleteSessionById
async fn remove(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let caller = Caller::of(&app.service, &headers, DELETE).await?;
    app.sessions.remove(&caller.user, known(id_in_path(id, "mediaSessionId")?)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// webrtc-call-handling.yaml, registrationId: a header, required.
fn registration_id(headers: &HeaderMap) -> Result<Uuid, Failure> {
    let mut lines = headers.get_all("registrationid").iter();
    let id = match (lines.next(), lines.next()) {
        (Some(one), None) => one.to_str().ok().and_then(uuid),
        _ => None,
    };
    id.ok_or_else(|| {
        bad("registrationId", "the id of an active registration is expected in this header, once")
    })
}

/// What is no name of ours names nothing.
fn known(id: Option<Uuid>) -> Result<Uuid, Failure> {
    id.ok_or_else(|| Failure::new(Code::NotFound, "mediaSessionId: there is no such session"))
}

/// webrtc-call-handling.yaml, MediaSessionResponse
fn described(session: &SessionView) -> Value {
    let sdp = |sdp: &str| Value::Object(Map::from_iter([("sdp".to_owned(), sdp.into())]));
    let mut members = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        value.and_then(|value| members.insert(name.to_owned(), value));
    };
    put("mediaSessionId", Some(session.id.to_string().into()));
    put("originatorAddress", Some(session.originator.as_str().into()));
    put("originatorName", session.originator_name.as_deref().map(Value::from));
    put("receiverAddress", Some(session.receiver.as_str().into()));
    put("receiverName", session.receiver_name.as_deref().map(Value::from));
    put("status", Some(session.status.as_str().into()));
    // The schema demands the member; while nobody has offered anything it is empty.
    put("offer", Some(session.offer.as_deref().map_or_else(|| Value::Object(Map::new()), sdp)));
    put("answer", session.answer.as_deref().map(sdp));
    put("callType", session.emergency.then(|| "EMERGENCY".into()));
    put("locationDetails", session.location.as_ref().map(|location| location.0.clone()));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::adapter::camara::location::Location;
    use crate::adapter::mapping::Status;
    use crate::identity::principal::UserId;

    #[test]
    fn a_session_is_shown_with_what_it_has() {
        let mut session = SessionView {
            id: Uuid::nil(),
            user: UserId::derive("urn:test", "alice"),
            device: Uuid::nil(),
            registration: Uuid::nil(),
            originator: "tel:+14085550001".into(),
            originator_name: None,
            receiver: "urn:service:sos".into(),
            receiver_name: None,
            status: Status::Ringing,
            offer: None,
            answer: None,
            emergency: false,
            location: None,
            correlator: Some("x".into()),
        };
        let least = json!({
            "mediaSessionId": "00000000-0000-0000-0000-000000000000",
            "originatorAddress": "tel:+14085550001",
            "receiverAddress": "urn:service:sos",
            "status": "Ringing",
            "offer": {},
        });
        assert_eq!(described(&session), least);
        session.originator_name = Some("Alice".into());
        session.receiver_name = Some("PSAP".into());
        (session.offer, session.answer) = (Some("v=0".into()), Some("v=1".into()));
        session.emergency = true;
        session.location = Some(Location(json!({"method": "GPS"})));
        let mut whole = least;
        for (name, value) in [
            ("originatorName", json!("Alice")),
            ("receiverName", json!("PSAP")),
            ("offer", json!({"sdp": "v=0"})),
            ("answer", json!({"sdp": "v=1"})),
            ("callType", json!("EMERGENCY")),
            ("locationDetails", json!({"method": "GPS"})),
        ] {
            whole[name] = value;
        }
        assert_eq!(described(&session), whole);
    }
}
