//! The transport from end to end on loopback: one behaviour a test, conditions awaited with a time limit.

mod hostile;
mod requests;
mod sessions;
mod tcp;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Path;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use axum::routing::{connect, get, put};
use axum::{Extension, Router};
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::client::H3Client;
use super::quic::QuicServerSettings;
use super::session::{Session, SessionSink};
use super::tls::{self, TlsKeys};
use super::upgrade::WebTransportUpgrade;
use super::{Limits, Owned, TransportInfo, h3, quic};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

/// Waits until `holds`.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

fn rustls_files(dir: &std::path::Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (cert, key)
}

/// What a sink heard.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Datagram(Bytes),
    Stream(Bytes),
    Closed,
}

/// A sink that tells all it hears.
struct Teller(mpsc::UnboundedSender<Heard>);

impl SessionSink for Teller {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        let _ = self.0.send(Heard::Datagram(payload));
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        let _ = self.0.send(Heard::Stream(body));
    }

    fn on_closed(&self, _: u64) {
        let _ = self.0.send(Heard::Closed);
    }
}

fn teller() -> (Arc<Teller>, mpsc::UnboundedReceiver<Heard>) {
    let (tell, heard) = mpsc::unbounded_channel();
    (Arc::new(Teller(tell)), heard)
}

/// The server's side of a session: says its name before everything that it sends back.
struct Echo {
    name: String,
    session: Session,
    closed: mpsc::UnboundedSender<(String, Session)>,
}

impl SessionSink for Echo {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        if payload == "close me" {
            return self.session.close(42, "as you wish");
        }
        self.session.send_datagram(&[self.name.as_bytes(), b":", &payload]);
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        self.session.send_stream(body, crate::clock::instant() + PATIENCE);
    }

    fn on_closed(&self, _: u64) {
        let _ = self.closed.send((self.name.clone(), self.session.clone()));
    }
}

async fn greet(mut socket: WebSocket) {
    let _ = socket.send(Message::text("hi there")).await;
}

fn router(closed: mpsc::UnboundedSender<(String, Session)>) -> Router {
    let hello = |headers: HeaderMap| async move { format!("hello {}", headers["host"].to_str().unwrap()) };
    let session = move |Path(name): Path<String>, upgrade: WebTransportUpgrade| async move {
        upgrade.on_upgrade(|session| Arc::new(Echo { name, session, closed }));
    };
    let idle =
        || async { Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>()) };
    let info = |Extension(info): Extension<TransportInfo>| async move { format!("{info:?}") };
    let trailers = || async {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "yes".parse().unwrap());
        let body = http_body_util::Full::new(Bytes::from("body"));
        Body::new(body.with_trailers(async move { Some(Ok(trailers)) })).into_response()
    };
    Router::new()
        .route("/hello", get(hello))
        .route("/info", get(info).put(info))
        .route("/idle", get(idle))
        .route("/trailers", get(trailers))
        .route("/large", get(|| async { vec![1; 8_000_000] }))
        .route("/echo", put(|body: Body| async { Response::new(body) }))
        .route("/session/{name}", connect(session))
        .route("/ws", get(|ws: WebSocketUpgrade| async { ws.on_upgrade(greet) }))
        .route("/deny", connect(|| async { (StatusCode::FORBIDDEN, "not you") }))
}

struct World {
    address: SocketAddr,
    client: quinn::Endpoint,
    shutdown: CancellationToken,
    closed: mpsc::UnboundedReceiver<(String, Session)>,
    limits: Arc<Limits>,
    server: Option<Owned>,
    keys: Arc<TlsKeys>,
    files: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let files = tempfile::tempdir().unwrap();
        let (cert, key) = rustls_files(files.path());
        let keys = TlsKeys::from_files(&cert, &key).unwrap();
        let settings = QuicServerSettings::new(tls::quic_server(keys.clone()).unwrap(), [7; 32]);
        let endpoint = settings.bind(&[(Ipv4Addr::LOCALHOST, 0).into()]).unwrap().remove(0);
        let address = endpoint.local_addr().unwrap();
        let roots = tls::roots(Some(&cert)).unwrap();
        let client = quic::client_endpoint(tls::quic_client(roots).unwrap(), address).unwrap();
        let limits = Arc::new(limits);
        let shutdown = CancellationToken::new();
        let (tell, closed) = mpsc::unbounded_channel();
        let serving = h3::serve_endpoint(endpoint, router(tell), limits.clone(), shutdown.clone());
        let server = Some(Owned::spawn(serving));
        Self { address, client, shutdown, closed, limits, server, keys, files }
    }

    async fn connect(&self) -> H3Client {
        self.connect_to(self.address).await
    }

    async fn connect_to(&self, address: SocketAddr) -> H3Client {
        soon(H3Client::connect(&self.client, address, "localhost", self.limits.clone())).await.unwrap()
    }
}

fn uri(path: &str) -> Uri {
    format!("https://localhost{path}").parse().unwrap()
}

async fn fetch(client: &H3Client, path: &str) -> (StatusCode, String) {
    let request = Request::get(uri(path)).body(Body::empty()).unwrap();
    let response = soon(client.request(request)).await.unwrap();
    let status = response.status();
    let body = soon(response.into_body().collect()).await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// A path between one client and the server that can be cut.
struct Wire {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    server: watch::Sender<SocketAddr>,
    _task: Owned,
}

impl Wire {
    async fn to(server: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, open) = (near.local_addr().unwrap(), Arc::new(AtomicBool::new(true)));
        let (server, target) = watch::channel(server);
        let passing = open.clone();
        let task = Owned::spawn(async move {
            let (mut out, mut back) = ([0; 2048], [0; 2048]);
            let mut client = None;
            loop {
                let passes = || passing.load(Ordering::Relaxed);
                tokio::select! {
                    Ok((len, from)) = near.recv_from(&mut out) => {
                        client = Some(from);
                        if passes() {
                            let server = *target.borrow();
                            let _ = far.send_to(&out[..len], server).await;
                        }
                    }
                    Ok((len, from)) = far.recv_from(&mut back) => {
                        if let Some(client) = client && passes() && from == *target.borrow() {
                            let _ = near.send_to(&back[..len], client).await;
                        }
                    }
                }
            }
        });
        Self { address, open, server, _task: task }
    }

    fn cut(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    fn lead_to(&mut self, server: SocketAddr) {
        self.server.send_replace(server);
    }

    fn mend(&self) {
        self.open.store(true, Ordering::Relaxed);
    }
}
