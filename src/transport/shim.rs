//! The QUIC transport that the `h3` crate sees, in either role. It looks at the first bytes of every incoming stream,
//! hands WebTransport streams to the [`Hub`] and the rest on, and completes and reads SETTINGS.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use ::h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming};
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, Stream};
use quinn::{ConnectionError, RecvStream, SendStream};
use tokio::sync::watch;

use super::hub::Hub;
use super::settings::{self, FrameGuard, PeerSettings, Sniffer, Watch};
use super::streams::{Bidi, RecvHalf, SendHalf, code, connection_error, lost, poll_chunk};
use super::{lock, varint};

/// draft-ietf-webtrans-http3 §4.2.
pub(super) const WT_UNI: u64 = 0x54;
/// draft-ietf-webtrans-http3 §4.3.
const WT_BIDI: u64 = 0x41;
/// RFC 9114 §6.2.1.
const CONTROL: u64 = 0x00;

type Pending<T> = Pin<Box<dyn Future<Output = Result<T, ConnectionError>> + Send>>;
type Incoming<T> = Pin<Box<dyn Stream<Item = Result<T, ConnectionError>> + Send>>;

/// What `h3` has no place for, by request stream.
pub(super) struct Extra {
    /// The stream came in before the handshake was complete.
    pub(super) early_data: bool,
    /// Ready when the peer wants no more of the response.
    pub(super) stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// The extras of the requests that were accepted and not yet taken up.
#[derive(Clone, Default)]
pub(super) struct Extras(Arc<Mutex<HashMap<u64, Extra>>>);

impl Extras {
    pub(super) fn take(&self, stream: u64) -> Option<Extra> {
        lock(&self.0).remove(&stream)
    }
}

/// An incoming stream whose first bytes have not all come.
struct Fresh {
    recv: RecvStream,
    send: Option<SendStream>,
    head: BytesMut,
}

enum Kind {
    WebTransport(u64),
    Http(u64),
    Gone,
}

impl Fresh {
    fn new(recv: RecvStream, send: Option<SendStream>) -> Self {
        Self { recv, send, head: BytesMut::new() }
    }

    fn classify(&mut self, cx: &mut Context<'_>, webtransport: u64) -> Poll<Kind> {
        loop {
            let mut rest = &self.head[..];
            match varint::get(&mut rest) {
                Some(kind) if kind != webtransport => return Poll::Ready(Kind::Http(kind)),
                Some(_) => {
                    if let Some(session) = varint::get(&mut rest) {
                        let used = self.head.len() - rest.len();
                        self.head.advance(used);
                        return Poll::Ready(Kind::WebTransport(session));
                    }
                }
                None => {}
            }
            match ready!(poll_chunk(&mut self.recv, cx)) {
                Ok(Some(bytes)) => self.head.extend_from_slice(&bytes),
                // RFC 9114 §6.2: a stream that ends before its type is no error.
                Ok(None) | Err(_) => return Poll::Ready(Kind::Gone),
            }
        }
    }

    fn refuse(mut self, why: quinn::VarInt) {
        // Either half may be closed by the peer already.
        let _ = self.recv.stop(why);
        if let Some(send) = &mut self.send {
            let _ = send.reset(why);
        }
    }
}

/// One connection as `h3` sees it.
pub(super) struct Shim {
    opener: Opener,
    settings: Option<Vec<(u64, u64)>>,
    tell: watch::Sender<Option<PeerSettings>>,
    hub: Arc<Hub>,
    extras: Option<Extras>,
    incoming_uni: Incoming<RecvStream>,
    incoming_bidi: Incoming<(SendStream, RecvStream)>,
    uni: VecDeque<Fresh>,
    bidi: VecDeque<Fresh>,
}

impl Shim {
    /// `tell` hears the peer's settings; `extras` is given by a server.
    pub(super) fn new(
        hub: Arc<Hub>,
        tell: watch::Sender<Option<PeerSettings>>,
        extras: Option<Extras>,
    ) -> Self {
        let conn = hub.connection().clone();
        let accept_uni = |conn: quinn::Connection| async { Some((conn.accept_uni().await, conn)) };
        let accept_bidi = |conn: quinn::Connection| async { Some((conn.accept_bi().await, conn)) };
        Self {
            settings: Some(settings::ours(hub.limits().max_sessions)),
            tell,
            extras,
            incoming_uni: Box::pin(stream::unfold(conn.clone(), accept_uni)),
            incoming_bidi: Box::pin(stream::unfold(conn.clone(), accept_bidi)),
            uni: VecDeque::new(),
            bidi: VecDeque::new(),
            opener: Opener::new(conn),
            hub,
        }
    }

    /// A peer that opens streams and says nothing on them loses the oldest.
    fn trim(queue: &mut VecDeque<Fresh>, hub: &Hub) {
        while queue.len() > hub.limits().max_unclassified {
            if let Some(oldest) = queue.pop_front() {
                hub.counters.count(&hub.counters.streams_refused);
                oldest.refuse(code::EXCESSIVE_LOAD);
            }
        }
    }

    fn http_uni(&self, fresh: Fresh, kind: u64) -> RecvHalf {
        let watch = match kind {
            CONTROL => Watch::Control(Sniffer::new(self.tell.clone())),
            _ => Watch::Nobody,
        };
        RecvHalf::new(fresh.recv, fresh.head.freeze(), watch)
    }

