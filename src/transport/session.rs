//! WebTransport sessions, in either role: datagrams and short unidirectional streams, and the end.

use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use ::h3::error::StreamError;
use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::capsule::{self, Reader};
use super::hub::{Counters, Hub};
use super::shim::WT_UNI;
use super::streams::{Bidi, code};
use super::{lock, varint};
use crate::clock;

pub use super::capsule::CloseReason;

/// How long the peer may take to end its side of a session that we closed.
const LINGER: Duration = Duration::from_secs(1);

/// Where sessions' arrivals go. Called from the connection's reader: it must not block. `token` is what the sink's owner
/// named the session when it opened, see [`Ear`].
pub trait SessionSink: Send + Sync {
    /// Datagrams for it came, with some for others, and will be delivered one after another: it may read what it needs, so
    /// that memory answers for all of them at once.
    fn expect(&self) {}
    /// A datagram came.
    fn on_datagram(&self, token: u64, payload: Bytes);
    /// A unidirectional stream came, whole.
    fn on_stream(&self, token: u64, body: Bytes);
    /// The session ended; called once, last but for arrivals that are under way.
    fn on_closed(&self, token: u64);
}

/// Who hears a session. The token spares a sink that has several sessions an object for each, which every datagram would
/// have to fetch from memory.
#[derive(Clone)]
pub struct Ear {
    /// Hears it.
    pub sink: Arc<dyn SessionSink>,
    /// By what name.
    pub token: u64,
}

impl<S: SessionSink + 'static> From<Arc<S>> for Ear {
    /// A sink that has one session.
    fn from(sink: Arc<S>) -> Self {
        Self { sink, token: 0 }
    }
}

impl From<Arc<dyn SessionSink>> for Ear {
    fn from(sink: Arc<dyn SessionSink>) -> Self {
        Self { sink, token: 0 }
    }
}

/// What became of something to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Handed to QUIC.
    Sent,
    /// Waits for room; dropped if that takes too long.
    Queued,
    /// Dropped: too much is waiting.
    Dropped,
    /// Larger than the path takes; see [`Session::max_payload`].
    TooLarge,
    /// The session or its connection is gone.
    Closed,
}

/// A WebTransport session; clones are the same session.
#[derive(Clone)]
pub struct Session(Arc<Inner>);

struct Inner {
    hub: Arc<Hub>,
    id: u64,
    prefix: Prefix,
    close: Mutex<Option<oneshot::Sender<CloseReason>>>,
    ended: OnceLock<CloseReason>,
}

/// What every datagram of a session begins with.
#[derive(Clone, Copy)]
struct Prefix {
    bytes: [u8; 8],
    len: u8,
}

impl Prefix {
    fn new(id: u64) -> Self {
        let mut bytes = [0; 8];
        let mut rest = &mut bytes[..];
        // RFC 9297 §2.1: a datagram names its stream by a quarter of the id.
        varint::put(&mut rest, id / 4);
        let left = rest.len() as u8;
        Self { bytes, len: 8 - left }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Hub {
    /// Sends one datagram of a session of this connection. It does not look whether the session has ended: that is for its
    /// owner to know. For who sends on hundreds of sessions in turn: the connection is in the processor's cache, the
    /// [`Session`] is not.
    pub fn send_on(&self, session: u64, payload: &[u8]) -> Sent {
        self.send_datagram(Prefix::new(session).as_slice(), |out| out.extend_from_slice(payload))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.0.id).field("ended", &self.0.ended.get()).finish()
    }
}

impl Session {
    /// The session of the CONNECT stream `id`, and what tells its driver to close it.
    pub(super) fn new(hub: Arc<Hub>, id: u64) -> (Self, oneshot::Receiver<CloseReason>) {
        let (close, closing) = oneshot::channel();
        let prefix = Prefix::new(id);
        let inner = Inner { hub, id, prefix, close: Mutex::new(Some(close)), ended: OnceLock::new() };
        (Self(Arc::new(inner)), closing)
    }

    /// The id of the CONNECT stream.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// The connection that it is on.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.0.hub
    }

    /// Sends one datagram, whose payload is `parts` one after another.
    pub fn send_datagram(&self, parts: &[&[u8]]) -> Sent {
        self.send_datagram_with(|out| parts.iter().for_each(|part| out.extend_from_slice(part)))
    }

    /// Sends one datagram; `write` appends its payload and touches nothing else.
    pub fn send_datagram_with(&self, write: impl FnOnce(&mut BytesMut)) -> Sent {
        if self.is_closed() {
            return Sent::Closed;
        }
        self.0.hub.send_datagram(self.0.prefix.as_slice(), write)
    }

    /// The largest payload of a datagram now; `None` if the peer takes none.
    pub fn max_payload(&self) -> Option<usize> {
        self.0
            .hub
            .connection()
            .max_datagram_size()
            .map(|max| max.saturating_sub(usize::from(self.0.prefix.len)))
    }

