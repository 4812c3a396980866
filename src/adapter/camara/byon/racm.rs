//! BYON-RACM-Service.yaml: registering a device.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::WRITE;
use super::caller::{self, Base, Names};
use crate::adapter::camara::Camara;
use crate::adapter::camara::auth::Caller;
use crate::adapter::camara::body::{App, bad, members, uuid};
use crate::adapter::camara::error::{Failure, json_response};
use crate::adapter::camara::registration::{Refusal, Registration};
use crate::clock;

const CREATES: [&str; 2] = ["webrtc-registration:sessions:create", WRITE];
const WRITES: [&str; 2] = ["webrtc-registration:sessions:write", WRITE];
const DELETES: [&str; 2] = ["webrtc-registration:sessions:delete", WRITE];

/// POST /session
pub(super) async fn create(
    State(app): App,
    path: Names<String>,
    headers: HeaderMap,
    authority: Base,
    body: Body,
) -> Result<Response, Failure> {
    let caller = caller::user(&app, &headers, &CREATES, path).await?;
    let device = match members(body, app.max_body).await?.get("deviceId") {
        Some(Value::String(text)) => uuid(text),
        Some(_) => None,
        None => return Err(bad("deviceId", "it is missing; a UUID is expected that stays the device's own")),
    };
    let device = device.ok_or_else(|| bad("deviceId", "a string with a UUID is expected"))?;
    let made = register(&app, &caller, device).await?;
    let number = made.number.as_str();
    let url = format!("{}/racm/v1/tel:{number}/session/{}", caller::base(authority), made.id);
    let answer = json!({"connectionInformation": {"clientId": made.id.to_string()}, "resourceURL": url});
    Ok(json_response(StatusCode::OK, &answer))
}

/// The file has no conflict: who asks again, having lost the answer, gets the same registration, refreshed.
async fn register(app: &Camara, caller: &Caller, device: Uuid) -> Result<Registration, Failure> {
    let (user, number) = (&caller.user, &caller.number);
    let own = || {
        let mut all = app.registrations.list(clock::now(), user, device).into_iter();
        all.find(|one| one.number == *number)
    };
    // One that is there may end before it is refreshed, and one that is not may be made meanwhile.
    for _ in 0..2 {
        if let Some(own) = own() {
            match app.registrations.refresh(clock::now(), user, own.id, None).await {
                Err(Refusal::NotFound) => {}
                refreshed => return Ok(refreshed?),
            }
        }
        match app.register(caller, device, None).await {
            Err(_) if own().is_some() => {}
            made => return made,
        }
    }
    Err(Refusal::AlreadyExists.into())
}

/// PUT /session/{sessionId}: a new token for the registration, and for its channel.
pub(super) async fn refresh(
    State(app): App,
    path: Names<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (caller, one) = own(&app, &headers, &WRITES, path).await?;
    app.registrations.refresh(clock::now(), &caller.user, one.id, None).await?;
    let until = caller.lasts(&app.service);
    app.notices.channels.renew(&caller.user, one.device, until);
    Ok(StatusCode::OK.into_response())
}

/// DELETE /session/{sessionId}. The file has `NotFound404` under 400: 404 it is, as in the body that it describes.
pub(super) async fn remove(
    State(app): App,
    path: Names<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let (caller, one) = own(&app, &headers, &DELETES, path).await?;
    app.unregister(&caller.user, one.id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The registration in the path, whose clientId is the header's.
async fn own(
    app: &Camara,
    headers: &HeaderMap,
    scopes: &[&'static str],
    path: Names<(String, String)>,
) -> Result<(Caller, Registration), Failure> {
    let (user, session) = caller::split(path);
    let caller = caller::user(app, headers, scopes, user).await?;
    let client = caller::client(headers)?;
    let one = app.registrations.get(clock::now(), &caller.user, caller::known(&session))?;
    if one.number != caller.number {
        return Err(Refusal::NotFound.into());
    }
    if uuid(client) != Some(one.id) {
        return Err(caller::not_authorized());
    }
    Ok((caller, one))
}
