//! Where to log in, and what this server asks of tokens.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::App;
use super::auth::scope;
use super::base::Base;
use super::reply;
use crate::protocol::problem::{Code, Problem};

/// `GET /.well-known/ript-oauth`, wire §2: the names of RFC 8414, `client_id` and `scopes`.
pub(super) async fn login(State(app): State<App>, headers: HeaderMap) -> Result<Response, Problem> {
    let none = || Problem::new(Code::NotFound, "no login is configured here; ask the operator for a token");
    let (login, metadata) = app.service.tokens.login().await?.ok_or_else(none)?;
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let page = metadata.authorization_endpoint.as_deref().filter(|_| accept.contains("text/html"));
    let mut response = match page {
        Some(page) => reply::located(StatusCode::FOUND.into_response(), page),
        None => {
            let mut document = json!({
                "issuer": login.issuer,
                "client_id": login.client_id,
                "scopes": scope::ALL,
            });
            for (name, endpoint) in [
                ("authorization_endpoint", &metadata.authorization_endpoint),
                ("token_endpoint", &metadata.token_endpoint),
                ("device_authorization_endpoint", &metadata.device_authorization_endpoint),
            ] {
                if let Some(endpoint) = endpoint {
                    document[name] = endpoint.as_str().into();
                }
            }
            reply::json(StatusCode::OK, &document)
        }
    };
    response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept"));
    Ok(response)
}

/// `GET /.well-known/oauth-protected-resource`.
pub(super) async fn resource(State(app): State<App>, Base(base): Base) -> Response {
    let scopes: Vec<_> = scope::ALL.iter().chain(app.settings.scopes).collect();
    // RFC 9728 §2: an authorization server is named by its https issuer; other names can't be looked up.
    let servers: Vec<_> = app.service.tokens.issuers().filter(|i| i.starts_with("https://")).collect();
    let mut document = json!({
        "resource": base,
        "scopes_supported": scopes,
        "bearer_methods_supported": ["header"],
    });
    if !servers.is_empty() {
        document["authorization_servers"] = servers.into();
    }
    reply::json(StatusCode::OK, &document)
}
