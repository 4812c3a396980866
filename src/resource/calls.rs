//! `…/calls` and the call itself.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::App;
use super::auth::{Caller, OwnCall, Q, scope};
use super::base::Base;
use super::reply::{body, json, located, parse};
use crate::call::{Input, LegView};
use crate::clock;
use crate::protocol::event::State as CallState;
use crate::protocol::id::HandlerKey;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{
    CallDescription, CallEntry, CallList, CallRequest, Claim, MediaUris, call_path,
};
use crate::service::tickets::Grant;

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    Path(tg): Path<String>,
) -> Result<Response, Problem> {
    caller.scope(scope::CALLS)?;
    let tg = caller.tg(&app, &tg)?;
    let mut calls = Vec::new();
    for (leg, handle) in app.service.live_legs(&caller.user()) {
        let Ok(view) = handle.view(leg, None).await else { continue };
        if view.tg == tg && view.state != CallState::Ended {
            calls.push(CallEntry {
                uri: format!("{base}{}", call_path(&view.tg, leg)),
                state: view.state,
                direction: view.direction,
                from: view.from,
                to: view.to,
            });
        }
    }
    Ok(json(StatusCode::OK, &CallList { calls }))
}

/// The longest `Idempotency-Key`.
const MAX_KEY: usize = 255;

pub(super) async fn place(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    Path(tg): Path<String>,
    headers: HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    caller.scope(scope::CALLS)?;
    let tg = caller.tg(&app, &tg)?;
    let bytes = body(raw, app.settings.max_body).await?;
    let request: CallRequest = parse(&bytes)?;
    let key = match headers.get("idempotency-key").map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) if (1..=MAX_KEY).contains(&key.len()) => Some((key, &bytes[..])),
        Some(_) => {
            return Err(Problem::new(Code::BadRequest, "a key of 1 to 255 visible characters is taken")
                .field("Idempotency-Key"));
        }
    };
    let (leg, calls) = app.service.place(&caller.0, &tg, &request, key).await?;
    let named =
        request.handler.as_deref().and_then(|n| app.service.registry.resolve(&caller.user(), Some(&tg), n));
    let handler = named.map(|h| h.key);
    let view = calls.view(leg, handler).await?;
    let uri = format!("{base}{}", call_path(&tg, leg));
    let response = describe_as(&app, &caller.user(), &base, StatusCode::CREATED, view, handler)?;
    Ok(located(response, &uri))
}

pub(super) async fn describe(
    State(app): State<App>,
    call: OwnCall,
    Base(base): Base,
    Q(query): Q,
) -> Result<Response, Problem> {
    let handler = call.handler(&app, query.handler.as_deref())?.map(|h| h.key);
    let view = call.calls.view(call.leg, handler).await?;
    describe_as(&app, &call.caller.user(), &base, StatusCode::OK, view, handler)
}

pub(super) async fn act(
    State(app): State<App>,
    call: OwnCall,
    Base(base): Base,
    Q(query): Q,
    headers: HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    let bytes = body(raw, app.settings.max_body).await?;
    if call.calls.view(call.leg, None).await?.state == CallState::Ended {
        return Err(Problem::new(Code::CallEnded, "the call has ended; GET it to see how"));
    }
    let user = call.caller.user();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        let handler = call.handler(&app, query.handler.as_deref())?.map(|h| h.key);
        let view = call.calls.view(call.leg, handler).await?;
        return describe_as(&app, &user, &base, StatusCode::OK, view, handler);
    }
    let claim: Claim = parse(&bytes)?;
    let handler = app.service.acting_handler(&user, Some(&call.tg), &claim.handler)?;
    if claim.tap {
        call.calls.input(Input::Tap { leg: call.leg, handler: handler.key }).await?;
        let view = call.calls.view(call.leg, None).await?;
        return describe_as(&app, &user, &base, StatusCode::ACCEPTED, view, None);
    }
    let if_match = if_match(&headers)?;
    let input = Input::Claim { leg: call.leg, device: handler.device(), intent: claim.intent, if_match };
    call.calls.input(input).await?;
    let view = call.calls.view(call.leg, Some(handler.key)).await?;
    describe_as(&app, &user, &base, StatusCode::OK, view, Some(handler.key))
}

/// RFC 9110 §13.1.1. A tag that is none of ours matches nothing.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text.strip_prefix("\"v").and_then(|t| t.strip_suffix('"')).and_then(|t| t.parse().ok());
    version.map(Some).ok_or_else(|| {
        Problem::new(Code::PreconditionFailed, "the call never had this ETag; read it again")
            .field("If-Match")
    })
}

/// The call description, with a fresh ticket for the asking device.
fn describe_as(
    app: &App,
    user: &str,
    base: &str,
    status: StatusCode,
    view: LegView,
    asker: Option<HandlerKey>,
) -> Result<Response, Problem> {
    let uri = format!("{base}{}", call_path(&view.tg, view.id));
    let media = if view.state == CallState::Ended {
        None
    } else {
        let grant = Grant { user: user.to_owned(), leg: Some(view.id), handler: asker };
        let ticket = app.service.tickets.issue(clock::now(), grant)?;
        Some(MediaUris {
            webtransport: format!("{uri}/media?ticket={ticket}"),
            byway: format!("{uri}/media"),
        })
    };
    let version = view.version;
    let (passport, verification) = match view.caller {
        Some(caller) => (Some(caller.passport), Some(caller.verification)),
        None => (None, None),
    };
    let description = CallDescription {
        uri,
        state: view.state,
        held: view.held,
        outcome: view.outcome,
        direction: view.direction,
        accepted: view.accepted,
        from: view.from,
        to: view.to,
        handler: view.handler.map(|path| format!("{base}{path}")),
        passport,
        verification,
        client_directives: view.client_directives,
        server_directives: view.server_directives,
        media,
        created: view.created,
        answered: view.answered,
        ended: view.ended,
        ended_by: view.ended_by,
        reason: view.reason,
    };
    let mut response = json(status, &description);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"v{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
