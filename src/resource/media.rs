//! `{call}/media`: the WebTransport session and the media byways.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::App;
use super::auth::{Caller, Q, Queries, leg_of_path, principal, scope};
use super::reply::body;
use crate::clock;
use crate::protocol::chunk::{Chunk, Kind, frames, put_frame};
use crate::protocol::id::{HandlerKey, LegId, TgId};
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{CHUNKS, call_path};
use crate::service::ports::{LegPort, MediaPath, Outlet, Trunk};
use crate::transport::hub::Hub;
use crate::transport::session::{Ear, Sent, Session, SessionSink};
use crate::transport::upgrade::WebTransportUpgrade;

/// wire §5: a chunk of up to 1,100 bytes goes in one datagram.
const MAX_DATAGRAM: usize = 1100;
/// A larger chunk is too old to play after this long.
const STREAM_LIFETIME: Duration = Duration::from_millis(400);
/// wire §8.
const COOKIE: &str = "ript-media";

/// Who may send and receive a leg's media, and as which device.
#[derive(Debug)]
pub(super) struct MediaCaller {
    tg: TgId,
    leg: LegId,
    handler: HandlerKey,
    user: String,
    port: Arc<LegPort>,
    /// The bearer was checked: a cookie spares it the next time.
    fresh: bool,
}

impl FromRequestParts<App> for MediaCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Q(query) = Q::from_request_parts(parts, app).await?;
        let (tg, leg) = leg_of_path(parts, app).await?;
        let cookie =
            cookie(&parts.headers).and_then(|c| app.service.tickets.check_cookie(clock::now(), leg, c));
        let fresh = cookie.is_none();
        let (user, handler) = match (&query.ticket, cookie) {
            (Some(ticket), _) => by_ticket(app, ticket, leg, &query)?,
            (None, Some((user, handler))) => {
                let named =
                    query.handler.as_deref().and_then(|n| app.service.registry.resolve(&user, None, n));
                if query.handler.is_some() && named.map(|h| h.key) != Some(handler) {
                    by_bearer(parts, app, &tg, &query).await?
                } else {
                    (user, handler)
                }
            }
            (None, None) => by_bearer(parts, app, &tg, &query).await?,
        };
        let tg: TgId = tg.parse().map_err(|_| Problem::new(Code::NotFound, "there is no such call"))?;
        let calls = app.service.leg(&user, &tg, leg)?;
        let port = match app.service.ports.get(leg) {
            Some(port) => port,
            // A live leg has a port; one without is over, or its call has not come to it since a restart: once it
            // answers, it has.
            None => {
                calls.view(leg, None).await?;
                app.service.ports.get(leg).ok_or_else(gone)?
            }
        };
        Ok(Self { tg, leg, handler, user, port, fresh })
    }
}

fn gone() -> Problem {
    Problem::new(Code::MediaGone, "the call has ended, and its media with it")
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|v| v.to_str().ok());
    all.flat_map(|v| v.split(';')).find_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn by_ticket(app: &App, ticket: &str, leg: LegId, query: &Queries) -> Result<(String, HandlerKey), Problem> {
    let bad = |detail: &str| Problem::new(Code::BadTicket, detail).field("ticket");
    let grant = app.service.tickets.redeem(clock::now(), ticket)?;
    if grant.leg != Some(leg) {
        return Err(bad("this ticket is for something else"));
    }
    let named = match query.handler.as_deref() {
        Some(named) => Some(app.service.registry.resolve(&grant.user, None, named).map(|h| h.key)),
        None => None,
    };
    // wire §8: a ticket names its handler by itself; a query that differs is refused.
    match (grant.handler, named) {
        (Some(own), None) => Ok((grant.user, own)),
        (Some(own), Some(named)) if named == Some(own) => Ok((grant.user, own)),
        (Some(_), Some(_)) => Err(bad("this ticket is for another handler")),
        (None, Some(Some(named))) => Ok((grant.user, named)),
        (None, _) => Err(bad("this ticket names no handler; read the call with ?handler= for one that does")),
    }
}

async fn by_bearer(
    parts: &Parts,
    app: &App,
    tg: &str,
    query: &Queries,
) -> Result<(String, HandlerKey), Problem> {
    let caller = Caller(principal(parts, app).await?);
    caller.scope(scope::CALLS)?;
    caller.tg(app, tg)?;
    let user = caller.user();
    let Some(named) = query.handler.as_deref() else {
        return Err(
            Problem::new(Code::BadRequest, "name the device: ?handler= with its URI").field("handler")
        );
    };
    let handler = app.service.acting_handler(&user, None, named)?.key;
    Ok((user, handler))
}

