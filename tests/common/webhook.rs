//! A webhook: a real HTTPS server on loopback that answers as it is told and keeps what it was sent.
//! The library's own tests include this file too, so it names nothing of the crate.

#![allow(dead_code, reason = "neither uses all of it")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

/// How long something is waited for that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was sent.
#[derive(Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub event: Value,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// The event's type without its prefix.
    pub fn kind(&self) -> &str {
        self.event["type"].as_str().expect("a type").rsplit('.').next().expect("a name")
    }

    pub fn reason(&self) -> &str {
        self.event["data"]["terminationReason"].as_str().expect("a reason")
    }
}

/// One answer: a status and perhaps a header; status 0 is none ever.
type Answer = (u16, Option<(&'static str, String)>);

#[derive(Default)]
struct Shared {
    /// The answers that come before `rest`.
    answers: Mutex<VecDeque<Answer>>,
    rest: Mutex<Option<Answer>>,
    connections: AtomicUsize,
}

pub struct Webhook {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    seen: mpsc::UnboundedReceiver<Seen>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Webhook {
    /// With a certificate and its key; it answers 204 where nothing else is said.
    pub async fn start(certificate: &str, key: &str) -> Self {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate and its key");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let (sink, seen) = mpsc::unbounded_channel();
        let task = tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), shared.clone(), sink));
        Self { address, shared, seen, task }
    }

    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/hook?secret=s", self.address.port())
    }

    /// The next answers.
    pub fn answer(&self, answers: impl IntoIterator<Item = u16>) {
        lock(&self.shared.answers).extend(answers.into_iter().map(|status| (status, None)));
    }

    pub fn answer_with(&self, status: u16, name: &'static str, value: impl Into<String>) {
        lock(&self.shared.answers).push_back((status, Some((name, value.into()))));
    }

    /// What is answered from then on.
    pub fn always(&self, status: u16) {
        *lock(&self.shared.rest) = Some((status, None));
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The next request, which has to come.
    pub async fn next(&mut self) -> Seen {
        let seen = tokio::time::timeout(PATIENCE, self.seen.recv()).await.expect("a webhook in time");
        seen.expect("a running webhook")
    }

    /// What has come and was not looked at.
    pub fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    shared: Arc<Shared>,
    sink: mpsc::UnboundedSender<Seen>,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, shared, sink) = (tls.clone(), shared.clone(), sink.clone());
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = hyper::service::service_fn(|request| answer(request, &shared, &sink));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: &Shared,
    sink: &mpsc::UnboundedSender<Seen>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let (status, header) = {
        let next = lock(&shared.answers).pop_front();
        next.or_else(|| lock(&shared.rest).clone()).unwrap_or((204, None))
    };
    let _ = sink.send(Seen {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        event: serde_json::from_slice(&body).unwrap_or(Value::Null),
    });
    if status == 0 {
        std::future::pending::<()>().await;
    }
    let mut response = Response::builder().status(status);
    if let Some((name, value)) = header {
        response = response.header(name, value);
    }
    Ok(response.body(Full::default()).expect("an answer"))
}
