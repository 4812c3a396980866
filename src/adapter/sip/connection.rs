//! One TCP or TLS connection at work: what comes is framed, held to the rules and given to the transactions; what they send is
//! written. Nobody waits for a far end that takes nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rsipstack::sip::Transport;
use rsipstack::transport::channel::ChannelConnection;
use rsipstack::transport::{SipConnection, TransportEvent};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, Frames};
use super::guard::Gate;
use super::stack::sip;
use super::strict::{self, Read};
use crate::clock;

/// Bytes that may wait to be sent.
const BACKLOG: usize = 1 << 20;
/// How long the far end may take nothing of what is sent.
const STALLED: Duration = Duration::from_secs(10);
/// RFC 5626 §4.4.1: how long an answer to a ping may take.
const PONG: Duration = Duration::from_secs(10);
/// How long one message may take to come.
const MESSAGE: Duration = Duration::from_secs(30);
/// How long a peer may say nothing, and a stranger.
const IDLE: Duration = Duration::from_secs(1_800);
const IDLE_STRANGER: Duration = Duration::from_secs(60);
/// How long what still comes is read, so that the far end gets our last word.
const LINGER: Duration = Duration::from_secs(1);

/// RFC 5626 §4.4.1: a ping.
const PING: &[u8] = b"\r\n\r\n";
/// Its answer.
const ANSWER: &[u8] = b"\r\n";

/// Why a connection ends, for the log.
type Why = &'static str;

/// What is to be written.
enum Out {
    More(Bytes),
    /// The last of it.
    Last(Bytes),
}

/// A connection's two ends, and who hears of it.
pub(super) struct Line {
    pub(super) remote: SocketAddr,
    /// TCP or TLS.
    pub(super) transport: Transport,
    pub(super) gate: Arc<Gate>,
    /// The transactions.
    pub(super) feed: UnboundedSender<TransportEvent>,
    /// How often the far end is asked whether it is there; none: it asks.
    pub(super) ping: Option<Duration>,
    /// Cancelled, it ends; ended, that is cancelled.
    pub(super) ended: CancellationToken,
}

/// What a connection has sent and not yet sent.
struct Queue {
    out: UnboundedSender<Out>,
    waiting: AtomicUsize,
}

impl Queue {
    fn push(&self, out: Out) -> Result<(), Why> {
        let (Out::More(bytes) | Out::Last(bytes)) = &out;
        if self.waiting.fetch_add(bytes.len(), Ordering::Relaxed) > BACKLOG {
            return Err("it takes too little of what is sent");
        }
        self.out.send(out).map_err(|_| "it is closed")
    }
}

impl Line {
    /// The connection as the transactions know it, and what they send by it.
    pub(super) async fn connection(
        &self,
    ) -> rsipstack::Result<(SipConnection, UnboundedReceiver<TransportEvent>)> {
        let (_, none) = mpsc::unbounded_channel();
        let (send, outgoing) = mpsc::unbounded_channel();
        let address = sip(self.transport, self.remote);
        let ended = Some(self.ended.clone());
        let connection = ChannelConnection::create_connection(none, send, address, ended).await?;
        Ok((connection.into(), outgoing))
    }

    /// Carries messages both ways until one end has enough.
    pub(super) async fn carry<S: AsyncRead + AsyncWrite>(
        self,
        stream: S,
        connection: SipConnection,
        outgoing: UnboundedReceiver<TransportEvent>,
    ) {
        let (read, write) = tokio::io::split(stream);
        let (out, queued) = mpsc::unbounded_channel();
        let queue = Queue { out, waiting: AtomicUsize::new(0) };
        let why = tokio::select! {
            () = self.ended.cancelled() => "this side has enough",
            why = collect(outgoing, &queue) => why,
            why = put(write, queued, &queue) => why,
            why = self.get(read, &connection, &queue) => why,
        };
        tracing::debug!(remote = %self.remote, why, "a SIP connection ends");
        self.ended.cancel();
    }