/// Extended CONNECT: the session.
pub(super) async fn session(
    State(app): State<App>,
    media: MediaCaller,
    upgrade: Option<axum::Extension<WebTransportUpgrade>>,
) -> Result<Response, Problem> {
    let Some(axum::Extension(upgrade)) = upgrade else {
        return Err(Problem::new(Code::BadRequest, "CONNECT is for `:protocol = webtransport` over HTTP/3"));
    };
    let MediaCaller { port, handler, .. } = media;
    upgrade.on_upgrade(move |session| {
        let entrance = app.service.ports.open(&port, handler, Arc::new(SessionPath(session)));
        Ear { sink: port, token: entrance.id() }
    });
    Ok(StatusCode::OK.into_response())
}

/// A session as a leg's way to its device.
#[derive(Debug)]
pub(crate) struct SessionPath(pub(crate) Session);

impl MediaPath for SessionPath {
    fn send(&self, chunk: &[u8]) -> bool {
        let deadline = clock::instant() + STREAM_LIFETIME;
        self.0.send_stream(Bytes::copy_from_slice(chunk), deadline) != Sent::Closed
    }

    fn close(&self, reason: &str) {
        self.0.close(0, reason);
    }

    fn is_session(&self) -> bool {
        true
    }

    // The port forgets this path when the session ends, so nothing is sent after that.
    fn outlet(&self) -> Option<Outlet> {
        Some(Outlet { trunk: self.0.hub().clone(), channel: self.0.id() })
    }
}

impl Trunk for Hub {
    fn send(&self, channel: u64, chunk: &[u8]) -> Option<bool> {
        if chunk.len() > MAX_DATAGRAM {
            return None;
        }
        match self.send_on(channel, chunk) {
            Sent::Sent | Sent::Queued | Sent::Dropped => Some(true),
            Sent::Closed => Some(false),
            Sent::TooLarge => None,
        }
    }
}

/// A leg's port closes its paths when the leg is over, so what still comes needs no answer.
impl SessionSink for LegPort {
    fn expect(&self) {
        self.expect();
    }

    fn on_datagram(&self, path: u64, payload: Bytes) {
        self.arrived(path, &payload);
    }

    fn on_stream(&self, path: u64, body: Bytes) {
        self.arrived(path, &body);
    }

    fn on_closed(&self, path: u64) {
        self.closed(path);
    }
}

/// `PUT`: chunks from a device, each in its own request.
pub(super) async fn send(State(app): State<App>, media: MediaCaller, raw: Body) -> Result<Response, Problem> {
    let bytes = body(raw, app.settings.max_chunk + 4096).await?;
    let bad = |detail: &str| Problem::new(Code::BadChunk, detail);
    let mut chunks = Vec::new();
    let mut media_chunks = 0;
    for frame in frames(&bytes) {
        let frame = frame.map_err(|_| bad("a body is any number of `varint length | chunk`"))?;
        if frame.len() > app.settings.max_chunk {
            return Err(Problem::new(Code::TooLarge, "a chunk is larger than this server takes"));
        }
        let chunk = Chunk::parse(frame).map_err(|error| bad(&format!("a chunk can't be read: {error}")))?;
        media_chunks += usize::from(chunk.kind == Kind::Media);
        chunks.push(frame);
    }
    if media_chunks > 1 {
        return Err(bad("a PUT carries at most one media chunk"));
    }
    let (queue, entrance) = app.byways.open(&app.service.ports, &media.port, media.leg, media.handler);
    for chunk in chunks {
        if !entrance.arrived(chunk) {
            return Err(gone());
        }
    }
    let mut answer = BytesMut::new();
    // An ack that the ticker sent meanwhile waits among the controls.
    entrance.acks_now(|ack| put_frame(ack, &mut answer));
    queue.controls(&mut answer);
    Ok(respond(&app, &media, StatusCode::OK, answer.freeze()))
}

/// `GET`: the next chunk for a device.
pub(super) async fn fetch(State(app): State<App>, media: MediaCaller) -> Result<Response, Problem> {
    let (queue, _) = app.byways.open(&app.service.ports, &media.port, media.leg, media.handler);
    let waiting = queue.wait().ok_or_else(gone)?;
    match tokio::time::timeout(app.settings.media_idle, waiting).await {
        Ok(Ok(chunks)) => Ok(respond(&app, &media, StatusCode::OK, chunks)),
        Ok(Err(_)) if app.service.ports.get(media.leg).is_none() => Err(gone()),
        Ok(Err(_)) | Err(_) => Ok(respond(&app, &media, StatusCode::NO_CONTENT, Bytes::new())),
    }
}

fn respond(app: &App, media: &MediaCaller, status: StatusCode, chunks: Bytes) -> Response {
    let mut response = (status, Body::from(chunks)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CHUNKS));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if media.fresh {
        let value = app.service.tickets.cookie(clock::now(), &media.user, media.leg, media.handler);
        let path = call_path(&media.tg, media.leg);
        let cookie = format!("{COOKIE}={value}; Path={path}/media; HttpOnly; Secure; SameSite=Strict");
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(header::SET_COOKIE, cookie);
        }
    }
    response
}
