//! A user of the loopback world: a token, and an HTTP/3 connection on which the wire is spoken plainly.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use ript::identity::canonical::Identity;
use ript::identity::jwk::SigningKey;
use ript::identity::passport::{Passport, Ppt};
use ript::identity::token::{Claims, issue};
use ript::protocol::event::EventReader;
use ript::transport::client::H3Client;
use ript::transport::{Limits, quic, tls};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::h1h2::{Tcp, Version};
use super::{AUDIENCE, ISSUER, World, soon};

pub const BOTH: &str = "1 in: opus; PCMU; PCMA; 1 out: opus; PCMU; PCMA;";

#[derive(Clone)]
pub struct User {
    pub token: String,
    pub number: String,
    pub client: H3Client,
    /// Where set, requests go over TCP instead.
    pub tcp: Option<Tcp>,
    pub base: String,
    endpoint: quinn::Endpoint,
    passports: String,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("no JSON ({e}): {:?}", self.body))
    }

    /// Status and code of a problem.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status.as_u16());
        (self.status.as_u16(), json["code"].as_str().unwrap_or_default().to_owned())
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().expect("text")).unwrap_or_default()
    }
}

pub fn token(key: &SigningKey, user: &str, numbers: &[&str], tgs: &[&str], scope: &str) -> String {
    let now = ript::clock::now();
    let text = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let claims = Claims {
        issuer: ISSUER.into(),
        subject: user.into(),
        audience: AUDIENCE.into(),
        client_id: "test".into(),
        numbers: text(numbers),
        tgs: text(tgs),
        scopes: scope.split(' ').map(str::to_owned).collect(),
        lifetime: Duration::from_secs(3600),
    };
    issue(key, &claims, now).expect("a token")
}

pub const ALL_SCOPES: &str = "ript:calls ript:handlers ript:certs ript:trunks";

impl World {
    pub async fn user(&self, name: &str, number: &str) -> User {
        let token = token(&self.issuer, name, &[number], &["test"], ALL_SCOPES);
        User::connect(self, token, number).await
    }

    /// Alice and Bob, each with a device.
    pub async fn pair(&self) -> (User, String, User, String) {
        let alice = self.user("alice", "+14085550001").await;
        let bob = self.user("bob", "+14085550002").await;
        let (a1, b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
        (alice, a1, bob, b1)
    }

    /// A user who speaks HTTP/1.1 or HTTP/2.
    pub async fn user_over(&self, version: Version, name: &str, number: &str) -> User {
        User { tcp: Some(Tcp::new(self, version)), ..self.user(name, number).await }
    }
}

impl User {
    pub async fn connect(world: &World, token: String, number: &str) -> Self {
        Self::at(&world.ca, world.address, world.passports.to_pem(), token, number).await
    }

    /// As `connect`, to a server that is another process.
    pub async fn at(ca: &Path, address: SocketAddr, passports: String, token: String, number: &str) -> Self {
        let roots = tls::roots(Some(ca)).expect("roots");
        let tls = tls::quic_client(roots).expect("TLS");
        let endpoint = quic::client_endpoint(tls, address).expect("an endpoint");
        let client = H3Client::connect(&endpoint, address, "127.0.0.1", Arc::new(Limits::default()))
            .await
            .expect("a connection");
        let (base, number) = (format!("https://127.0.0.1:{}", address.port()), number.to_owned());
        Self { token, number, client, tcp: None, base, endpoint, passports }
    }

    pub fn endpoint(&self) -> &quinn::Endpoint {
        &self.endpoint
    }

    pub fn uri(&self, path: &str) -> String {
        if path.starts_with("https://") {
            path.to_owned()
        } else if path.starts_with('/') {
            format!("{}{path}", self.base)
        } else {
            format!("{}/.well-known/ript/v1/{path}", self.base)
        }
    }

    pub fn builder(&self, method: &str, path: &str) -> http::request::Builder {
        let method: Method = method.parse().expect("a method");
        Request::builder()
            .method(method)
            .uri(self.uri(path))
            .header("authorization", format!("Bearer {}", self.token))
    }

