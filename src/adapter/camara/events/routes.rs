//! webrtc-events.yaml: the routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::super::Camara;
use super::super::auth::holder;
use super::super::error::{Code, Failure, json_response};
use super::super::racm::{App, Id, bad, object};
use super::body;
use super::record::Kind;
use super::{BASES, Refusal};
use crate::clock;

const READ: &str = "webrtc-events:read";
const UPDATE: &str = "webrtc-events:update";
const DELETE: &str = "webrtc-events:delete";

/// webrtc-events.yaml, SubscriptionId: `maxLength`
const MAX_ID: usize = 256;

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

async fn no_such_method() -> Failure {
    Failure::new(Code::MethodNotAllowed, "the path has no such method; `Allow` lists those it has")
}

/// webrtc-events.yaml, createNotificationChannelSubscription
async fn create(State(app): App, headers: HeaderMap, body: Body) -> Result<Response, Failure> {
    let holder = holder(&app.service, &headers, &Kind::ALL.map(Kind::scope)).await?;
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
    let holder = holder(&app.service, &headers, &[READ]).await?;
    let found = app.notices.subscriptions.list(clock::now(), &holder.user());
    let found: Vec<_> = found.iter().map(super::record::Record::described).collect();
    Ok(json_response(StatusCode::OK, &Value::Array(found)))
}

/// webrtc-events.yaml, retrieveNotificationChannelSubscription
async fn describe(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let holder = holder(&app.service, &headers, &[READ]).await?;
    let found = app.notices.subscriptions.get(clock::now(), &holder.user(), subscription_id(id)?)?;
    Ok(json_response(StatusCode::OK, &found.described()))
}

/// webrtc-events.yaml, updateNotificationChannelSubscription
async fn update(State(app): App, headers: HeaderMap, id: Id, body: Body) -> Result<Response, Failure> {
    let holder = holder(&app.service, &headers, &[UPDATE]).await?;
    let id = text_of(id)?;
    let given = object(body, app.max_body).await?;
    let given = given.ok_or_else(|| bad("body", "a JSON object is expected, and nothing came"))?;
    let now = clock::now();
    let change = body::change(&given, now)?;
    let after = app.notices.subscriptions.update(now, &holder.user(), uuid_of(&id)?, change).await?;
    Ok(json_response(StatusCode::OK, &after.described()))
}

/// webrtc-events.yaml, deleteNotificationChannelSubscription
async fn remove(State(app): App, headers: HeaderMap, id: Id) -> Result<Response, Failure> {
    let holder = holder(&app.service, &headers, &[DELETE]).await?;
    app.notices.subscriptions.remove(&holder.user(), subscription_id(id)?).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// webrtc-events.yaml, SubscriptionIdRequired400
fn id_is_missing() -> Failure {
    Failure::new(Code::InvalidArgument, "Expected property is missing: subscriptionId")
}

async fn nameless_read(State(app): App, headers: HeaderMap) -> Failure {
    holder(&app.service, &headers, &[READ]).await.err().unwrap_or_else(id_is_missing)
}

async fn nameless_update(State(app): App, headers: HeaderMap) -> Failure {
    holder(&app.service, &headers, &[UPDATE]).await.err().unwrap_or_else(id_is_missing)
}

async fn nameless(State(app): App, headers: HeaderMap) -> Failure {
    holder(&app.service, &headers, &[DELETE]).await.err().unwrap_or_else(id_is_missing)
}

fn subscription_id(id: Id) -> Result<Uuid, Failure> {
    uuid_of(&text_of(id)?)
}

fn text_of(id: Id) -> Result<String, Failure> {
    let Path(text) = id.map_err(|_| bad("subscriptionId", "it is to be text in UTF-8"))?;
    if text.chars().count() > MAX_ID {
        return Err(bad("subscriptionId", "it has at most 256 characters"));
    }
    Ok(text)
}

/// A name that is none of ours is one that isn't there.
fn uuid_of(text: &str) -> Result<Uuid, Failure> {
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.ok_or_else(|| Refusal::NotFound.into())
}
