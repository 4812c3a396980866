//! `…/consumertgs`: customers register their own TGs, for calls to their numbers.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::App;
use super::auth::{Caller, P, scope};
use super::base::Base;
use super::reply::{body, json, located, not_found, parse};
use crate::protocol::id::TgId;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{ConsumerTg, ConsumerTgList, ROOT, TgDirection};
use crate::service::audit::TrunkChange;
use crate::service::consumers::{Consumer, Wanted};

fn uri(base: &str, consumer: &Consumer) -> String {
    format!("{base}{ROOT}/consumertgs/{}", consumer.id)
}

fn described(base: &str, consumer: &Consumer) -> ConsumerTg {
    ConsumerTg {
        uri: Some(uri(base, consumer)),
        target_uri: consumer.target_uri.clone(),
        // Whoever reads a registration knows its token or has no business with it.
        token: None,
        outbound: TgDirection { origins: None, destinations: consumer.destinations.clone() },
    }
}

pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
) -> Result<Response, Problem> {
    caller.scope(scope::TRUNKS)?;
    let tgs = app.service.consumers.list(&caller.user());
    let tgs = tgs.iter().map(|consumer| described(&base, consumer)).collect();
    Ok(json(StatusCode::OK, &ConsumerTgList { tgs }))
}

pub(super) async fn list_of_tg(
    state: State<App>,
    caller: Caller,
    base: Base,
    P(tg): P<String>,
) -> Result<Response, Problem> {
    caller.tg(&state.0, &tg)?;
    list(state, caller, base).await
}

pub(super) async fn register(
    state: State<App>,
    caller: Caller,
    base: Base,
    raw: Body,
) -> Result<Response, Problem> {
    // On the root, a customer is one of the first TG that its token may use.
    let tgs = &state.0.service.settings.tgs;
    let tg = tgs.iter().find(|tg| caller.0.may_use_tg(tg.id.as_str())).map(|tg| tg.id.clone());
    put(state.0, caller, base.0, tg.ok_or(()), None, raw).await
}

pub(super) async fn register_on_tg(
    state: State<App>,
    caller: Caller,
    base: Base,
    P(tg): P<String>,
    raw: Body,
) -> Result<Response, Problem> {
    let tg = caller.tg(&state.0, &tg)?;
    put(state.0, caller, base.0, Ok(tg), None, raw).await
}

pub(super) async fn describe(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P(id): P<String>,
) -> Result<Response, Problem> {
    caller.scope(scope::TRUNKS)?;
    let consumer = app.service.consumers.own(&caller.user(), &id)?;
    Ok(json(StatusCode::OK, &described(&base, &consumer)))
}

pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P(id): P<String>,
    raw: Body,
) -> Result<Response, Problem> {
    caller.scope(scope::TRUNKS)?;
    let known = app.service.consumers.own(&caller.user(), &id)?;
    put(app, caller, base, Ok(known.tg.clone()), Some(id), raw).await
}

pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    P(id): P<String>,
) -> Result<Response, Problem> {
    caller.scope(scope::TRUNKS)?;
    let user = caller.user();
    let known = app.service.consumers.own(&user, &id);
    let target = known.as_ref().ok().map(|known| known.target_uri.as_str());
    let removed = app.service.consumers.remove(&user, &id).await;
    let refused = removed.as_ref().err().map(|problem| problem.code);
    app.service.audit.trunk(&user, TrunkChange::Removed, target, refused);
    removed?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn put(
    app: App,
    caller: Caller,
    base: String,
    tg: Result<TgId, ()>,
    id: Option<String>,
    raw: Body,
) -> Result<Response, Problem> {
    caller.scope(scope::TRUNKS)?;
    let Ok(tg) = tg else { return Err(not_found().await) };
    let wanted: ConsumerTg = parse(&body(raw, app.settings.max_body).await?)?;
    let missing = || {
        let why = "the bearer token with which your TG takes our calls is missing";
        Problem::new(Code::BadJson, why).field("token")
    };
    let wanted = Wanted {
        target_uri: wanted.target_uri,
        token: wanted.token.ok_or_else(missing)?,
        destinations: wanted.outbound.destinations,
    };
    let own = base.strip_prefix("https://").unwrap_or_default();
    let target = wanted.target_uri.clone();
    let put = async {
        let mut consumer = app.service.consumers.check(&caller.0, &tg, own, wanted)?;
        if let Some(id) = id {
            consumer.id = id;
        }
        // ript-core "Consumer TG Registration": the provider believes nothing that it has not seen.
        app.service.gateway()?.check(consumer.clone().into()).await?;
        app.service.consumers.put(consumer).await
    };
    let put = put.await;
    let refused = put.as_ref().err().map(|problem| problem.code);
    app.service.audit.trunk(&caller.user(), TrunkChange::Registered, Some(&target), refused);
    let (consumer, new) = put?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(located(json(status, &described(&base, &consumer)), &uri(&base, &consumer)))
}
