//! One typed call for every resource of wire §2 that a thick client uses.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::uri::{below, with_query};
use super::{Client, ClientError};
use crate::clock;
use crate::protocol::resource::{
    CallDescription, CallEntry, CallList, CallRequest, Claim, ConsumerTg, ConsumerTgList, HandlerDescription,
    HandlerList, Intent, ROOT, TgDescription, TgEntry, TgList,
};

/// How long an answer may take in all, waits for a connection and second tries included.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How long one try may take before the connection is looked at.
const TRY: Duration = Duration::from_secs(3);
/// The longest document that is read.
const MAX_BODY: usize = 1 << 20;

/// A request, ready to be sent as often as needed.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) uri: String,
    pub(super) body: Bytes,
    pub(super) headers: HeaderMap,
    /// Sent again if the connection breaks: it does no harm twice.
    pub(super) again: bool,
    pub(super) patience: Duration,
}

impl Ask {
    pub(super) fn new(method: Method, uri: impl Into<String>) -> Self {
        let again = method == Method::GET || method == Method::HEAD;
        let headers = HeaderMap::new();
        Self { method, uri: uri.into(), body: Bytes::new(), headers, again, patience: PATIENCE }
    }

    pub(super) fn again(mut self) -> Self {
        self.again = true;
        self
    }

