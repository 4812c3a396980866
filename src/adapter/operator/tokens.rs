//! An account's access token: bought when it is needed, and again ahead of its end or when it was refused.

use std::time::Duration;

use oauth2::basic::{BasicClient, BasicTokenType};
use oauth2::{ClientId, ClientSecret, HttpRequest, HttpResponse, Scope, TokenResponse as _, TokenUrl};
use tokio::sync::Mutex;

use super::http::{self, ApiError};
use super::settings::{Access, Secret};
use crate::clock;
use crate::protocol::time::Timestamp;

/// What is asked for: webrtc-registration.yaml, webrtc-call-handling.yaml and webrtc-events.yaml, openId.
const SCOPES: [&str; 11] = [
    "webrtc-registration:sessions:read",
    "webrtc-registration:sessions:create",
    "webrtc-registration:sessions:write",
    "webrtc-registration:sessions:delete",
    "webrtc-call-handling:sessions:create",
    "webrtc-call-handling:sessions:read",
    "webrtc-call-handling:sessions:write",
    "webrtc-call-handling:sessions:delete",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create",
];
/// The longest token.
const MAX_TOKEN: usize = 16 * 1024;

/// Where an account's tokens come from, and the one that is good now.
#[derive(Debug)]
pub(super) struct Tokens {
    access: Access,
    client: reqwest::Client,
    /// Whoever needs one waits for whoever buys it.
    held: Mutex<Option<Held>>,
}

#[derive(Clone, Debug)]
struct Held {
    token: Secret,
    /// When to buy the next one, and when this one ends.
    due: Option<(Timestamp, Timestamp)>,
}

impl Held {
    fn new(token: Secret, asked: Timestamp, life: Option<Duration>) -> Self {
        // Four fifths of its life leave time for second tries.
        Self { token, due: life.map(|life| (asked + life.mul_f64(0.8), asked + life)) }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|(due, _)| due <= now)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        self.due.is_some_and(|(_, end)| end <= now)
    }
}

impl Tokens {
    pub(super) fn new(access: Access, client: reqwest::Client) -> Self {
        Self { access, client, held: Mutex::default() }
    }

    /// One that is good now.
    pub(super) async fn get(&self) -> Result<Secret, ApiError> {
        let (token_url, id, secret) = match &self.access {
            Access::File(path) => {
                let failed = |why: String| ApiError::Token(format!("{}: {why}", path.display()));
                let text =
                    tokio::fs::read_to_string(path).await.map_err(|error| failed(error.to_string()))?;
                return match text.trim() {
                    "" => Err(failed("it is empty".to_owned())),
                    long if long.len() > MAX_TOKEN => Err(failed("it is too long for a token".to_owned())),
                    token => Ok(Secret::new(token)),
                };
            }
            Access::Client { token_url, id, secret } => (token_url, id, secret),
        };
        let mut held = self.held.lock().await;
        let now = clock::now();
        if let Some(held) = held.as_ref().filter(|held| !held.is_due(now)) {
            return Ok(held.token.clone());
        }
        match self.buy(token_url, id, secret).await {
            Ok(fresh) => Ok(held.insert(fresh).token.clone()),
            Err(error) => match held.as_ref().filter(|held| !held.is_over(now)) {
                Some(held) => {
                    tracing::debug!(%error, "an operator's token was not renewed; the old one goes on");
                    Ok(held.token.clone())
                }
                None => Err(error),
            },
        }
    }

    /// The operator would not have this one.
    pub(super) async fn refused(&self, token: &Secret) {
        self.held.lock().await.take_if(|held| held.token == *token);
    }

    async fn buy(&self, token_url: &str, id: &str, secret: &Secret) -> Result<Held, ApiError> {
        let failed = |why: String| ApiError::Token(why);
        let url = TokenUrl::new(token_url.to_owned()).map_err(|error| failed(error.to_string()))?;
        let oauth = BasicClient::new(ClientId::new(id.to_owned()))
            .set_client_secret(ClientSecret::new(secret.expose().to_owned()))
            .set_token_uri(url);
        let scopes = SCOPES.map(|scope| Scope::new(scope.to_owned()));
        let client = self.client.clone();
        let send = move |request: HttpRequest| exchange(client.clone(), request);
        let asked = clock::now();
        let answer = oauth.exchange_client_credentials().add_scopes(scopes).request_async(&send).await;
        let answer = answer.map_err(|error| match error {
            oauth2::RequestTokenError::ServerResponse(refusal) => failed(refusal.to_string()),
            oauth2::RequestTokenError::Request(error) => failed(error.to_string()),
            // What can't be read may hold a token.
            _ => failed("the token endpoint's answer can't be read".to_owned()),
        })?;
        if *answer.token_type() != BasicTokenType::Bearer {
            // RFC 6749 §7.1: a type that isn't understood must not be used.
            return Err(failed("the token endpoint's token_type isn't Bearer".to_owned()));
        }
        let token = answer.access_token().secret();
        if token.len() > MAX_TOKEN {
            return Err(failed("the token endpoint's token is too long".to_owned()));
        }
        Ok(Held::new(Secret::new(token), asked, answer.expires_in()))
    }
}

async fn exchange(client: reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let answer = client.execute(reqwest::Request::try_from(request)?).await?;
    let mut response = ::http::Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = answer.headers().clone();
    }
    let body = http::body(answer).await?;
    response.body(body).map_err(|error| ApiError::Away(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_ahead_of_its_end_where_that_is_known() {
        let at = Timestamp::from_millis;
        let held = Held::new(Secret::new("secret"), at(1_000), Some(Duration::from_secs(10)));
        assert!(!held.is_due(at(8_999)) && held.is_due(at(9_000)) && !held.is_over(at(10_999)));
        assert!(held.is_over(at(11_000)));
        let forever = Held::new(Secret::new("secret"), at(1_000), None);
        assert!(!forever.is_due(at(u64::MAX)) && !forever.is_over(at(u64::MAX)));
        assert!(!format!("{held:?}").contains("secret"));
    }
}