    async fn get<R: AsyncRead + Unpin>(&self, mut read: R, connection: &SipConnection, queue: &Queue) -> Why {
        let mut frames = Frames::default();
        let mut heard = clock::instant();
        let (mut begun, mut asked, mut answers) = (None, None, false);
        let mut ping = self.next_ping(heard);
        loop {
            let idle = heard + if self.gate.knows(self.remote) { IDLE } else { IDLE_STRANGER };
            let late = begun.map(|at: Instant| at + MESSAGE);
            // Who has never answered a ping may be one who knows none (RFC 3261 §7.5).
            let unanswered = asked.filter(|_| answers).map(|at: Instant| at + PONG);
            let due = [ping, late, unanswered].into_iter().flatten().fold(idle, Instant::min);
            let came = tokio::select! {
                came = read.read_buf(&mut frames.buffer) => Some(came),
                () = tokio::time::sleep_until(due.into()) => None,
            };
            let now = clock::instant();
            match came {
                Some(Ok(0)) => return "the far end has closed it",
                Some(Ok(_)) => heard = now,
                Some(Err(_)) => return "it is broken",
                None if unanswered.is_some_and(|at| at <= now) => return "a ping is not answered",
                None if late.is_some_and(|at| at <= now) => return "a message doesn't end",
                None if idle <= now => return "nothing is said",
                None => {
                    if queue.push(Out::More(Bytes::from_static(PING))).is_err() {
                        return "it takes too little of what is sent";
                    }
                    asked.get_or_insert(now);
                    ping = self.next_ping(now);
                    continue;
                }
            }
            loop {
                let done = match frames.next(asked.is_some()) {
                    Ok(None) => break,
                    Ok(Some(Frame::Ping)) => queue.push(Out::More(Bytes::from_static(ANSWER))),
                    Ok(Some(Frame::Pong)) => {
                        answers = true;
                        Ok(())
                    }
                    Ok(Some(Frame::Message(message))) => self.take(&message, connection, queue),
                    Err(lost) => {
                        tracing::debug!(why = lost.why, "what follows in a stream can't be told");
                        let refusal = strict::refuse(&lost.head, lost.why, self.remote);
                        let Some(refusal) = refusal.filter(|_| self.gate.corrects(self.remote)) else {
                            return lost.why;
                        };
                        // RFC 3261 §18.3: it is told, and the stream is of no more use.
                        if queue.push(Out::Last(refusal.message.into())).is_ok() {
                            let _ = timeout(LINGER, drain(read)).await;
                        }
                        return lost.why;
                    }
                };
                asked = None;
                if let Err(why) = done {
                    return why;
                }
            }
            begun = if frames.is_within() { begun.or(Some(now)) } else { None };
        }
    }

    fn take(&self, message: &[u8], connection: &SipConnection, queue: &Queue) -> Result<(), Why> {
        // Even to parse a stranger's flood would cost too much.
        if !self.gate.knows(self.remote) && !self.gate.stranger(self.remote.ip()) {
            self.gate.ignore();
            return Err("a stranger says too much");
        }
        match strict::read(message, self.remote) {
            Read::Message(message, _) => {
                let message = SipConnection::update_msg_received(*message, self.remote, self.transport);
                let Ok(message) = message else { return Ok(()) };
                let from = sip(self.transport, self.remote);
                let event = TransportEvent::Incoming(message, connection.clone(), from);
                self.feed.send(event).map_err(|_| "this side is gone")
            }
            Read::Refuse(refusal) => {
                tracing::debug!(code = refusal.code, why = refusal.why, "a request that is none");
                match self.gate.corrects(self.remote) {
                    true => queue.push(Out::More(refusal.message.into())),
                    false => Ok(()),
                }
            }
            Read::Drop(why) => {
                tracing::debug!(why, "a message that is none");
                self.gate.discard();
                Ok(())
            }
            Read::Blank => Ok(()),
        }
    }

    /// RFC 5626 §4.4.1: some time between four fifths of it and the whole.
    fn next_ping(&self, now: Instant) -> Option<Instant> {
        let every = self.ping?;
        let part = f64::from(uuid::Uuid::new_v4().as_u64_pair().0 as u16) / f64::from(u16::MAX);
        Some(now + every.mul_f64(0.8 + part * 0.2))
    }
}

/// Takes what is sent at once, whether it can be written or not.
async fn collect(mut outgoing: UnboundedReceiver<TransportEvent>, queue: &Queue) -> Why {
    while let Some(event) = outgoing.recv().await {
        let TransportEvent::Incoming(message, ..) = event else { continue };
        if let Err(why) = queue.push(Out::More(message.to_bytes().into())) {
            return why;
        }
    }
    "nobody uses it"
}

async fn put<W: AsyncWrite + Unpin>(mut write: W, mut queued: UnboundedReceiver<Out>, queue: &Queue) -> Why {
    while let Some(out) = queued.recv().await {
        let (bytes, last) = match out {
            Out::More(bytes) => (bytes, false),
            Out::Last(bytes) => (bytes, true),
        };
        let written = timeout(STALLED, async {
            write.write_all(&bytes).await?;
            write.flush().await?;
            if last { write.shutdown().await } else { Ok(()) }
        });
        if !matches!(written.await, Ok(Ok(()))) {
            return "what is sent isn't taken";
        }
        queue.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        if last {
            // Who reads sees the end.
            std::future::pending::<()>().await;
        }
    }
    "nobody uses it"
}

async fn drain<R: AsyncRead + Unpin>(mut read: R) {
    let mut rest = [0; 4_096];
    while matches!(read.read(&mut rest).await, Ok(1..)) {}
}
