//! `…/handlers`: a user's devices.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::App;
use super::auth::{Caller, P, scope};
use super::base::Base;
use super::reply::{body, json, located, parse};
use crate::protocol::id::HandlerKey;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{HandlerDescription, HandlerList, handler_path};
use crate::service::registry::Handler;

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P(tg): P<String>,
) -> Result<Response, Problem> {
    caller.scope(scope::HANDLERS)?;
    let tg = caller.tg(&app, &tg)?;
    let handlers = app.service.registry.list(&caller.user(), &tg);
    let list = HandlerList { handlers: handlers.iter().map(|h| h.describe(&base)).collect() };
    Ok(json(StatusCode::OK, &list))
}

pub(super) async fn register(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P(tg): P<String>,
    raw: Body,
) -> Result<Response, Problem> {
    caller.scope(scope::HANDLERS)?;
    let tg = caller.tg(&app, &tg)?;
    let wanted: HandlerDescription = parse(&body(raw, app.settings.max_body).await?)?;
    let (handler, new) = app.service.registry.register(&caller.0, &tg, &wanted).await?;
    // wire §8: the same `handler-id` posted again: 200, unchanged.
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    let uri = format!("{base}{}", handler_path(&handler.tg, handler.key));
    Ok(located(json(status, &handler.describe(&base)), &uri))
}

fn own(app: &App, caller: &Caller, tg: &str, key: &str) -> Result<Handler, Problem> {
    let no_such = || Problem::new(Code::NotFound, "there is no such handler");
    caller.scope(scope::HANDLERS)?;
    let tg = caller.tg(app, tg)?;
    let key: HandlerKey = key.parse().map_err(|_| no_such())?;
    app.service.registry.own(&caller.0, key).filter(|h| h.tg == tg).ok_or_else(no_such)
}

pub(super) async fn describe(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P((tg, key)): P<(String, String)>,
) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, &own(&app, &caller, &tg, &key)?.describe(&base)))
}

pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P((tg, key)): P<(String, String)>,
    raw: Body,
) -> Result<Response, Problem> {
    let old = own(&app, &caller, &tg, &key)?;
    let wanted: HandlerDescription = parse(&body(raw, app.settings.max_body).await?)?;
    if wanted.handler_id != old.handler_id {
        return Err(Problem::new(Code::BadJson, "a handler keeps its handler-id; register another one")
            .field("handler-id"));
    }
    let handler = app.service.registry.change(&caller.0, old.key, &wanted).await?;
    app.service.handler_changed(&handler).await;
    Ok(json(StatusCode::OK, &handler.describe(&base)))
}

pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    P((tg, key)): P<(String, String)>,
) -> Result<Response, Problem> {
    let old = own(&app, &caller, &tg, &key)?;
    app.service.registry.remove(&caller.0, old.key).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
