//! An operator's events over its WebSocket, CloudEvents as text frames: an extension of `webrtc-events` that this server
//! speaks on both sides. Webhooks are not listened for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, header};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use uuid::Uuid;

use super::account::Account;
use super::api::Registration;
use super::http::{ApiError, MAX_BODY, PATIENCE};
use super::{api, arriving, backoff};
use crate::clock;
use crate::service::lock;

/// After this long without a word a ping is sent, and after twice as long the socket is given up.
const SILENCE: Duration = Duration::from_secs(45);
/// A socket that lived this long was a good one.
const GOOD: Duration = Duration::from_secs(10);
/// Pause where the operator has no such channel, or another device has it.
const LONG: Duration = Duration::from_secs(60);
/// `adapter::camara::channels`: a newer socket has the channel.
const REPLACED: u16 = 4000;
/// The token has ended.
const TOKEN: u16 = 4001;

type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// Listens, and listens again, until it is aborted.
pub(super) async fn listen(account: Arc<Account>) {
    let (mut newest, mut failures, mut heard_before) = (None, 0, false);
    loop {
        let mut registered = account.registered.subscribe();
        let Ok(registration) = registered.wait_for(Option::is_some).await.map(|now| *now) else { return };
        let begun = clock::instant();
        let wait = match open(&account, newest).await {
            Ok(socket) => {
                account.listening.send_replace(true);
                if std::mem::replace(&mut heard_before, true) {
                    // Events may be older than what the operator keeps.
                    lock(&account.book).look();
                }
                let other = |now: &Option<Registration>| {
                    now.is_some_and(|now| registration.is_none_or(|before| before.id != now.id))
                };
                let closed = tokio::select! {
                    closed = hear(&account, socket, &mut newest) => closed,
                    // Who forgot the registration may have forgotten the channel, and its events.
                    _ = registered.wait_for(other) => None,
                };
                account.listening.send_replace(false);
                failures =
                    if clock::instant().duration_since(begun) < GOOD { (failures + 1).min(32) } else { 0 };
                tracing::debug!(?closed, "an operator's channel is closed");
                if closed == Some(REPLACED) {
                    tracing::warn!("another server uses this account's device-id; give each its own");
                    LONG
                } else {
                    backoff::pause(failures)
                }
            }
            Err(error) => {
                failures = (failures + 1).min(32);
                tracing::warn!(%error, "an operator's events are not heard");
                match error.status() {
                    // No such device, it says: perhaps the registration has ended.
                    Some(403 | 404) => {
                        account.again.notify_one();
                        backoff::pause(failures)
                    }
                    Some(405 | 426 | 501) => LONG,
                    _ => backoff::pause(failures).max(error.after().unwrap_or_default()),
                }
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn open(account: &Account, after: Option<Uuid>) -> Result<Socket, ApiError> {
    let token = account.api.tokens.get().await?;
    let away = |error: &dyn std::fmt::Display| ApiError::Away(error.to_string());
    let mut request =
        account.api.channel(account.device, after).into_client_request().map_err(|error| away(&error))?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()))
        .map_err(|_| ApiError::Token("it has characters that no header may have".to_owned()))?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let host = request.uri().host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = request.uri().port_u16().unwrap_or(443);
    let name = ServerName::try_from(host.clone()).map_err(|error| away(&error))?;
    let connecting = async {
        let stream = TcpStream::connect((host, port)).await.map_err(|error| away(&error))?;
        // Events are small and urgent.
        let _ = stream.set_nodelay(true);
        let tls = TlsConnector::from(account.api.tls.clone());
        let stream = tls.connect(name, stream).await.map_err(|error| away(&error))?;
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MAX_BODY);
        config.max_frame_size = Some(MAX_BODY);
        match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => {
                let message = "the operator opens no WebSocket for events here".to_owned();
                let status = answer.status().as_u16();
                Err(ApiError::Refused { status, code: String::new(), message, after: None })
            }
            Err(error) => Err(away(&error)),
        }
    };
    let opened = timeout(PATIENCE, connecting).await.unwrap_or_else(|_| Err(away(&"no answer in time")));
    if let Err(error) = &opened
        && error.status() == Some(401)
    {
        account.api.tokens.refused(&token).await;
    }
    opened
}

/// Hears until the socket is over; the code of its close.
async fn hear(account: &Arc<Account>, mut socket: Socket, newest: &mut Option<Uuid>) -> Option<u16> {
    let mut quiet = false;
    loop {
        let message = match timeout(SILENCE, socket.next()).await {
            Ok(Some(Ok(message))) => message,
            Ok(_) => return None,
            Err(_) if quiet => return None,
            Err(_) => {
                quiet = true;
                if socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                    return None;
                }
                continue;
            }
        };
        quiet = false;
        match message {
            Message::Text(text) => {
                if let Some(id) = heard(account, &text) {
                    *newest = Some(id);
                }
            }
            Message::Close(frame) => {
                let code = frame.map(|frame| u16::from(frame.code));
                if code == Some(TOKEN) {
                    let token = account.api.tokens.get().await.ok()?;
                    account.api.tokens.refused(&token).await;
                }
                return code;
            }
            // A ping is answered while the next message is waited for.
            _ => {}
        }
    }
}

/// One CloudEvent; its id.
fn heard(account: &Arc<Account>, text: &str) -> Option<Uuid> {
    let event: Value = serde_json::from_str(text).ok()?;
    let (kind, data) = (event["type"].as_str().unwrap_or_default(), &event["data"]);
    // The version in the middle may change.
    match kind.rsplit('.').next().unwrap_or_default() {
        "session-invitation" => {
            if let Some(told) = api::told(data) {
                arriving::invited(account, told);
            }
        }
        "session-status" => {
            if let Some(told) = api::told(data) {
                lock(&account.book).hear(told);
            }
        }
        "registration-ends" => {
            let ended = data["registrationId"].as_str().and_then(|id| Uuid::parse_str(id).ok());
            // What has ended may be an older one.
            account.registered.send_if_modified(|current| {
                current.take_if(|current| Some(current.id) == ended).is_some_and(|_| {
                    account.again.notify_one();
                    true
                })
            });
        }
        _ => tracing::debug!("an operator's event is of no known type"),
    }
    event["id"].as_str().and_then(|id| Uuid::parse_str(id).ok())
}
