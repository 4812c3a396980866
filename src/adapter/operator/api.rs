//! An operator's CAMARA APIs as this server asks them.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, header};
use rustls::ClientConfig;
use serde_json::{Value, json};
use uuid::Uuid;

use super::http::{self, ApiError};
use super::settings::{AccountSettings, Secret};
use super::tokens::Tokens;
use crate::adapter::mapping::Status;
use crate::protocol::time::Timestamp;

const REGISTRATIONS: &str = "/webrtc-registration/v0.3/sessions";
const SESSIONS: &str = "/webrtc-call-handling/v0.3/sessions";
/// The longest piece of an operator's message that is passed on.
const MAX_MESSAGE: usize = 512;
/// Nobody is waited for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// A registration, as the operator tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) id: Uuid,
    pub(super) expires: Timestamp,
}

/// webrtc-registration.yaml, RegSessionResponse
fn registration(value: &Value) -> Result<Registration, ApiError> {
    let id = value["registrationId"].as_str().and_then(|text| Uuid::parse_str(text).ok());
    let expires = value["expiresAt"].as_str().and_then(Timestamp::parse);
    match (id, expires) {
        (Some(id), Some(expires)) => Ok(Registration { id, expires }),
        _ => Err(ApiError::Away("the registration in its answer has no registrationId or expiresAt".into())),
    }
}

/// A media session, as an answer or an event tells it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Told {
    pub(super) session: Uuid,
    pub(super) status: Status,
    pub(super) offer: Option<String>,
    pub(super) answer: Option<String>,
    pub(super) reason: Option<String>,
    /// Events of a session are counted.
    pub(super) sequence: Option<u32>,
    pub(super) originator: Option<String>,
}

/// webrtc-call-handling.yaml, MediaSessionResponse; webrtc-events.yaml, MediaSession
pub(super) fn told(value: &Value) -> Option<Told> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    let sdp = |name: &str| value[name]["sdp"].as_str().filter(|sdp| !sdp.is_empty()).map(str::to_owned);
    Some(Told {
        session: Uuid::parse_str(value["mediaSessionId"].as_str()?).ok()?,
        status: value["status"].as_str()?.parse().ok()?,
        offer: sdp("offer"),
        answer: sdp("answer"),
        reason: text("reason"),
        sequence: value["sequenceNumber"].as_u64().and_then(|n| u32::try_from(n).ok()),
        originator: text("originatorAddress"),
    })
}

fn session(value: &Value) -> Result<Told, ApiError> {
    told(value).ok_or_else(|| ApiError::Away("the session in its answer can't be read".to_owned()))
}

/// The APIs.
#[derive(Debug)]
pub(super) struct Api {
    base: String,
    client: reqwest::Client,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) tokens: Tokens,
}

impl Api {
    pub(super) fn new(account: &AccountSettings) -> Result<Self, String> {
        let tls = http::tls(&account.roots)?;
        let client = http::client(tls.clone())?;
        Ok(Self {
            base: account.url.trim_end_matches('/').to_owned(),
            tokens: Tokens::new(account.access.clone(), client.clone()),
            client,
            tls: Arc::new(tls),
        })
    }

    /// webrtc-registration.yaml, createRegistration; one that is there already is taken up again.
    pub(super) async fn register(&self, device: Uuid) -> Result<Registration, ApiError> {
        let wanted = json!({"deviceId": device.to_string()});
        match self.ask(Method::POST, REGISTRATIONS, None, Some(&wanted)).await {
            Ok(answer) => registration(&answer),
            Err(error) if error.status() == Some(409) => {
                let list = format!("{REGISTRATIONS}?deviceId={device}");
                let all = self.ask(Method::GET, &list, None, None).await?;
                let first = all.as_array().and_then(|all| all.first()).ok_or(error)?;
                self.refresh(registration(first)?.id).await
            }
            Err(error) => Err(error),
        }
    }

    /// webrtc-registration.yaml, updateRegistrationById
    pub(super) async fn refresh(&self, id: Uuid) -> Result<Registration, ApiError> {
        registration(&self.ask(Method::PUT, &format!("{REGISTRATIONS}/{id}"), None, Some(&json!({}))).await?)
    }

    /// webrtc-call-handling.yaml, createSession
    pub(super) async fn create(
        &self,
        registration: Uuid,
        from: &str,
        to: &str,
        offer: &str,
    ) -> Result<Told, ApiError> {
        let wanted = json!({"originatorAddress": from, "receiverAddress": to, "offer": {"sdp": offer}});
        session(&self.ask(Method::POST, SESSIONS, Some(registration), Some(&wanted)).await?)
    }