    /// The same user with another token.
    pub fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// A request without a token.
    pub fn bare(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method.parse::<Method>().expect("a method")).uri(self.uri(path))
    }

    /// The head of the answer has come; its body may go on.
    pub async fn begin(&self, request: Request<Body>) -> Response<Body> {
        match &self.tcp {
            Some(tcp) => soon("an answer", tcp.request(request)).await,
            None => soon("an answer", self.client.request(request)).await.expect("an answer"),
        }
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.begin(request).await;
        let (parts, body) = response.into_parts();
        let body = soon("the answer's body", body.collect()).await.expect("a body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.builder("GET", path).body(Body::empty()).expect("a request")).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.builder("DELETE", path).body(Body::empty()).expect("a request")).await
    }

    pub async fn with_body(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let body: Bytes = body.into();
        let request = self.builder(method, path).header("content-length", body.len());
        self.send(request.body(Body::from(body)).expect("a request")).await
    }

    pub async fn post(&self, path: &str, json: &Value) -> Answer {
        self.with_body("POST", path, json.to_string()).await
    }

    /// Registers a device; its URI.
    pub async fn register(&self, id: &str, advertisement: &str) -> String {
        let body = json!({"handler-id": id, "advertisement": advertisement});
        let answer = self.post("providertgs/test/handlers", &body).await;
        assert!(answer.status.is_success(), "{answer:?}");
        answer.json()["uri"].as_str().expect("a uri").to_owned()
    }

    pub fn passport(&self, to: &str) -> String {
        self.passport_as(&self.number, to)
    }

    pub fn passport_as(&self, from: &str, to: &str) -> String {
        let key = SigningKey::from_pem(&self.passports).expect("a key");
        let orig = Identity::from_number(from).expect("a number");
        let dest = Identity::from_number(to).expect("a number");
        Passport::sign(&key, &orig, &dest, &Ppt::Base, ript::clock::now()).expect("a PASSporT")
    }

    /// Places a call; the answer.
    pub async fn try_call(&self, handler: &str, to: &str) -> Answer {
        let body = json!({"handler": handler, "destination": to, "passport": self.passport(to)});
        self.post("providertgs/test/calls", &body).await
    }

    /// Places a call that has to be taken; its description.
    pub async fn call(&self, handler: &str, to: &str) -> Value {
        let answer = self.try_call(handler, to).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    /// The user's live calls' URIs.
    pub async fn calls(&self) -> Vec<String> {
        let list = self.get("providertgs/test/calls").await.json();
        let uri = |c: &Value| c["uri"].as_str().expect("a uri").to_owned();
        list["calls"].as_array().expect("a list").iter().map(uri).collect()
    }

    pub async fn claim(&self, call: &str, handler: &str, intent: Option<&str>) -> Answer {
        let mut body = json!({"handler": handler});
        if let Some(intent) = intent {
            body["intent"] = intent.into();
        }
        self.post(call, &body).await
    }

    /// Sends one event by a finite `PUT`.
    pub async fn event(&self, call: &str, handler: &str, event: Value) -> Answer {
        let mut event = event;
        event["handler"] = handler.into();
        self.with_body("PUT", &format!("{call}/events"), event.to_string()).await
    }

    /// Opens a reverse byway.
    pub async fn events(&self, call: &str, handler: &str, after: Option<u64>) -> EventStream {
        let after = after.map(|n| format!("&after={n}")).unwrap_or_default();
        self.stream(&format!("{call}/events?handler={}{after}", encode(handler))).await
    }

    pub async fn stream(&self, path: &str) -> EventStream {
        let request = self.builder("GET", path).header("accept", "application/x-ndjson");
        let request = request.body(Body::empty()).expect("a request");
        let response = self.begin(request).await;
        assert_eq!(response.status(), 200);
        EventStream::new(response.into_body())
    }

    /// A call from here to `other`, answered there; both descriptions' URIs.
    pub async fn answered(&self, own: &str, other: &User, theirs: &str) -> (String, String) {
        let call = self.call(own, &other.number).await;
        let mine = call["uri"].as_str().expect("a uri").to_owned();
        let list = other.get("providertgs/test/calls").await.json();
        let ringing = list["calls"].as_array().expect("a list").iter().find(|c| c["state"] != "answered");
        let incoming = ringing.and_then(|c| c["uri"].as_str()).expect("a ringing call").to_owned();
        let claimed = other.claim(&incoming, theirs, Some("answer")).await;
        assert_eq!(claimed.status, 200, "{claimed:?}");
        let answered = other.event(&incoming, theirs, json!({"event": "answered"})).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        (mine, incoming)
    }
}

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl User {
    /// Opens an open-ended `PUT` of events; its headers have come.
    pub async fn open_put(&self, call: &str, handler: Option<&str>) -> OpenPut {
        let query = handler.map(|h| format!("?handler={}", encode(h))).unwrap_or_default();
        let (events, receiver) = mpsc::channel::<Bytes>(16);
        let body = stream::unfold(receiver, |mut events| async move {
            events.recv().await.map(|event| (Ok::<_, std::convert::Infallible>(event), events))
        });
        let request = self.builder("PUT", &format!("{call}/events{query}")).header("incremental", "?1");
        let response = self.begin(request.body(Body::from_stream(body)).expect("a request")).await;
        let (head, body) = response.into_parts();
        OpenPut { status: head.status, headers: head.headers, events, body }
    }

    /// Proof that a call lives, whatever else came in: a digit goes through.
    pub async fn digit_reaches(&self, call: &str, handler: &str, other: &mut EventStream, digit: &str) {
        let sent = self.event(call, handler, json!({"event": "dtmf", "digit": digit})).await;
        assert_eq!(sent.status, 200, "{sent:?}");
        while other.until("dtmf").await["digit"] != digit {}
    }
}

/// An open-ended `PUT` of events.
pub struct OpenPut {
    pub status: StatusCode,
    pub headers: HeaderMap,
    events: mpsc::Sender<Bytes>,
    body: Body,
}

impl OpenPut {
    pub async fn say(&self, event: &Value) {
        self.raw(event.to_string()).await;
    }

    pub async fn raw(&self, bytes: impl Into<Bytes>) {
        self.events.send(bytes.into()).await.expect("the server still reads");
    }

    /// Ends the request; the answer.
    pub async fn finish(self) -> Value {
        drop(self.events);
        let body = soon("the answer to an open PUT", self.body.collect()).await.expect("a body");
        serde_json::from_slice(&body.to_bytes()).expect("JSON")
    }

    /// The answer, when the server ends the request.
    pub async fn ended(self) -> Value {
        let body = soon("the answer to an open PUT", self.body.collect()).await.expect("a body");
        serde_json::from_slice(&body.to_bytes()).expect("JSON")
    }
}

/// An open reverse byway or push channel.
pub struct EventStream {
    body: axum::body::BodyDataStream,
    reader: EventReader,
}

impl EventStream {
    pub fn new(body: Body) -> Self {
        Self { body: body.into_data_stream(), reader: EventReader::default() }
    }

    /// All that is still to come, until the end.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }

    /// The next object; none at the end.
    pub async fn next(&mut self) -> Option<Value> {
        soon("an event", self.next_ever()).await
    }

    /// As `next`, however long it takes.
    pub async fn next_ever(&mut self) -> Option<Value> {
        loop {
            if let Some(json) = self.reader.next_json().expect("readable events") {
                return Some(json);
            }
            match self.body.next().await {
                Some(Ok(data)) => self.reader.push(&data),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The next event of that type; those before it are passed over.
    pub async fn until(&mut self, kind: &str) -> Value {
        loop {
            match self.next().await {
                Some(event) if event["event"] == kind => return event,
                Some(_) => {}
                None => panic!("the stream ended before `{kind}`"),
            }
        }
    }
}