    /// Sends `payload` on a stream of its own, which is reset if it is not through by `deadline`.
    pub fn send_stream(&self, payload: Bytes, deadline: Instant) -> Sent {
        if self.is_closed() {
            return Sent::Closed;
        }
        let mut head = BytesMut::new();
        varint::put(&mut head, WT_UNI);
        varint::put(&mut head, self.0.id);
        let hub = Arc::downgrade(&self.0.hub);
        let conn = self.0.hub.connection().clone();
        let sending = async move {
            if !send_whole(&conn, head.freeze(), payload, deadline).await
                && let Some(hub) = hub.upgrade()
            {
                hub.counters.count(&hub.counters.streams_late);
            }
        };
        if self.0.hub.spawn(sending) { Sent::Queued } else { Sent::Dropped }
    }

    /// Closes the session; the sink hears of it soon. Only the first call counts.
    pub fn close(&self, code: u32, message: &str) {
        if let Some(close) = lock(&self.0.close).take() {
            let reason = CloseReason { code, message: message.to_owned() };
            // Without a driver the session is closed already.
            let _ = close.send(reason);
        }
    }

    /// True once it ended, from either side.
    pub fn is_closed(&self) -> bool {
        self.0.ended.get().is_some()
    }

    /// Why it ended, if it did and somebody said so.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.0.ended.get().cloned()
    }

    /// The path's round trip time.
    pub fn rtt(&self) -> Duration {
        self.0.hub.connection().rtt()
    }

    /// Sessions open on this connection.
    pub fn sessions_beside(&self) -> usize {
        self.0.hub.open_sessions()
    }

    /// Datagrams of this connection that wait for room.
    pub fn waiting(&self) -> usize {
        self.0.hub.outbox.waiting()
    }

    /// What was dropped on this connection.
    pub fn counters(&self) -> Counters {
        self.0.hub.counters.snapshot()
    }
}

/// False if the stream was too late.
async fn send_whole(conn: &quinn::Connection, head: Bytes, payload: Bytes, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(clock::instant());
    let deadline = tokio::time::sleep(left);
    tokio::pin!(deadline);
    let mut stream = tokio::select! {
        stream = conn.open_uni() => match stream {
            Ok(stream) => stream,
            Err(_) => return true,
        },
        () = &mut deadline => return false,
    };
    let writing = async {
        stream.write_all_chunks(&mut [head, payload]).await.map_err(drop)?;
        stream.finish().map_err(drop)?;
        stream.stopped().await.map_err(drop)
    };
    let in_time = tokio::select! {
        // A peer that stopped the stream, or is gone, is not late.
        _ = writing => true,
        () = &mut deadline => false,
    };
    if !in_time {
        // It may just have come through.
        let _ = stream.reset(code::SESSION_GONE);
    }
    in_time
}

/// A CONNECT stream, of either role.
pub(super) trait ConnectStream: Send {
    /// Bytes of the capsule protocol, or `None` at their end.
    fn poll_capsules(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>>;
    /// The last bytes, and FIN.
    fn end(&mut self, last: Option<Bytes>) -> impl Future<Output = Result<(), StreamError>> + Send;
}

macro_rules! connect_stream {
    ($stream:ty) => {
        impl ConnectStream for $stream {
            fn poll_capsules(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
                self.poll_recv_data(cx)
                    .map_ok(|data| data.map(|mut data| data.copy_to_bytes(data.remaining())))
            }

            async fn end(&mut self, last: Option<Bytes>) -> Result<(), StreamError> {
                if let Some(last) = last {
                    self.send_data(last).await?;
                }
                self.finish().await
            }
        }
    };
}

connect_stream!(::h3::server::RequestStream<Bidi, Bytes>);
connect_stream!(::h3::client::RequestStream<Bidi, Bytes>);

/// Ends a session when its driver does, even if that is dropped.
struct Ending(Session);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.0.ended.set(CloseReason::default());
        self.0.0.hub.end(self.0.0.id);
    }
}

/// Runs a registered session until it ends, from whichever side.
pub(super) async fn drive(
    session: Session,
    mut stream: impl ConnectStream,
    mut closing: oneshot::Receiver<CloseReason>,
) {
    let ending = Ending(session.clone());
    let mut reader = Reader::default();
    let ours = loop {
        tokio::select! {
            reason = &mut closing => break reason.ok(),
            data = std::future::poll_fn(|cx| stream.poll_capsules(cx)) => match data {
                Ok(Some(data)) => {
                    if let Some(reason) = reader.feed(&data) {
                        let _ = session.0.ended.set(reason);
                        break None;
                    }
                }
                // draft-ietf-webtrans-http3 §6: a clean end is a close with code 0 and no message.
                Ok(None) | Err(_) => break None,
            },
        }
    };
    if let Some(reason) = &ours {
        let _ = session.0.ended.set(reason.clone());
    }
    drop(ending);
    let last = ours.as_ref().map(capsule::close);
    let farewell = async {
        stream.end(last).await?;
        while ours.is_some() && std::future::poll_fn(|cx| stream.poll_capsules(cx)).await?.is_some() {}
        Ok::<_, StreamError>(())
    };
    // The session is over either way.
    let _ = tokio::time::timeout(LINGER, farewell).await;
}
