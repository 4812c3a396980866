//! The client half: requests and WebTransport sessions on one HTTP/3 connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::h3::client::{RequestStream, SendRequest};
use ::h3::error::{Code, StreamError};
use ::h3::ext::Protocol;
use axum::body::Body;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use tokio::sync::watch;

use super::body::{RequestBody, strip_connection_fields};
use super::hub::{Counters, Hub, HubGuard};
use super::session::{Session, SessionSink, drive};
use super::settings::PeerSettings;
use super::shim::{Opener, Shim};
use super::streams::{SendHalf, code};
use super::{Limits, Owned, TransportError, lock};

/// A body of known size up to this goes out before the response is awaited.
const INLINE: u64 = 16 * 1024;
/// Of a refusal's body, kept for its reader.
const MAX_REFUSAL: usize = 16 * 1024;

/// A request or session that failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The stream or the connection failed.
    #[error("http/3: {0}")]
    Stream(#[from] StreamError),
    /// The peer does not speak WebTransport, or did not say so in time.
    #[error("the server offers no WebTransport")]
    NotSupported,
    /// The server answered a CONNECT with something else than 2xx.
    #[error("the server refused the session: {status}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its headers.
        headers: Box<HeaderMap>,
        /// Its body, up to 16 KiB.
        body: Bytes,
    },
    /// The request cannot be sent.
    #[error("bad request: {0}")]
    BadRequest(&'static str),
}

impl ClientError {
    /// True if the server said that it did not process the request: it may be sent again, elsewhere.
    pub fn is_safe_to_retry(&self) -> bool {
        match self {
            // RFC 9114 §4.1.1.
            Self::Stream(StreamError::RemoteTerminate { code, .. }) => *code == Code::H3_REQUEST_REJECTED,
            Self::Stream(StreamError::RemoteClosing { .. }) => true,
            _ => false,
        }
    }
}

type Send = SendRequest<Opener, Bytes>;

/// A connection to a server; clones and the bodies of responses share it, and it closes with the last of them: sessions
/// do not keep it open.
#[derive(Clone)]
pub struct H3Client(Arc<Inner>);

struct Inner {
    send: Mutex<Send>,
    hub: Arc<Hub>,
    _ends: HubGuard,
    _reader: Owned,
    _driver: Owned,
}

impl std::fmt::Debug for H3Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("H3Client").field("remote", &self.0.hub.connection().remote_address()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.hub.connection().close(code::NO_ERROR, b"");
    }
}

impl H3Client {
    /// Connects to `address` as `server_name`. `endpoint` may be shared and rebound: connections migrate.
    pub async fn connect(
        endpoint: &quinn::Endpoint,
        address: SocketAddr,
        server_name: &str,
        limits: Arc<Limits>,
    ) -> Result<Self, TransportError> {
        let conn = Self::dial(endpoint, address, server_name)?.await?;
        Self::on(conn, limits).await
    }

    /// Like [`H3Client::connect`], but sends at once where a session can be resumed: for `GET` and `HEAD` only
    /// until [`H3Client::peer_settings`] came (RFC 8470).
    pub async fn connect_early(
        endpoint: &quinn::Endpoint,
        address: SocketAddr,
        server_name: &str,
        limits: Arc<Limits>,
    ) -> Result<Self, TransportError> {
        let conn = match Self::dial(endpoint, address, server_name)?.into_0rtt() {
            Ok((conn, _)) => conn,
            Err(connecting) => connecting.await?,
        };
        Self::on(conn, limits).await
    }

    fn dial(
        endpoint: &quinn::Endpoint,
        address: SocketAddr,
        server_name: &str,
    ) -> Result<quinn::Connecting, TransportError> {
        endpoint.connect(address, server_name).map_err(|error| TransportError::Quic(error.to_string()))
    }

    /// HTTP/3 on a QUIC connection that is there already.
    pub async fn on(conn: quinn::Connection, limits: Arc<Limits>) -> Result<Self, TransportError> {
        let (tell, peer) = watch::channel(None);
        let header_bytes = limits.max_header_bytes;
        let hub = Hub::new(conn, limits, peer);
        let ends = HubGuard(hub.clone());
        let shim = Shim::new(hub.clone(), tell, None);
        let (mut driver, send) = ::h3::client::builder()
            .max_field_section_size(header_bytes.into())
            .enable_datagram(true)
            .enable_extended_connect(true)
            .send_grease(false)
            .build::<_, _, Bytes>(shim)
            .await?;
        let reader = Owned::spawn({
            let hub = hub.clone();
            async move { hub.read_datagrams().await }
        });
        let driver = Owned::spawn(async move {
            let error = std::future::poll_fn(|cx| driver.poll_close(cx)).await;
            tracing::debug!(%error, "connection ended");
        });
        Ok(Self(Arc::new(Inner {
            send: Mutex::new(send),
            hub,
            _ends: ends,
            _reader: reader,
            _driver: driver,
        })))
    }

    /// The connection underneath, for tests that misbehave on it.
    #[cfg(test)]
    pub(super) fn raw(&self) -> quinn::Connection {
        self.0.hub.connection().clone()
    }

    fn sender(&self) -> Send {
        lock(&self.0.send).clone()
    }