    /// webrtc-call-handling.yaml, getSessionDetailsById
    pub(super) async fn get(&self, id: Uuid) -> Result<Told, ApiError> {
        session(&self.ask(Method::GET, &format!("{SESSIONS}/{id}"), None, None).await?)
    }

    /// webrtc-call-handling.yaml, updateSessionStatus
    pub(super) async fn put(&self, id: Uuid, status: Status, sdp: Sdp<'_>) -> Result<Told, ApiError> {
        let mut wanted = json!({"status": status.as_str()});
        match sdp {
            Sdp::None => {}
            Sdp::Offer(sdp) => wanted["offer"] = json!({"sdp": sdp}),
            Sdp::Answer(sdp) => wanted["answer"] = json!({"sdp": sdp}),
        }
        session(&self.ask(Method::PUT, &format!("{SESSIONS}/{id}/status"), None, Some(&wanted)).await?)
    }

    /// webrtc-call-handling.yaml, deleteSessionById
    pub(super) async fn delete(&self, id: Uuid) -> Result<(), ApiError> {
        self.ask(Method::DELETE, &format!("{SESSIONS}/{id}"), None, None).await.map(drop)
    }

    /// Where an account's events are told over a WebSocket.
    pub(super) fn channel(&self, device: Uuid, after: Option<Uuid>) -> String {
        let base = self.base.strip_prefix("https://").unwrap_or(&self.base);
        let after = after.map(|id| format!("?after={id}")).unwrap_or_default();
        format!("wss://{base}/webrtc-events/v0.3/channels/{device}{after}")
    }

    /// One request; once more with another token if this one is refused.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        registration: Option<Uuid>,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let token = self.tokens.get().await?;
        match self.ask_with(&token, method.clone(), path, registration, body).await {
            Err(error) if error.status() == Some(401) => {
                self.tokens.refused(&token).await;
                let other = self.tokens.get().await?;
                if other == token {
                    return Err(error);
                }
                self.ask_with(&other, method, path, registration, body).await
            }
            done => done,
        }
    }

    async fn ask_with(
        &self,
        token: &Secret,
        method: Method,
        path: &str,
        registration: Option<Uuid>,
        body: Option<&Value>,
    ) -> Result<Value, ApiError> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        request = request
            .bearer_auth(token.expose())
            .header(header::ACCEPT, "application/json")
            .header("x-correlator", Uuid::new_v4().to_string());
        if let Some(registration) = registration {
            request = request.header("registrationId", registration.to_string());
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = request.send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = http::body(answer).await?;
        let value = serde_json::from_slice::<Value>(&body);
        if status.is_success() {
            return match value {
                Ok(value) => Ok(value),
                Err(_) if body.is_empty() => Ok(Value::Null),
                Err(_) => Err(ApiError::Away("its answer is no JSON".to_owned())),
            };
        }
        let value = value.unwrap_or_default();
        let text = |name: &str| value[name].as_str().unwrap_or_default().chars().take(MAX_MESSAGE).collect();
        let after =
            headers.get(header::RETRY_AFTER).and_then(|after| after.to_str().ok()?.trim().parse().ok());
        let after = after.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
        Err(ApiError::Refused {
            status: status.as_u16(),
            code: text("code"),
            message: text("message"),
            after,
        })
    }
}

/// A description that goes with a status.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sdp<'a> {
    None,
    Offer(&'a str),
    Answer(&'a str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_with_what_it_has() {
        let value = json!({
            "mediaSessionId": "00000000-0000-0000-0000-000000000007", "status": "Ringing",
            "offer": {}, "answer": {"sdp": "v=0"}, "sequenceNumber": 3, "originatorAddress": "tel:+14085550001",
        });
        let told = told(&value).unwrap();
        assert_eq!((told.session, told.status), (Uuid::from_u128(7), Status::Ringing));
        assert_eq!((told.offer, told.answer.as_deref(), told.sequence), (None, Some("v=0"), Some(3)));
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_operator_says_is_read_or_refused(text in ".{0,200}", status in "[A-Z][a-z]{0,10}") {
            let value = serde_json::from_str(&text).unwrap_or_default();
            let odd = json!({"mediaSessionId": text, "status": status, "offer": text, "sequenceNumber": -1});
            for value in [value, odd] {
                let _ = (told(&value), registration(&value));
            }
        }
    }
}