    fn http_bidi(&self, fresh: Fresh, send: SendStream) -> Bidi {
        if let Some(extras) = &self.extras {
            let stopped = send.stopped();
            let extra = Extra {
                early_data: fresh.recv.is_0rtt(),
                stopped: Box::pin(async move {
                    let _ = stopped.await;
                }),
            };
            lock(&extras.0).insert(send.id().into(), extra);
        }
        let recv = RecvHalf::new(fresh.recv, fresh.head.freeze(), Watch::Request(FrameGuard::default()));
        Bidi { send: SendHalf::new(send), recv }
    }
}

impl quic::Connection<Bytes> for Shim {
    type RecvStream = RecvHalf;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvHalf, ConnectionErrorIncoming>> {
        while let Poll::Ready(Some(recv)) = self.incoming_uni.as_mut().poll_next(cx) {
            self.uni.push_back(Fresh::new(recv.map_err(connection_error)?, None));
        }
        let mut at = 0;
        while let Some(fresh) = self.uni.get_mut(at) {
            let Poll::Ready(kind) = fresh.classify(cx, WT_UNI) else {
                at += 1;
                continue;
            };
            let Some(fresh) = self.uni.remove(at) else { break };
            match kind {
                Kind::WebTransport(session) => self.hub.stream(session, fresh.recv, fresh.head.freeze()),
                Kind::Http(kind) => return Poll::Ready(Ok(self.http_uni(fresh, kind))),
                Kind::Gone => {}
            }
        }
        Self::trim(&mut self.uni, &self.hub);
        Poll::Pending
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, ConnectionErrorIncoming>> {
        while let Poll::Ready(Some(pair)) = self.incoming_bidi.as_mut().poll_next(cx) {
            let (send, recv) = pair.map_err(connection_error)?;
            self.bidi.push_back(Fresh::new(recv, Some(send)));
        }
        let mut at = 0;
        while let Some(fresh) = self.bidi.get_mut(at) {
            let Poll::Ready(kind) = fresh.classify(cx, WT_BIDI) else {
                at += 1;
                continue;
            };
            let Some(mut fresh) = self.bidi.remove(at) else { break };
            match kind {
                Kind::Http(_) => {
                    if let Some(send) = fresh.send.take() {
                        return Poll::Ready(Ok(self.http_bidi(fresh, send)));
                    }
                }
                // The profile has no use for bidirectional WebTransport streams.
                Kind::WebTransport(_) => {
                    self.hub.counters.count(&self.hub.counters.streams_refused);
                    fresh.refuse(code::BUFFERED_STREAM_REJECTED);
                }
                Kind::Gone => fresh.refuse(code::REQUEST_INCOMPLETE),
            }
        }
        Self::trim(&mut self.bidi, &self.hub);
        Poll::Pending
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl quic::OpenStreams<Bytes> for Shim {
    type BidiStream = Bidi;
    type SendStream = SendHalf;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        self.opener.poll_open_bidi(cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendHalf, StreamErrorIncoming>> {
        let send = ready!(self.opener.poll_open_send(cx))?;
        // h3 opens the control stream first.
        Poll::Ready(Ok(match self.settings.take() {
            Some(settings) => send.with_settings(settings),
            None => send,
        }))
    }

    fn close(&mut self, code: ::h3::error::Code, reason: &[u8]) {
        self.opener.close(code, reason);
    }
}

/// Opens streams for `h3`.
pub(super) struct Opener {
    conn: quinn::Connection,
    bidi: Option<Pending<(SendStream, RecvStream)>>,
    uni: Option<Pending<SendStream>>,
}

impl Opener {
    fn new(conn: quinn::Connection) -> Self {
        Self { conn, bidi: None, uni: None }
    }
}

impl Clone for Opener {
    fn clone(&self) -> Self {
        Self::new(self.conn.clone())
    }
}

impl quic::OpenStreams<Bytes> for Opener {
    type BidiStream = Bidi;
    type SendStream = SendHalf;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        let conn = &self.conn;
        let opening = self.bidi.get_or_insert_with(|| {
            let conn = conn.clone();
            Box::pin(async move { conn.open_bi().await })
        });
        let result = ready!(opening.as_mut().poll(cx));
        self.bidi = None;
        let (send, recv) = result.map_err(lost)?;
        let recv = RecvHalf::new(recv, Bytes::new(), Watch::Request(FrameGuard::default()));
        Poll::Ready(Ok(Bidi { send: SendHalf::new(send), recv }))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendHalf, StreamErrorIncoming>> {
        let conn = &self.conn;
        let opening = self.uni.get_or_insert_with(|| {
            let conn = conn.clone();
            Box::pin(async move { conn.open_uni().await })
        });
        let result = ready!(opening.as_mut().poll(cx));
        self.uni = None;
        Poll::Ready(Ok(SendHalf::new(result.map_err(lost)?)))
    }

    fn close(&mut self, code: ::h3::error::Code, reason: &[u8]) {
        self.conn.close(quinn::VarInt::from_u64(code.value()).unwrap_or(code::NO_ERROR), reason);
    }
}
