//! L3: the way in and out: QUIC, HTTP/3, WebTransport, TCP, TLS.
//!
//! | to find | look in |
//! |---|---|
//! | certificates, reload, trust roots | [`tls`] |
//! | UDP endpoints and their limits | [`quic`] |
//! | an HTTP/3 connection served by an axum router | [`h3`] |
//! | the same router on HTTP/1.1 and HTTP/2 | [`tcp`] |
//! | WebTransport sessions, either role | [`session`] |
//! | accepting a session in a handler | [`upgrade`] |
//! | the client half | [`client`] |
//!
//! Underneath: `shim` is the QUIC transport that the `h3` crate sees and takes WebTransport streams out,
//! `streams` its two halves, `settings` the SETTINGS both ways, `hub` what belongs to no single session of a
//! connection, `burst` and `outbox` the
//! datagrams that go out, `capsule` what a CONNECT stream carries, `body` what a request or response brings in.

mod body;
mod burst;
mod capsule;
pub mod client;
pub mod h3;
pub mod hub;
mod outbox;
mod plane;
pub mod quic;
pub mod session;
mod settings;
mod shim;
mod streams;
pub mod tcp;
pub mod tls;
pub mod upgrade;
mod varint;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use hub::Counters;
pub use settings::PeerSettings;

/// What goes wrong in setting up a transport.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A file or socket failed.
    #[error("{what}: {source}")]
    Io {
        /// The file or address.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A PEM file holds something else than expected.
    #[error("{path}: {reason}")]
    Pem {
        /// The file.
        path: String,
        /// What is missing or broken.
        reason: String,
    },
    /// The TLS library refused the configuration.
    #[error("tls: {0}")]
    Tls(#[from] rustls::Error),
    /// A QUIC setting is out of range.
    #[error("quic: {0}")]
    Quic(String),
    /// The QUIC connection ended.
    #[error("connection: {0}")]
    Connection(#[from] quinn::ConnectionError),
    /// HTTP/3 failed on the whole connection.
    #[error("http/3: {0}")]
    Http3(#[from] ::h3::error::ConnectionError),
}

/// The bounds of one connection and of the listeners.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest header section, in bytes; more is answered by 431.
    pub max_header_bytes: u32,
    /// How long a peer may take to send a request's headers.
    pub header_timeout: Duration,
    /// How long a TLS or QUIC handshake may take.
    pub handshake_timeout: Duration,
    /// A response write without progress for this long resets its stream.
    pub write_stall: Duration,
    /// How long running requests may go on after a shutdown began.
    pub drain: Duration,
    /// WebTransport sessions at once on one connection.
    pub max_sessions: usize,
    /// The largest content of one unidirectional WebTransport stream.
    pub max_stream_body: usize,
    /// Unidirectional WebTransport streams read or written at once on one connection.
    pub max_streams: usize,
    /// Streams whose first bytes have not come; beyond it the oldest is reset.
    pub max_unclassified: usize,
    /// Datagrams and streams kept for a session whose CONNECT is still on its way, per connection.
    pub max_early: usize,
    /// How long those are kept.
    pub early_lifetime: Duration,
    /// How long to wait for the peer's SETTINGS before a CONNECT is judged.
    pub settings_wait: Duration,
    /// The age at which an outgoing datagram is too late.
    pub datagram_lifetime: Duration,
    /// The send buffer that the endpoint was configured with.
    pub datagram_send_buffer: usize,
    /// Connections at once on one listener.
    pub max_connections: usize,
    /// Half-open QUIC connections above which a client must prove its address.
    pub retry_above: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_header_bytes: 16 * 1024,
            header_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(10),
            write_stall: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            max_sessions: 1_000,
            max_stream_body: 64 * 1024,
            max_streams: 256,
            max_unclassified: 256,
            max_early: 256,
            early_lifetime: Duration::from_secs(1),
            settings_wait: Duration::from_secs(1),
            datagram_lifetime: Duration::from_millis(60),
            datagram_send_buffer: quic::DATAGRAM_SEND_BUFFER,
            max_connections: 10_000,
            retry_above: 256,
        }
    }
}

/// Request extension: where the request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddr(pub SocketAddr);

/// Request extension: what the transport knows about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportInfo {
    /// It came over HTTP/3.
    pub http3: bool,
    /// It came over TLS or QUIC, not in clear text.
    pub secure: bool,
    /// It came before the handshake was complete, so it may be a replay (RFC 8470).
    pub early_data: bool,
    /// Unique per connection in this process.
    pub connection_id: u64,
}

fn next_connection_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// RFC 9114 §4.3.1: `:authority` stands for Host; handlers find it in one place on every version.
fn fill_host<B>(request: &mut http::Request<B>) {
    if request.headers().contains_key(http::header::HOST) {
        return;
    }
    let host = request.uri().authority().and_then(|a| http::HeaderValue::from_str(a.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(http::header::HOST, host);
    }
}

/// A lock whose holder panicked still guards plain data: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task that ends with its owner.
#[derive(Debug)]
struct Owned(tokio::task::JoinHandle<()>);

impl Owned {
    fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}
