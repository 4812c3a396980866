//! `…/calls` and the call itself.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::App;
use super::auth::{Caller, OwnCall, P, Q, scope};
use super::base::Base;
use super::reply::{body, json, located, parse};
use super::twin::in_form;
use crate::call::{Input, LegView};
use crate::clock;
use crate::protocol::event::State as CallState;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{
    CallDescription, CallEntry, CallList, CallRequest, Claim, MediaUris, call_path,
};
use crate::service::registry::Handler;
use crate::service::tickets::Grant;

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P(tg): P<String>,
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
    P(tg): P<String>,
    headers: HeaderMap,
    raw: Body,
) -> Result<Response, Problem> {
    caller.scope(scope::CALLS)?;
    let tg = caller.tg(&app, &tg)?;
    let bytes = body(raw, app.settings.max_body).await?;
    let request: CallRequest = parse(&bytes)?;
    let key = match headers.get("idempotency-key").map(HeaderValue::to_str) {
        None => None,
        Some(Ok(key)) if (1..=MAX_KEY).contains(&key.len()) => Some((key.to_owned(), bytes.clone())),
        Some(_) => {
            return Err(Problem::new(Code::BadRequest, "a key of 1 to 255 visible characters is taken")
                .field("Idempotency-Key"));
        }
    };
    let named = request.handler.clone();
    let placing = {
        let (service, principal, tg) = (app.service.clone(), caller.0.clone(), tg.clone());
        async move {
            let key = key.as_ref().map(|(key, body)| (key.as_str(), &body[..]));
            service.place(&principal, &tg, &request, key).await
        }
    };
    // A client that goes away in the middle leaves no half of a call: neither here nor at the next server.
    let placed = tokio::spawn(placing).await;
    let (leg, calls) = placed
        .map_err(|error| Problem::new(Code::Internal, format!("the call was not placed: {error}")))??;
    let handler = named.as_deref().and_then(|n| app.service.registry.resolve(&caller.user(), Some(&tg), n));
    let view = calls.view(leg, handler.as_ref().map(|h| h.key)).await?;
    let uri = format!("{base}{}", call_path(&tg, leg));
    let response = describe_as(&app, &caller.user(), &base, StatusCode::CREATED, view, handler.as_ref())?;
    Ok(located(response, &uri))
}

pub(super) async fn describe(
    State(app): State<App>,
    call: OwnCall,
    Base(base): Base,
    Q(query): Q,
) -> Result<Response, Problem> {
    let handler = call.handler(&app, query.handler.as_deref())?;
    let view = call.calls.view(call.leg, handler.as_ref().map(|h| h.key)).await?;
    describe_as(&app, &call.caller.user(), &base, StatusCode::OK, view, handler.as_ref())
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
        let handler = call.handler(&app, query.handler.as_deref())?;
        let view = call.calls.view(call.leg, handler.as_ref().map(|h| h.key)).await?;
        return describe_as(&app, &user, &base, StatusCode::OK, view, handler.as_ref());
    }
    let claim: Claim = parse(&bytes)?;
    let handler = app.service.acting_handler(&user, Some(&call.tg), &claim.handler)?;
    if claim.tap {
        call.calls.input(Input::Tap { leg: call.leg, handler: handler.key }).await?;
        let view = call.calls.view(call.leg, None).await?;
        return describe_as(&app, &user, &base, StatusCode::ACCEPTED, view, None);
    }
    let if_match = if_match(&headers);
    let input = Input::Claim { leg: call.leg, device: handler.device(), intent: claim.intent, if_match };
    call.calls.input(input).await?;
    let view = call.calls.view(call.leg, Some(handler.key)).await?;
    describe_as(&app, &user, &base, StatusCode::OK, view, Some(&handler))
}

/// RFC 9110 §13.1.1: the versions of which one has to be current. A tag that is none of ours matches nothing.
fn if_match(headers: &HeaderMap) -> Option<Vec<u64>> {
    let lines = headers.get_all(header::IF_MATCH).into_iter().filter_map(|v| v.to_str().ok());
    let tags: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    if !headers.contains_key(header::IF_MATCH) || tags == ["*"] {
        return None;
    }
    let version = |tag: &&str| tag.strip_prefix("\"v")?.strip_suffix('"')?.parse().ok();
    Some(tags.iter().filter_map(version).collect())
}

/// The call description, with a fresh ticket for the asking device.
fn describe_as(
    app: &App,
    user: &str,
    base: &str,
    status: StatusCode,
    view: LegView,
    asker: Option<&Handler>,
) -> Result<Response, Problem> {
    let uri = format!("{base}{}", call_path(&view.tg, view.id));
    let media = if view.state == CallState::Ended {
        None
    } else {
        let grant = Grant { user: user.to_owned(), leg: Some(view.id), handler: asker.map(|h| h.key) };
        let ticket = app.service.tickets.issue(clock::now(), grant)?;
        Some(MediaUris {
            webtransport: format!("{uri}/media?ticket={ticket}"),
            byway: format!("{uri}/media"),
        })
    };
    let version = view.version;
    let (passport, verification, div) = match view.caller {
        Some(caller) => (Some(caller.passport), Some(caller.verification), caller.div),
        None => (None, None, Vec::new()),
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
        div,
        client_directives: view.client_directives,
        server_directives: view.server_directives,
        media,
        created: view.created,
        answered: view.answered,
        ended: view.ended,
        ended_by: view.ended_by,
        reason: view.reason,
    };
    let description = serde_json::to_value(&description)
        .map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
    let mut response = json(status, &in_form(description, asker.map(|h| h.form)));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"v{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}
