//! `…/push`: taps, as streaming JSON or as WebSocket text messages.

use std::collections::VecDeque;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::App;
use super::auth::{Caller, Q, Queries, principal, scope};
use super::base::Base;
use super::reply::json as document;
use super::stream::{Framing, Next, Source, respond};
use crate::clock;
use crate::protocol::id::HandlerKey;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{Tap, TicketAnswer};
use crate::service::tickets::Grant;

/// A quiet WebSocket is pinged this often, below every proxy's idle time-out.
const PING: Duration = Duration::from_secs(10);

struct Who(String, Option<HandlerKey>);

async fn who(parts: &Parts, app: &App, query: &Queries) -> Result<Who, Problem> {
    let (user, granted) = match &query.ticket {
        Some(ticket) => {
            let grant = app.service.tickets.redeem(clock::now(), ticket)?;
            if grant.leg.is_some() {
                return Err(
                    Problem::new(Code::BadTicket, "this ticket is for a call's media").field("ticket")
                );
            }
            (grant.user, grant.handler)
        }
        None => {
            let caller = Caller(principal(parts, app).await?);
            caller.scope(scope::CALLS)?;
            (caller.user(), None)
        }
    };
    let named = query.handler.as_deref().map(|named| app.service.acting_handler(&user, None, named));
    match (granted, named) {
        // wire §8: a ticket names its handler by itself; a query that differs is refused.
        (Some(own), Some(named)) if !named.as_ref().is_ok_and(|h| h.key == own) => {
            Err(Problem::new(Code::BadTicket, "this ticket is for another handler").field("handler"))
        }
        (Some(own), _) => Ok(Who(user, Some(own))),
        (None, named) => Ok(Who(user, named.transpose()?.map(|h| h.key))),
    }
}

pub(super) async fn open(
    State(app): State<App>,
    parts: Parts,
    Base(base): Base,
    Q(query): Q,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if socket.is_err() && parts.method == Method::CONNECT {
        return Err(Problem::new(Code::BadRequest, "CONNECT is for `:protocol = websocket` here"));
    }
    let Who(user, handler) = who(&parts, &app, &query).await?;
    let Some((_, taps)) = app.service.push.open(&user, handler) else {
        return Err(Problem::new(Code::TooMany, "this user has too many push channels open"));
    };
    // wire §2: first one tap for every call that rings now, then new ones; the channel is open already, so
    // a call that comes in between is tapped twice rather than not at all.
    let first = app.service.ringing(&user, handler).await.into();
    let source = Taps { first, taps, base };
    Ok(match socket {
        Ok(upgrade) => upgrade
            .max_message_size(app.settings.max_body)
            .on_upgrade(move |socket| talk(socket, source))
            .into_response(),
        Err(_) => respond(Framing::wanted(&headers), source),
    })
}

struct Taps {
    first: VecDeque<Tap>,
    taps: mpsc::Receiver<Tap>,
    base: String,
}

impl Taps {
    async fn tap(&mut self) -> Option<Value> {
        let tap = match self.first.pop_front() {
            Some(tap) => tap,
            None => self.taps.recv().await?,
        };
        Some(json!({"call": format!("{}{}", self.base, tap.call), "reason": tap.reason}))
    }
}

impl Source for Taps {
    async fn next(&mut self) -> Next {
        self.tap().await.map_or(Next::Cut, Next::Object)
    }
}

async fn talk(mut socket: WebSocket, mut source: Taps) {
    let mut ping = tokio::time::interval(PING);
    loop {
        let message = tokio::select! {
            tap = source.tap() => match tap {
                Some(tap) => Message::Text(tap.to_string().into()),
                None => break,
            },
            _ = ping.tick() => Message::Ping(bytes::Bytes::new()),
            // Nothing is expected from the client but pongs and the close.
            heard = socket.recv() => match heard {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => continue,
            },
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
    let _ = socket.send(Message::Close(None)).await;
}

/// `POST …/push/tickets`: for clients that cannot set headers.
pub(super) async fn ticket(State(app): State<App>, caller: Caller, Q(query): Q) -> Result<Response, Problem> {
    caller.scope(scope::CALLS)?;
    let user = caller.user();
    let handler = match query.handler.as_deref() {
        Some(named) => Some(app.service.acting_handler(&user, None, named)?.key),
        None => None,
    };
    let ticket = app.service.tickets.issue(clock::now(), Grant { user, leg: None, handler })?;
    Ok(document(StatusCode::CREATED, &TicketAnswer { ticket }))
}
