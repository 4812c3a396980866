//! `GET …/providertgs` and `GET …/providertgs/{tg}`.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::App;
use super::auth::{Caller, P};
use super::base::Base;
use super::reply::json;
use crate::protocol::problem::Problem;
use crate::protocol::resource::{TgDescription, TgDirection, TgEntry, TgList, tg_path};

/// What the server passes on from the other side: whatever it is.
const ADVERTISEMENT: &str =
    "1 in: opus; PCMU; PCMA; G722; telephone-event; CN;\n1 out: opus; PCMU; PCMA; G722; telephone-event; CN;";

fn cached(mut response: Response) -> Response {
    let value = HeaderValue::from_static("private, max-age=300");
    response.headers_mut().insert(header::CACHE_CONTROL, value);
    response
}

pub(super) async fn list(State(app): State<App>, caller: Caller, Base(base): Base) -> Response {
    let mine = app.service.settings.tgs.iter().filter(|tg| caller.0.may_use_tg(tg.id.as_str()));
    let entry = |tg: &crate::service::TgSettings| TgEntry {
        uri: format!("{base}{}", tg_path(&tg.id)),
        name: tg.name.clone(),
        description: tg.description.clone(),
    };
    cached(json(StatusCode::OK, &TgList { tgs: mine.map(entry).collect() }))
}

pub(super) async fn describe(
    State(app): State<App>,
    caller: Caller,
    Base(base): Base,
    P(tg): P<String>,
) -> Result<Response, Problem> {
    let id = caller.tg(&app, &tg)?;
    let settings = &app.service.settings;
    let Some(tg) = settings.tg(id.as_str()) else { return Err(super::reply::not_found().await) };
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let description = TgDescription {
        uri: format!("{base}{}", tg_path(&tg.id)),
        name: tg.name.clone(),
        description: tg.description.clone(),
        outbound: TgDirection {
            origins: app.service.origins(&caller.0),
            destinations: tg.destinations.clone(),
        },
        inbound: tg.inbound.clone().map(|destinations| TgDirection { origins: None, destinations }),
        numbers: caller.0.numbers.clone(),
        advertisement: ADVERTISEMENT.to_owned(),
        retry_backoff: ms(tg.retry_backoff),
        media_timeout: ms(tg.media_timeout),
        keepalive: ms(settings.keepalive),
        answer_timeout: ms(settings.timing.answer),
        media_encodings: vec!["ript-chunk/1".to_owned()],
    };
    Ok(cached(json(StatusCode::OK, &description)))
}
