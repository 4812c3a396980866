//! webrtc-events.yaml: the routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use uuid::Uuid;

use super::super::Camara;
use super::super::auth;
use super::super::body::{App, Id, bad, id_in_path, no_such_method, object};
use super::super::error::{Code, Failure, json_response};
use super::body;
use super::record::Kind;
use super::{BASES, Refusal};
use crate::clock;
use crate::identity::principal::Principal;

/// The path's parameter.
const FIELD: &str = "subscriptionId";

const READ: &str = "webrtc-events:read";
const UPDATE: &str = "webrtc-events:update";
const DELETE: &str = "webrtc-events:delete";

/// All routes, and an answer for every other path below them.
pub(in super::super) fn routes() -> Router<Arc<Camara>> {
    let mut router = Router::new();
    for base in BASES {
        router = router
            .route(&format!("{base}/subscriptions"), get(list).post(create))
            .route(
                &format!("{base}/subscriptions/"),
                get(nameless_read).put(nameless_update).delete(nameless),
            )
            .route(
                &format!("{base}/subscriptions/{{subscriptionId}}"),
                get(describe).put(update).delete(remove),
            );
    }
    for path in ["/webrtc-events", "/webrtc-events/", "/webrtc-events/{*rest}"] {
        router = router.route(path, any(no_such_path));
    }
    router.method_not_allowed_fallback(no_such_method)
}

async fn no_such_path() -> Failure {
    Failure::new(Code::NotFound, "there is no such path; the API is /webrtc-events/v0.3/subscriptions")
}

/// webrtc-events.yaml, createNotificationChannelSubscription
async fn create(State(app): App, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let holder = holder(&app, &headers, &Kind::ALL.map(Kind::scope)).await?;
    let given = object(body, app.max_body).await?;
    let given = given.ok_or_else(|| bad("body", "a JSON object is expected, and nothing came"))?;
    let kinds = body::kinds(&given)?;
    if let Some(kind) = kinds.iter().find(|kind| !holder.has_scope(kind.scope())) {
        // SubscriptionPermissionDenied403: the token is good for other types.
        let why = format!("types: this one needs a token with the scope {}", kind.scope());
        return Err(Failure::new(Code::SubscriptionMismatch, why));
    }
    let now = clock::now();
    let subscriptions = &app.notices.subscriptions;
    let wanted = body::wanted(&given, kinds, subscriptions.fetcher(), now)?;
    let kind = match wanted.kinds[..] {
        [kind] => kind,
        _ => {
            let why = "types: one type for each subscription is supported; make one for each";
            return Err(Failure::new(Code::MultieventSubscriptionNotSupported, why));
        }
    };
    let user = holder.user();
    // WebrtcSubscriptionDetail: "requires a `deviceId` related to a valid registration".
    if kind != Kind::RegistrationEnds && app.registrations.list(now, &user, wanted.device).is_empty() {
        let why = "deviceId: this type needs an active registration of yours for the device; make one first";
        return Err(Failure::new(Code::ServiceNotApplicable, why));
    }
    let made = subscriptions.create(now, user, kind, wanted).await?;
    Ok(json_response(StatusCode::CREATED, &made.described()))
}

/// webrtc-events.yaml, retrieveNotificationChannelSubscriptionList
async fn list(State(app): App, headers: HeaderMap) -> Result<Response, Failure> {
    let holder = holder(&app, &headers, &[READ]).await?;
    let found = app.notices.subscriptions.list(clock::now(), &holder.user());
    let found: Vec<_> = found.iter().map(super::record::Record::described).collect();
    Ok(json_response(StatusCode::OK, &Value::Array(found)))
}

/// webrtc-events.yaml, retrieveNotificationChannelSubscription
async fn describe(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let holder = holder(&app, &headers, &[READ]).await?;
    let found =
        app.notices.subscriptions.get(clock::now(), &holder.user(), known(id_in_path(id, FIELD)?)?)?;
    Ok(json_response(StatusCode::OK, &found.described()))
}

/// webrtc-events.yaml, updateNotificationChannelSubscription
async fn update(State(app): App, headers: HeaderMap, id: Id, body: Body) -> Result<Response, Failure> {
    let holder = holder(&app, &headers, &[UPDATE]).await?;
    let id = id_in_path(id, FIELD)?;
    let given = object(body, app.max_body).await?;
    let given = given.ok_or_else(|| bad("body", "a JSON object is expected, and nothing came"))?;
    let now = clock::now();
    let change = body::change(&given, now)?;
    let after = app.notices.subscriptions.update(now, &holder.user(), known(id)?, change).await?;
    Ok(json_response(StatusCode::OK, &after.described()))
}

/// webrtc-events.yaml, deleteNotificationChannelSubscription
async fn remove(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let holder = holder(&app, &headers, &[DELETE]).await?;
    app.notices.subscriptions.remove(&holder.user(), known(id_in_path(id, FIELD)?)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// webrtc-events.yaml, SubscriptionIdRequired400
fn id_is_missing() -> Failure {
    Failure::new(Code::InvalidArgument, "Expected property is missing: subscriptionId")
}

async fn nameless_read(State(app): App, headers: HeaderMap) -> Failure {
    holder(&app, &headers, &[READ]).await.err().unwrap_or_else(id_is_missing)
}

async fn nameless_update(State(app): App, headers: HeaderMap) -> Failure {
    holder(&app, &headers, &[UPDATE]).await.err().unwrap_or_else(id_is_missing)
}

async fn nameless(State(app): App, headers: HeaderMap) -> Failure {
    holder(&app, &headers, &[DELETE]).await.err().unwrap_or_else(id_is_missing)
}

async fn holder(app: &Camara, headers: &HeaderMap, scopes: &[&'static str]) -> Result<Principal, Failure> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    auth::holder(&app.service, authorization, scopes).await
}

/// A name that is none of ours is one that isn't there.
fn known(id: Option<Uuid>) -> Result<Uuid, Failure> {
    id.ok_or_else(|| Refusal::NotFound.into())
}