    pub(super) fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub(super) fn json(mut self, document: &impl Serialize) -> Result<Self, ClientError> {
        let json = serde_json::to_vec(document).map_err(|error| ClientError::input("request", error))?;
        self.body = json.into();
        Ok(self.header(header::CONTENT_TYPE, "application/json"))
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    fn request(&self, client: &Client) -> Result<Request<Body>, ClientError> {
        let length = (!self.body.is_empty() || self.method == Method::PUT || self.method == Method::POST)
            .then_some(self.body.len());
        let body = if self.body.is_empty() { Body::empty() } else { Body::from(self.body.clone()) };
        let mut request = client.request(self.method.clone(), &self.uri, body)?;
        request.headers_mut().extend(self.headers.clone());
        if let Some(length) = length {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        Ok(request)
    }
}

impl Client {
    /// A request with our authorization, for the present connection.
    pub(super) fn request(
        &self,
        method: Method,
        uri: &str,
        body: Body,
    ) -> Result<Request<Body>, ClientError> {
        let mut request = Request::builder().method(method).uri(self.resolve(uri)?);
        if let Some(bearer) = self.bearer() {
            request = request.header(header::AUTHORIZATION, bearer);
        }
        if let Some(via) = &self.0.via {
            request = request.header(header::VIA, via);
        }
        request.body(body).map_err(|error| ClientError::input("request", error))
    }

    /// Sends a request, if it may be over one broken connection after another, until its patience ends.
    pub(super) async fn send(&self, ask: &Ask) -> Result<Response<Body>, ClientError> {
        let deadline = clock::instant() + ask.patience;
        let left = || deadline.saturating_duration_since(clock::instant());
        let what = || format!("{} {}", ask.method, super::uri::path_of(&ask.uri));
        let mut pause = Duration::from_millis(100);
        let mut renewed = false;
        loop {
            let connected = self.0.link.current(left()).await?;
            let request = ask.request(self)?;
            let authorization = request.headers().get(header::AUTHORIZATION).cloned();
            let patience = if ask.again { TRY.min(left()) } else { left() };
            let mut link = self.watch();
            let sent = tokio::select! {
                sent = tokio::time::timeout(patience, connected.h3.request(request)) => sent,
                // The old connection may take its time to fail.
                () = link.beyond(connected.generation), if ask.again => continue,
            };
            let error = match sent {
                // findings §3: any 502 and 503 means that another try may meet a better server.
                Ok(Ok(response)) if ask.again && busy(&response) && left() > pause * 2 => {
                    let after = retry_after(response.headers()).unwrap_or(pause).min(left());
                    tokio::time::sleep(after).await;
                    pause *= 2;
                    continue;
                }
                // RFC 6750 §3.1: a refused request did nothing, and may be sent again with another token.
                Ok(Ok(response)) if response.status() == StatusCode::UNAUTHORIZED && !renewed => {
                    renewed = true;
                    if self.renew_token(authorization.as_ref(), left()).await {
                        continue;
                    }
                    return Ok(response);
                }
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(error)) => {
                    let rejected = error.is_safe_to_retry();
                    if rejected {
                        self.0.link.renew(connected.generation);
                    }
                    if !ask.again && !rejected {
                        return Err(ClientError::Lost(error.to_string()));
                    }
                    ClientError::Lost(error.to_string())
                }
                Err(_) => {
                    self.0.link.suspect(connected.generation);
                    let error = ClientError::Timeout { what: what(), after: patience };
                    if !ask.again {
                        return Err(error);
                    }
                    error
                }
            };
            if left() <= pause {
                return Err(error);
            }
            tokio::select! {
                () = link.beyond(connected.generation) => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause *= 2;
        }
    }

    /// The whole of an answer that says yes.
    pub(super) async fn answer(&self, ask: &Ask) -> Result<(HeaderMap, Bytes), ClientError> {
        let started = clock::instant();
        let response = self.send(ask).await?;
        let (parts, body) = response.into_parts();
        let left = (started + ask.patience).saturating_duration_since(clock::instant());
        let body = match tokio::time::timeout(left, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => return Err(ClientError::Lost(error.to_string())),
            Err(_) => return Err(ClientError::Timeout { what: ask.uri.clone(), after: ask.patience }),
        };
        if parts.status.is_success() {
            Ok((parts.headers, body))
        } else if let (StatusCode::UNAUTHORIZED, Some(ended)) = (parts.status, self.login_ended()) {
            Err(ended.into())
        } else {
            Err(ClientError::from_answer(parts.status, &parts.headers, &body))
        }
    }

    async fn document<T: DeserializeOwned>(&self, ask: Ask) -> Result<(HeaderMap, T), ClientError> {
        let (headers, body) = self.answer(&ask).await?;
        let document = serde_json::from_slice(&body).map_err(|error| {
            ClientError::Protocol(format!("{} isn't what it should be: {error}", ask.uri))
        })?;
        Ok((headers, document))
    }

    /// The TGs that our token may use.
    pub async fn tgs(&self) -> Result<Vec<TgEntry>, ClientError> {
        let ask = Ask::new(Method::GET, format!("{ROOT}/providertgs"));
        Ok(self.document::<TgList>(ask).await?.1.tgs)
    }

    /// What a TG allows.
    pub async fn tg(&self, uri: &str) -> Result<TgDescription, ClientError> {
        Ok(self.tg_for(uri, PATIENCE).await?.0)
    }

    /// The same, and how long it may be kept.
    pub(super) async fn tg_for(
        &self,
        uri: &str,
        patience: Duration,
    ) -> Result<(TgDescription, Duration), ClientError> {
        let ask = Ask::new(Method::GET, uri).patience(patience);
        let (headers, tg): (_, TgDescription) = self.document(ask).await?;
        self.0.link.set_backoff(Duration::from_millis(tg.retry_backoff));
        Ok((tg, max_age(&headers)))
    }

    /// Registers a device on a TG; the same `handler-id` again answers the one that is there.
    pub async fn post_handler(
        &self,
        tg: &str,
        handler: &HandlerDescription,
    ) -> Result<HandlerDescription, ClientError> {
        let ask = Ask::new(Method::POST, below(tg, "/handlers")).again().json(handler)?;
        Ok(self.document(ask).await?.1)
    }

    /// Changes a device.
    pub async fn put_handler(
        &self,
        uri: &str,
        handler: &HandlerDescription,
    ) -> Result<HandlerDescription, ClientError> {
        Ok(self.document(Ask::new(Method::PUT, uri).again().json(handler)?).await?.1)
    }

    /// Our devices on a TG.
    pub async fn handlers(&self, tg: &str) -> Result<Vec<HandlerDescription>, ClientError> {
        Ok(self.document::<HandlerList>(Ask::new(Method::GET, below(tg, "/handlers"))).await?.1.handlers)
    }

    /// Forgets a device.
    pub async fn delete_handler(&self, uri: &str) -> Result<(), ClientError> {
        let patience = Duration::from_secs(2);
        self.answer(&Ask::new(Method::DELETE, uri).patience(patience)).await.map(drop)
    }

    /// Our live calls on a TG.
    pub async fn calls(&self, tg: &str) -> Result<Vec<CallEntry>, ClientError> {
        Ok(self.document::<CallList>(Ask::new(Method::GET, below(tg, "/calls"))).await?.1.calls)
    }

    /// Places a call; `key` makes sure that it is placed once, however often this is sent.
    pub async fn post_call(
        &self,
        tg: &str,
        call: &CallRequest,
        key: &str,
    ) -> Result<CallDescription, ClientError> {
        let name = HeaderName::from_static("idempotency-key");
        let ask = Ask::new(Method::POST, below(tg, "/calls")).again().json(call)?.header(name, key);
        let (headers, document): (_, Value) = self.document(ask).await?;
        if let Ok(description) = serde_json::from_value::<CallDescription>(document.clone()) {
            return Ok(description);
        }
        // A sparse answer still names the call: the rest is read from there.
        let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let uri = location.or_else(|| document.get("uri").and_then(Value::as_str));
        let uri = uri.ok_or_else(|| ClientError::Protocol("a 201 without Location and uri".into()))?;
        self.call(uri, call.handler.as_deref()).await
    }

    /// How a call stands, with a fresh ticket for its media.
    pub async fn call(&self, uri: &str, handler: Option<&str>) -> Result<CallDescription, ClientError> {
        Ok(self.document(Ask::new(Method::GET, with_handler(uri, handler))).await?.1)
    }

    /// Takes a call onto a device.
    pub async fn claim(
        &self,
        uri: &str,
        handler: &str,
        intent: Option<Intent>,
    ) -> Result<CallDescription, ClientError> {
        let claim = Claim { handler: handler.to_owned(), intent, tap: false };
        Ok(self.document(Ask::new(Method::POST, uri).again().json(&claim)?).await?.1)
    }

    /// Asks another device of the same user to take the call.
    pub async fn tap(&self, uri: &str, handler: &str) -> Result<CallDescription, ClientError> {
        let claim = Claim { handler: handler.to_owned(), intent: None, tap: true };
        Ok(self.document(Ask::new(Method::POST, uri).json(&claim)?).await?.1)
    }

    /// Registers our own TG with the server: calls to our numbers go there from now on.
    pub async fn post_consumer(&self, tg: &str, own: &ConsumerTg) -> Result<ConsumerTg, ClientError> {
        let ask = Ask::new(Method::POST, below(tg, "/consumertgs")).again().json(own)?;
        Ok(self.document(ask).await?.1)
    }

    /// Our registrations.
    pub async fn consumers(&self) -> Result<Vec<ConsumerTg>, ClientError> {
        let ask = Ask::new(Method::GET, format!("{ROOT}/consumertgs"));
        Ok(self.document::<ConsumerTgList>(ask).await?.1.tgs)
    }

    /// Ends a registration; live calls go on.
    pub async fn delete_consumer(&self, uri: &str) -> Result<(), ClientError> {
        self.answer(&Ask::new(Method::DELETE, uri)).await.map(drop)
    }

    /// The chain that a certificate request in DER is answered with, as PEM.
    pub async fn post_csr(&self, tg: &str, csr: Vec<u8>) -> Result<Bytes, ClientError> {
        let mut ask = Ask::new(Method::POST, below(tg, "/certs")).again();
        ask.body = csr.into();
        Ok(self.answer(&ask.header(header::CONTENT_TYPE, "application/pkcs10")).await?.1)
    }

    /// Tells one event by a finite `PUT`; the newest `seq` that the server took.
    pub async fn put_event(
        &self,
        uri: &str,
        handler: &str,
        event: &Value,
    ) -> Result<Option<u64>, ClientError> {
        let uri = with_handler(&below(uri, "/events"), Some(handler));
        let (_, answer): (_, Value) = self.document(Ask::new(Method::PUT, uri).again().json(event)?).await?;
        Ok(answer.get("accepted").and_then(Value::as_u64))
    }
}

/// The URI as this device asks for it.
pub(super) fn with_handler(uri: &str, handler: Option<&str>) -> String {
    handler.map_or_else(|| uri.to_owned(), |handler| with_query(uri, "handler", handler))
}

/// Whether another try may meet a better server. A RIPT server that says itself that a network behind it failed is not one of those.
fn busy<B>(response: &Response<B>) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    match response.status() {
        StatusCode::BAD_GATEWAY => !kind.is_some_and(|kind| kind.starts_with("application/problem+json")),
        StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::TOO_EARLY => true,
        _ => false,
    }
}

/// RFC 9111 §5.2.2: how long an answer may be kept; not at all, where nothing is said.
fn max_age(headers: &HeaderMap) -> Duration {
    let value = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let words = || value.split(',').map(|word| word.trim().to_ascii_lowercase());
    if words().any(|word| word == "no-store" || word == "no-cache") {
        return Duration::ZERO;
    }
    let seconds = words().find_map(|word| word.strip_prefix("max-age=")?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What is left until `deadline`.
pub(super) fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(clock::instant())
}
