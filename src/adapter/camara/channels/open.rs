//! `/webrtc-events/…/channels/{deviceId}`: who may open a channel, and how a browser says its token.

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{connect, get};
use http::{HeaderMap, header};
use uuid::Uuid;

use super::socket::{MAX_MESSAGE, Opening, talk};
use super::wording::{SCOPES, Types, Word, Wording};
use super::{Due, Full};
use crate::adapter::camara::Camara;
use crate::adapter::camara::auth::Caller;
use crate::adapter::camara::body::{App, Id, bad, id_in_path, uuid};
use crate::adapter::camara::cloudevent::cloudevent;
use crate::adapter::camara::error::{Code, Failure};
use crate::clock;
use crate::protocol::network::Authority;

/// Where the API is: its last versions, and the one in work.
const BASES: [&str; 3] = ["/webrtc-events/v0.3", "/webrtc-events/v0.2", "/webrtc-events/vwip"];

/// What a browser asks for besides its token, and what the answer picks.
const PROTOCOL: &str = "camara-events";
/// A browser sets no headers, but may list subprotocols: `camara-events, bearer.<token>`.
const BEARER: &str = "bearer.";

pub(crate) type Socket = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;
pub(crate) type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The routes; what else there is below them is answered by the API's others.
pub(crate) fn routes() -> Router<Arc<Camara>> {
    let mut router = Router::new();
    for base in BASES {
        router = router.route(&format!("{base}/channels/{{deviceId}}"), get(open).merge(connect(open)));
    }
    router.method_not_allowed_fallback(no_such_method)
}

async fn no_such_method() -> Failure {
    Failure::new(Code::MethodNotAllowed, "a channel is opened by GET, as a WebSocket")
}

async fn open(
    State(app): App,
    headers: HeaderMap,
    device: Id,
    query: Parameters,
    authority: Option<Extension<Authority>>,
    socket: Socket,
) -> Result<Response, Failure> {
    let authorization = authorization(&headers);
    let caller = Caller::of_any(&app.service, authorization.as_deref(), &SCOPES).await?;
    let types = Types::of_scopes(|scope| caller.has_scope(scope));
    let device = id_in_path(device, "deviceId")?
        .ok_or_else(|| bad("deviceId", "a UUID is expected, as 123e4567-e89b-42d3-a456-426614174000"))?;
    let after = after(query)?;
    if app.registrations.list(clock::now(), &caller.user, device).is_empty() {
        let why = "deviceId: you have no active registration on this device; \
                   POST /webrtc-registration/v0.3/sessions makes one";
        return Err(Failure::new(Code::NotFound, why));
    }
    // CloudEvents §3.1.1, source: a URI reference that is not empty.
    let source = authority.map(|Extension(Authority(base))| base).filter(|base| !base.is_empty());
    let source = source.unwrap_or_else(|| BASES[0].to_owned());
    let wording = Wording::new(types, move |due: &Due| {
        Word::Text(cloudevent(&due.notice, &due.id.to_string(), None, &source, due.at).to_string())
    });
    let until = caller.lasts(&app.service);
    upgrade(&app, socket, Opening { key: (caller.user, device), until, after }, wording)
}

/// Answers the request for a socket, and serves it.
pub(crate) fn upgrade(
    app: &Camara,
    socket: Socket,
    opening: Opening,
    wording: Wording,
) -> Result<Response, Failure> {
    let upgrade = socket.map_err(|_| {
        let why = "this is a WebSocket (RFC 6455): send `Connection: Upgrade`, `Upgrade: websocket` and \
                   `Sec-WebSocket-Version: 13` over HTTP/1.1, or an Extended CONNECT over HTTP/2";
        Failure::new(Code::UpgradeRequired, why)
    })?;
    app.notices.channels.room(&opening.key.0, opening.key.1)?;
    let channels = app.notices.channels.clone();
    let upgrade = upgrade.max_message_size(MAX_MESSAGE).max_frame_size(MAX_MESSAGE).protocols([PROTOCOL]);
    Ok(upgrade.on_upgrade(move |socket| talk(socket, channels, opening, wording)).into_response())
}

impl From<Full> for Failure {
    fn from(full: Full) -> Self {
        let code = match full {
            Full::User(_) => Code::TooManyRequests,
            Full::Server => Code::Unavailable,
        };
        Self::new(code, full.to_string())
    }
}

/// The header, or the token among the subprotocols.
fn authorization(headers: &HeaderMap) -> Option<String> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        return value.to_str().ok().map(str::to_owned);
    }
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    let token = names.find_map(|name| name.strip_prefix(BEARER))?;
    Some(format!("Bearer {token}"))
}

/// The event that the client has.
pub(crate) fn after(query: Parameters) -> Result<Option<Uuid>, Failure> {
    let Query(query) = query.map_err(|error| bad("query", &error.body_text()))?;
    let mut named = query.into_iter().filter(|(name, _)| name == "after").map(|(_, value)| value);
    match (named.next(), named.next()) {
        (None, _) => Ok(None),
        (Some(text), None) if uuid(&text).is_some() => Ok(uuid(&text)),
        _ => Err(bad("after", "the id of the last event that you have is expected, once")),
    }
}
