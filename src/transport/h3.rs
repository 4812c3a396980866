//! HTTP/3 connections served by an axum router.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::h3::error::Code;
use ::h3::ext::Protocol;
use ::h3::server::{RequestResolver, RequestStream};
use axum::Router;
use axum::body::Body;
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::body::{RequestBody, strip_connection_fields};
use super::hub::{Hub, HubGuard};
use super::plane;
use super::session::{Session, drive};
use super::shim::{Extra, Extras, Shim};
use super::streams::{Bidi, SendHalf, code};
use super::upgrade::WebTransportUpgrade;
use super::{Limits, Owned, PeerAddr, TransportError, TransportInfo, fill_host, next_connection_id};

/// A body is written in pieces of this size, each of which must make progress.
const PIECE: usize = 64 * 1024;
/// How long an endpoint may take to say its goodbyes.
const FAREWELL: Duration = Duration::from_secs(1);

/// Accepts connections until `shutdown`, then lets them drain. The endpoint takes no new ones after that.
pub async fn serve_endpoint(
    endpoint: quinn::Endpoint,
    router: Router,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
) {
    let half_open = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => {
                let Some(incoming) = incoming else { break };
                if connections.len() >= limits.max_connections {
                    incoming.refuse();
                } else if half_open.load(Ordering::Relaxed) >= limits.retry_above && incoming.may_retry() {
                    // RFC 9000 §8.1.2: who cannot receive at its address costs us no state.
                    let _ = incoming.retry();
                } else {
                    let half = HalfOpen::new(&half_open);
                    let (router, limits, shutdown) = (router.clone(), limits.clone(), shutdown.clone());
                    connections.spawn(async move {
                        if let Err(error) = serve_incoming(incoming, half, router, limits, shutdown).await {
                            tracing::debug!(%error, "connection ended");
                        }
                    });
                }
            }
            Some(_) = connections.join_next() => {}
            () = shutdown.cancelled() => break,
        }
    }
    endpoint.set_server_config(None);
    while connections.join_next().await.is_some() {}
    // Peers that do not answer keep their connection from ending; ours are done.
    let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
}

struct HalfOpen(Arc<AtomicUsize>);

