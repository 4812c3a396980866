//! BYON-CallHandling-Service.yaml: calls.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;

use super::caller::{self, Base, Names};
use super::correlators::Used;
use super::{READ, WRITE, request, words};
use crate::adapter::camara::Camara;
use crate::adapter::camara::auth::Caller;
use crate::adapter::camara::body::{App, bad, members, uuid};
use crate::adapter::camara::error::{Code, Failure, json_response};
use crate::adapter::camara::notice::SessionView;
use crate::adapter::camara::sessions::Wanted;
use crate::identity::sha256;

const CREATES: [&str; 2] = ["webrtc-call-handling:sessions:create", WRITE];
const READS: [&str; 2] = ["webrtc-call-handling:sessions:read", READ];
const WRITES: [&str; 2] = ["webrtc-call-handling:sessions:write", WRITE];
const DELETES: [&str; 2] = ["webrtc-call-handling:sessions:delete", WRITE];

/// Room for an offer and an answer with each of their characters escaped (`\u000a`).
const SDP_BODY: usize = 1024 * 1024;

/// POST /sessions
pub(super) async fn create(
    State(app): App,
    path: Names<String>,
    headers: HeaderMap,
    authority: Base,
    body: Body,
) -> Result<Response, Failure> {
    let caller = caller::user(&app, &headers, &CREATES, path).await?;
    let client = caller::client(&headers)?;
    let members = members(body, app.max_body.max(SDP_BODY)).await?;
    let registration = caller::registration(&app, &caller, client)?;
    caller.speaks_for(&registration.number)?;
    let body = sha256(Value::Object(members.clone()).to_string().as_bytes());
    let wanted = request::call(&members, registration, app.emergency.as_ref())?;
    let number = wanted.registration.number.as_str().to_owned();
    // A client that is cut off asks again: what it asked for is done by then, and found by its correlator.
    let made = tokio::spawn(once(app, caller, wanted, body)).await;
    let made = made.map_err(|error| {
        tracing::error!(%error, "a session's creation came to no end");
        Failure::new(Code::Internal, "the session could not be created")
    })??;
    let base = caller::base(authority);
    let mut response = json_response(StatusCode::CREATED, &words::session(&made, &base, &number));
    if let Ok(url) = HeaderValue::from_str(&words::url(&base, &number, made.id)) {
        response.headers_mut().insert(header::LOCATION, url);
    }
    Ok(response)
}

/// Creates a session, or finds the one that its correlator stands for.
async fn once(
    app: Arc<Camara>,
    caller: Caller,
    wanted: Wanted,
    body: [u8; 32],
) -> Result<Arc<SessionView>, Failure> {
    let Some(correlator) = wanted.correlator.as_deref().filter(|text| !text.is_empty()) else {
        return app.sessions.create(&caller, wanted).await;
    };
    let slot = app.correlators.slot(&caller.user, wanted.registration.device, correlator);
    let mut slot = slot.lock().await;
    if let Some(used) = &*slot {
        if used.body != body {
            let why = "it stands for another session already; take a new one for a new session";
            return Err(bad("clientCorrelator", why));
        }
        // Of one that is forgotten nothing can be told: it is as if it had not been.
        if let Ok(found) = app.sessions.get(&caller.user, used.session).await {
            return Ok(found);
        }
    }
    let made = app.sessions.create(&caller, wanted).await?;
    *slot = Some(Used { body, session: made.id });
    Ok(made)
}

/// GET /sessions/{sessionId}
pub(super) async fn describe(
    State(app): App,
    path: Names<(String, String)>,
    headers: HeaderMap,
    authority: Base,
) -> Result<Response, Failure> {
    let (caller, found) = own(&app, &headers, &READS, path).await?;
    let document = words::session(&found, &caller::base(authority), caller.number.as_str());
    Ok(json_response(StatusCode::OK, &document))
}

/// DELETE /sessions/{sessionId}
pub(super) async fn remove(
    State(app): App,
    path: Names<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (caller, found) = own(&app, &headers, &DELETES, path).await?;
    app.sessions.remove(&caller.user, found.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// PUT /sessions/{sessionId}/status
pub(super) async fn update(
    State(app): App,
    path: Names<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (user, session) = caller::split(path);
    let caller = caller::user(&app, &headers, &WRITES, user).await?;
    let client = caller::client(&headers)?;
    let change = request::change(&members(body, app.max_body.max(SDP_BODY)).await?)?;
    let found = of(&app, &caller, client, &session).await?;
    app.sessions.update(&caller.user, found.id, change).await?;
    Ok(StatusCode::OK.into_response())
}

async fn own(
    app: &Camara,
    headers: &HeaderMap,
    scopes: &[&'static str],
    path: Names<(String, String)>,
) -> Result<(Caller, Arc<SessionView>), Failure> {
    let (user, session) = caller::split(path);
    let caller = caller::user(app, headers, scopes, user).await?;
    let client = caller::client(headers)?;
    let found = of(app, &caller, client, &session).await?;
    Ok((caller, found))
}

/// The caller's session, for one of their devices. The device that it runs on may end it after its registration has.
async fn of(app: &Camara, caller: &Caller, client: &str, session: &str) -> Result<Arc<SessionView>, Failure> {
    let found = app.sessions.get(&caller.user, caller::known(session)).await?;
    if uuid(client) != Some(found.registration) {
        caller::registration(app, caller, client)?;
    }
    Ok(found)
}
