//! Where we are, as the client sees it: `https://authority`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, header};

use super::App;
use crate::transport::PeerAddr;

/// The beginning of absolute URIs in an answer.
#[derive(Clone, Debug)]
pub(crate) struct Base(pub(crate) String);

impl FromRequestParts<App> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Self::Rejection> {
        let host = parts.headers.get(header::HOST).and_then(|v| v.to_str().ok());
        let authority = parts.uri.authority().map(http::uri::Authority::as_str);
        let peer = parts.extensions.get::<PeerAddr>().map(|p| p.0.ip());
        let trusted = peer.is_some_and(|ip| app.settings.trusted_proxies.iter().any(|net| net.contains(ip)));
        let forwarded = if trusted { forwarded_host(&parts.headers) } else { None };
        let own = forwarded.or(authority.or(host).map(str::to_owned));
        let own = own.filter(|a| a.parse::<http::uri::Authority>().is_ok());
        // Relative URIs are taken by every client, so no authority is better than a wrong one.
        Ok(Self(own.map_or_else(String::new, |authority| format!("https://{authority}"))))
    }
}

/// RFC 7239 §4: the first element is the client's; `host` is what it asked for.
fn forwarded_host(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("forwarded")?.to_str().ok()?;
    let first = value.split(',').next()?;
    let host = first.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("host").then_some(value)
    })?;
    Some(host.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_forwarded_is_found() {
        for (value, host) in [
            ("for=192.0.2.1;host=a.example;proto=https", Some("a.example")),
            ("For=\"[2001:db8::1]\"; Host=\"a.example:8443\", for=x;host=b", Some("a.example:8443")),
            ("for=192.0.2.1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", value.parse().unwrap());
            assert_eq!(forwarded_host(&headers).as_deref(), host);
        }
    }
}