    /// Sends a request; both bodies stream at the same time, and the response may begin before the request has ended.
    /// Dropping the response's body also ends a request body that is still being sent.
    pub async fn request(&self, request: Request<Body>) -> Result<Response<Body>, ClientError> {
        let (mut parts, mut body) = request.into_parts();
        if parts.uri.authority().is_none() {
            return Err(ClientError::BadRequest("the URI must be absolute"));
        }
        strip_connection_fields(&mut parts.headers);
        let stream = self.sender().send_request(Request::from_parts(parts, ())).await?;
        let (send, mut recv) = stream.split();
        let mut writer = Writer { stream: send, done: false };
        let known = http_body::Body::size_hint(&body).exact();
        let task = if known.is_some_and(|size| size <= INLINE) {
            writer.write(&mut body).await?;
            None
        } else {
            Some(Owned::spawn(async move {
                if let Err(error) = writer.write(&mut body).await {
                    tracing::debug!(%error, "request body cut short");
                }
            }))
        };
        let mut response = recv.recv_response().await?;
        while response.status().is_informational() {
            response = recv.recv_response().await?;
        }
        Ok(response.map(|()| {
            Body::new(Answer { body: RequestBody::new(recv), _writer: task, _client: self.clone() })
        }))
    }

    /// Opens a WebTransport session at an absolute `https` URI, in whatever time the server takes to answer. Its arrivals
    /// go to `sink`, which hears nothing if this fails.
    pub async fn open_session(
        &self,
        uri: Uri,
        headers: HeaderMap,
        sink: Arc<dyn SessionSink>,
    ) -> Result<Session, ClientError> {
        let hub = &self.0.hub;
        // draft-ietf-webtrans-http3 §3.1: not before the server's SETTINGS allow it.
        let peer = hub.peer_settings().await.unwrap_or_default();
        let able = peer.h3_datagram && peer.webtransport && hub.connection().max_datagram_size().is_some();
        if !able {
            return Err(ClientError::NotSupported);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::CONNECT;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert("sec-webtransport-http3-draft02", HeaderValue::from_static("1"));
        request.extensions_mut().insert(Protocol::WEB_TRANSPORT);
        let mut stream = self.sender().send_request(request).await?;
        let id = stream.id().into_inner();
        let mut refused = EndOnDrop(Some(hub.clone()), id);
        let response = stream.recv_response().await?;
        if !response.status().is_success() {
            let (mut send, recv) = stream.split();
            send.stop_stream(Code::H3_REQUEST_CANCELLED);
            let status = response.status();
            let headers = Box::new(response.into_parts().0.headers);
            let body = Limited::new(RequestBody::new(recv), MAX_REFUSAL).collect().await;
            let body = body.map(|all| all.to_bytes()).unwrap_or_default();
            return Err(ClientError::Refused { status, headers, body });
        }
        refused.0 = None;
        let (session, closing) = Session::new(hub.clone(), id);
        hub.register(id, sink.into());
        if !hub.spawn(drive(session.clone(), stream, closing)) {
            hub.end(id);
            return Err(ClientError::BadRequest("too many sessions on this connection"));
        }
        Ok(session)
    }

    /// What the server said about itself; waits for it, for a second.
    pub async fn peer_settings(&self) -> Option<PeerSettings> {
        self.0.hub.peer_settings().await
    }

    /// Waits until the server said that it takes no new requests here (GOAWAY).
    pub async fn going_away(&self) {
        self.0.hub.going_away().await;
    }

    /// Waits until the connection is gone.
    pub async fn closed(&self) -> quinn::ConnectionError {
        self.0.hub.connection().closed().await
    }

    /// Closes it now.
    pub fn close(&self) {
        self.0.hub.connection().close(code::NO_ERROR, b"");
    }

    /// The path's round trip time.
    pub fn rtt(&self) -> Duration {
        self.0.hub.connection().rtt()
    }

    /// QUIC's own statistics.
    pub fn stats(&self) -> quinn::ConnectionStats {
        self.0.hub.connection().stats()
    }

    /// What was dropped on this connection.
    pub fn counters(&self) -> Counters {
        self.0.hub.counters.snapshot()
    }

    /// WebTransport sessions open on this connection.
    pub fn open_sessions(&self) -> usize {
        self.0.hub.open_sessions()
    }

    /// The server's address.
    pub fn remote_address(&self) -> SocketAddr {
        self.0.hub.connection().remote_address()
    }
}

/// Forgets what came early for a session that did not come about.
struct EndOnDrop(Option<Arc<Hub>>, u64);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        if let Some(hub) = &self.0 {
            hub.end(self.1);
        }
    }
}

/// The one writer of a request's body; whatever ends it early resets the stream.
struct Writer {
    stream: RequestStream<SendHalf, Bytes>,
    done: bool,
}

impl Writer {
    async fn write(&mut self, body: &mut Body) -> Result<(), ClientError> {
        match self.write_all(body).await {
            // RFC 9114 §4.1: a server may answer without reading the rest.
            Err(ClientError::Stream(StreamError::RemoteTerminate { code, .. }))
                if code == Code::H3_NO_ERROR =>
            {
                Ok(())
            }
            result => {
                self.done = result.is_ok();
                result
            }
        }
    }

    async fn write_all(&mut self, body: &mut Body) -> Result<(), ClientError> {
        while let Some(frame) = body.frame().await {
            // The body's own failure is its maker's to tell; the peer sees a reset.
            let frame = frame.map_err(|_| ClientError::BadRequest("its body failed"))?;
            match frame.into_data() {
                Ok(data) if data.has_remaining() => self.stream.send_data(data).await?,
                Ok(_) => {}
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.send_trailers(trailers).await?;
                    }
                }
            }
        }
        Ok(self.stream.finish().await?)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.done {
            self.stream.stop_stream(Code::H3_REQUEST_CANCELLED);
        }
    }
}

/// A response's body; it keeps the request's body and the connection going.
struct Answer {
    body: RequestBody<RequestStream<super::streams::RecvHalf, Bytes>>,
    _writer: Option<Owned>,
    _client: H3Client,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, StreamError>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
