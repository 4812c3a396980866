//! The sample page of `web/`, which a development server has, and the links that open it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::get;
use http::{HeaderValue, header};

use super::{CliError, token};
use crate::adapter::camara::SCOPES;
use crate::identity::token::Claims;
use crate::protocol::time::Timestamp;

/// Where the page is.
const HOME: &str = "/web/";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What it consists of: name, content type, content.
const FILES: [(&str, &str, &str); 7] = [
    ("", HTML, include_str!("../../web/index.html")),
    ("style.css", CSS, include_str!("../../web/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../../web/icon.svg")),
    ("api.js", SCRIPT, include_str!("../../web/api.js")),
    ("call.js", SCRIPT, include_str!("../../web/call.js")),
    ("events.js", SCRIPT, include_str!("../../web/events.js")),
    ("page.js", SCRIPT, include_str!("../../web/page.js")),
];

/// What the page may load, connect to and be shown in: nothing but what is its own.
const POLICY: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("permissions-policy", "camera=(self), microphone=(self)"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// Who the links are for.
const USERS: [(&str, &str); 2] = [("alice", "+14085550001"), ("bob", "+14085550002")];
/// Long enough to try things out for a day.
const LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// Serves it.
pub(super) fn router() -> Router {
    let mut router = Router::new();
    for (name, kind, content) in FILES {
        router = router.route(&format!("{HOME}{name}"), get(async move || file(kind, content)));
    }
    for path in ["/", "/web"] {
        router = router.route(path, get(async || Redirect::temporary(HOME)));
    }
    router
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let mut response = content.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in POLICY {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// What opens the page of each user: the token is in the fragment, which no browser sends.
pub(super) fn links(data: &Path, address: SocketAddr, now: Timestamp) -> Result<Vec<String>, CliError> {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let authority = SocketAddr::new(ip, address.port());
    let link = |(user, number): (&str, &str)| {
        let scopes = SCOPES.map(str::to_owned).to_vec();
        let claims = Claims { scopes, lifetime: LIFETIME, ..token::claims(user, &[number]) };
        let token = token::mint(data, &claims, now)?;
        Ok(format!("{user} ({number}): https://{authority}{HOME}#token={token}"))
    };
    USERS.into_iter().map(link).collect()
}