impl HalfOpen {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for HalfOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve_incoming(
    incoming: quinn::Incoming,
    half: HalfOpen,
    router: Router,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
) -> Result<(), TransportError> {
    // On this side it never fails: it lets 0-RTT requests in, which are marked as such.
    let (conn, established) = match incoming.accept()?.into_0rtt() {
        Ok(early) => early,
        Err(connecting) => return serve_connection(connecting.await?, router, limits, shutdown).await,
    };
    let (handshaking, patience) = (conn.clone(), limits.handshake_timeout);
    let _watch = Owned::spawn(async move {
        let _half = half;
        if timeout(patience, established).await.is_err() {
            handshaking.close(code::EXCESSIVE_LOAD, b"handshake timeout");
        }
    });
    serve_connection(conn, router, limits, shutdown).await
}

/// What the requests of a connection share.
struct Shared {
    hub: Arc<Hub>,
    extras: Extras,
    router: Router,
    connection_id: u64,
}

type Resolver = RequestResolver<Shim, Bytes>;
type Stream = RequestStream<Bidi, Bytes>;

/// Serves one connection until it ends or has drained after `shutdown`.
pub async fn serve_connection(
    conn: quinn::Connection,
    router: Router,
    limits: Arc<Limits>,
    shutdown: CancellationToken,
) -> Result<(), TransportError> {
    let (tell, peer) = watch::channel(None);
    let hub = Hub::new(conn.clone(), limits.clone(), peer);
    let _ends = HubGuard(hub.clone());
    let _reader = Owned(plane::spawn({
        let hub = hub.clone();
        async move { hub.read_datagrams().await }
    }));
    let extras = Extras::default();
    let shim = Shim::new(hub.clone(), tell, Some(extras.clone()));
    let mut h3 = ::h3::server::builder()
        .max_field_section_size(limits.max_header_bytes.into())
        .enable_webtransport(true)
        .enable_extended_connect(true)
        .enable_datagram(true)
        .max_webtransport_sessions(limits.max_sessions as u64)
        .send_grease(false)
        .build::<_, Bytes>(shim)
        .await?;
    let shared = Arc::new(Shared { hub, extras, router, connection_id: next_connection_id() });

    let mut requests = JoinSet::new();
    let mut draining = false;
    let drained = tokio::time::sleep(Duration::MAX);
    tokio::pin!(drained);
    loop {
        tokio::select! {
            // h3 makes progress only while accept() is polled.
            accepted = h3.accept() => match accepted {
                Ok(Some(resolver)) => {
                    requests.spawn(serve_request(shared.clone(), resolver));
                }
                Ok(None) => break,
                Err(error) if error.is_h3_no_error() => break,
                Err(error) => return Err(error.into()),
            },
            Some(_) = requests.join_next() => {
                if draining && requests.is_empty() {
                    break;
                }
            }
            () = shutdown.cancelled(), if !draining => {
                draining = true;
                // RFC 9114 §5.2: requests from this id on are not processed and may go elsewhere.
                h3.shutdown(1).await?;
                if requests.is_empty() {
                    break;
                }
                drained.as_mut().reset(tokio::time::Instant::from_std(crate::clock::instant() + limits.drain));
            }
            () = &mut drained => break,
        }
    }
    conn.close(code::NO_ERROR, b"");
    Ok(())
}

async fn serve_request(shared: Arc<Shared>, resolver: Resolver) {
    let limits = shared.hub.limits();
    let id = ::h3::quic::SendStream::<Bytes>::send_id(&resolver.frame_stream).into_inner();
    let Some(Extra { early_data, mut stopped }) = shared.extras.take(id) else { return };
    let (request, stream) = match timeout(limits.header_timeout, resolver.resolve_request()).await {
        Ok(Ok(resolved)) => resolved,
        Ok(Err(error)) => return tracing::debug!(%error, "request not readable"),
        Err(_) => return tracing::debug!("request headers did not come"),
    };
    let (mut parts, ()) = request.into_parts();
    let protocol = parts.extensions.remove::<Protocol>();
    let conn = shared.hub.connection();
    let connection_id = shared.connection_id;
    parts.extensions.insert(PeerAddr(conn.remote_address()));
    parts.extensions.insert(TransportInfo { http3: true, secure: true, early_data, connection_id });
    let mut head = Request::from_parts(parts, ());
    fill_host(&mut head);

    // h3 0.0.8 can represent `webtransport`, not `webtransport-h3`.
    if head.method() == Method::CONNECT && protocol == Some(Protocol::WEB_TRANSPORT) {
        return serve_session(&shared, id, head, stream).await;
    }
    let (send, recv) = stream.split();
    let mut writer = Writer { stream: send, done: false, stall: limits.write_stall };
    let request = head.map(|()| Body::new(RequestBody::new(recv)));
    let work = async {
        let Ok(response) = shared.router.clone().oneshot(request).await;
        writer.respond(response).await
    };
    tokio::select! {
        biased;
        result = work => match result {
            // Until the peer has it all: a connection that closes right after would lose the rest.
            Ok(()) => drop(timeout(limits.write_stall, stopped).await),
            Err(error) => tracing::debug!(error, "response cut short"),
        },
        // RFC 9114 §4.1.1: the peer wants no more; the handler is dropped.
        () = &mut stopped => {}
    }
}

async fn serve_session(shared: &Shared, id: u64, head: Request<()>, mut stream: Stream) {
    let hub = &shared.hub;
    let stall = hub.limits().write_stall;
    let upgrade = WebTransportUpgrade::default();
    // RFC 9297 §2.1.1: no datagrams towards a peer that did not allow them.
    let takes_datagrams = hub.peer_settings().await.is_some_and(|peer| peer.h3_datagram)
        && hub.connection().max_datagram_size().is_some();
    let mut response = if !takes_datagrams {
        problem(StatusCode::BAD_REQUEST, "no-datagrams")
    } else if hub.open_sessions() >= hub.limits().max_sessions {
        problem(StatusCode::TOO_MANY_REQUESTS, "too-many")
    } else {
        let mut request = head.map(|()| Body::empty());
        request.extensions_mut().insert(upgrade.clone());
        let Ok(response) = shared.router.clone().oneshot(request).await;
        response
    };
    let make = upgrade.take();
    if response.status().is_success()
        && let Some(make) = make
    {
        response.headers_mut().insert("sec-webtransport-http3-draft", HeaderValue::from_static("draft02"));
        let head = response.map(drop);
        if !matches!(timeout(stall, stream.send_response(head)).await, Ok(Ok(()))) {
            stream.stop_stream(Code::H3_REQUEST_CANCELLED);
            return hub.end(id);
        }
        let (session, closing) = Session::new(hub.clone(), id);
        hub.register(id, make(session.clone()));
        return drive(session, stream, closing).await;
    }
    hub.end(id);
    if response.status().is_success() {
        // A 2xx would open a session at the peer that nobody holds here.
        response = problem(StatusCode::INTERNAL_SERVER_ERROR, "internal");
    }
    let (send, _recv) = stream.split();
    if let Err(error) = (Writer { stream: send, done: false, stall }).respond(response).await {
        tracing::debug!(error, "refusal cut short");
    }
}

fn problem(status: StatusCode, code: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = serde_json::json!({"title": title, "status": status.as_u16(), "code": code}).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// The one writer of a response; whatever ends it early resets the stream.
struct Writer {
    stream: RequestStream<SendHalf, Bytes>,
    done: bool,
    stall: Duration,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Writer {
    async fn respond(&mut self, response: Response<Body>) -> Result<(), Failure> {
        let (mut parts, mut body) = response.into_parts();
        strip_connection_fields(&mut parts.headers);
        timeout(self.stall, self.stream.send_response(Response::from_parts(parts, ()))).await??;
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(mut data) => {
                    while data.has_remaining() {
                        let piece = data.split_to(data.len().min(PIECE));
                        // A write that was cut off is never taken up again: the stream is reset.
                        timeout(self.stall, self.stream.send_data(piece)).await??;
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        timeout(self.stall, self.stream.send_trailers(trailers)).await??;
                    }
                }
            }
        }
        self.stream.finish().await?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
    }
}
