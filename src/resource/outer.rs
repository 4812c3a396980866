//! What surrounds every request: early data, CORS, and headers that every answer carries.

use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::App;
use super::base::Base;
use crate::clock;
use crate::protocol::network::Authority;
use crate::protocol::problem::{Code, Problem};
use crate::transport::TransportInfo;
use crate::transport::upgrade::WebTransportUpgrade;

/// RFC 9110 §5.6.7.
const HTTP_DATE: &[BorrowedFormatItem<'static>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// Wraps every request.
pub(super) async fn wrap(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Ok(Base(base)) = Base::from_request_parts(&mut parts, &app).await;
    parts.extensions.insert(Authority(base.clone()));
    let mut request = Request::from_parts(parts, body);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match before(&app, &request) {
        Ok(None) => next.run(request).await,
        Ok(Some(response)) => response,
        Err(problem) => {
            request.extensions_mut().insert(problem);
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    // wire §2: every 401 and 403 carries `Date`; HTTP/3 has no layer below that would add it.
    if !headers.contains_key(header::DATE)
        && let Some(date) = http_date()
    {
        headers.insert(header::DATE, date);
    }
    if let Some(whole) = headers.get(header::WWW_AUTHENTICATE).and_then(|value| with_metadata(value, &base)) {
        headers.insert(header::WWW_AUTHENTICATE, whole);
    }
    if let Some(origin) = origin.filter(|o| configured(&app, o)) {
        allow(headers, origin);
    }
    response
}

/// Answers what is refused before its route is reached.
pub(super) async fn refuse(mut request: Request, next: Next) -> Response {
    match request.extensions_mut().remove::<Problem>() {
        Some(problem) => problem.into_response(),
        None => next.run(request).await,
    }
}

/// RFC 9728 §5.1: a challenge says where to read what this server asks of tokens.
fn with_metadata(challenge: &HeaderValue, base: &str) -> Option<HeaderValue> {
    let challenge = challenge.to_str().ok()?;
    let value = format!(r#"{challenge}, resource_metadata="{base}/.well-known/oauth-protected-resource""#);
    HeaderValue::from_str(&value).ok().filter(|_| !base.is_empty())
}

fn before(app: &App, request: &Request) -> Result<Option<Response>, Problem> {
    let info = request.extensions().get::<TransportInfo>();
    // wire §1, RFC 8470 §5.2: only what is safe is taken from early data.
    if info.is_some_and(|i| i.early_data) && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::new(Code::TooEarly, "send this again once the handshake is complete"));
    }
    if passed_here(app, request.headers()) {
        let why = "this request comes from this server itself: a TG's URI points back at who calls it";
        return Err(Problem::new(Code::LoopDetected, why));
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else { return Ok(None) };
    let allowed = configured(app, origin) || own(request, origin);
    // wire §2: `Origin` is checked on CONNECT and WebSocket, which CORS does not guard.
    let unguarded = request.extensions().get::<WebTransportUpgrade>().is_some()
        || *request.method() == Method::CONNECT
        || request.headers().contains_key(header::SEC_WEBSOCKET_VERSION);
    if unguarded && !allowed {
        return Err(
            Problem::new(Code::Origin, "this page's origin isn't configured on the server").field("Origin")
        );
    }
    let preflight = *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if preflight && configured(app, origin) {
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        let set =
            |headers: &mut HeaderMap, name, value| headers.insert(name, HeaderValue::from_static(value));
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, PUT, DELETE");
        let names = "authorization, content-type, if-match, idempotency-key, last-event-id, accept, incremental, x-correlator, registrationid, transactionid, clientid";
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, "600");
        return Ok(Some(response));
    }
    Ok(None)
}

/// RFC 9110 §7.6.3: who passes requests on names itself, and so sees its own.
fn passed_here(app: &App, headers: &HeaderMap) -> bool {
    let Some(own) = app.service.settings.gateway.as_ref().and_then(|gateway| gateway.pseudonym()) else {
        return false;
    };
    let lines = headers.get_all(header::VIA).into_iter().filter_map(|via| via.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|hop| hop.split_ascii_whitespace().nth(1) == Some(own))
}

fn configured(app: &App, origin: &HeaderValue) -> bool {
    app.settings.origins.iter().any(|o| o.as_bytes() == origin.as_bytes())
}

/// wire §8: our own authority is allowed.
fn own(request: &Request, origin: &HeaderValue) -> bool {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok());
    let origin = origin.to_str().ok().and_then(|o| o.strip_prefix("https://"));
    host.is_some() && origin == host
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    let exposed = "Location, ETag, Date, Retry-After, WWW-Authenticate, x-correlator, transactionId";
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

fn http_date() -> Option<HeaderValue> {
    let seconds = i64::try_from(clock::now().as_secs()).ok()?;
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    HeaderValue::from_str(&at.format(HTTP_DATE).ok()?).ok()
}
