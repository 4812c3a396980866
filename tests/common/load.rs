//! Many calls at once from one client: every chunk carries its call's and direction's mark, and is looked at where it
//! arrives.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use ript::media::ledger::{Receiver, Sender, Verdict};
use ript::protocol::ack::Ack;
use ript::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader, encode};
use ript::transport::session::{Session, SessionSink};
use serde_json::json;
use tokio::task::JoinSet;

use super::soon;
use super::user::{BOTH, User, encode as percent};

/// As much as 20 ms of opus at 32 kbit/s.
const PAYLOAD: usize = 80;
/// Milliseconds between the chunks of a stream.
const FRAME: u64 = 20;

/// What became of all chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub sent: u64,
    pub received: u64,
    pub doubled: u64,
    pub misrouted: u64,
    /// Of those not received, dropped by the sender because they were too old to send.
    pub late: u64,
}

/// One leg's end: it sends its stream, and looks at the other's.
pub struct End {
    call: u32,
    caller: bool,
    session: OnceLock<Session>,
    state: Mutex<State>,
    received: AtomicU64,
    doubled: AtomicU64,
    misrouted: AtomicU64,
}

struct State {
    sender: Sender,
    receiver: Receiver,
    sent: u64,
    scratch: BytesMut,
}

impl End {
    fn new(call: u32, caller: bool) -> Arc<Self> {
        let state = State {
            sender: Sender::new(),
            receiver: Receiver::new(1, 1),
            sent: 0,
            scratch: BytesMut::with_capacity(4096),
        };
        Arc::new(Self {
            call,
            caller,
            session: OnceLock::new(),
            state: Mutex::new(state),
            received: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            misrouted: AtomicU64::new(0),
        })
    }

    fn mark(call: u32, caller: bool) -> [u8; PAYLOAD] {
        let mut payload = [0xa5; PAYLOAD];
        payload[..4].copy_from_slice(&call.to_be_bytes());
        payload[4] = u8::from(caller);
        payload
    }

    fn send(&self) {
        let Some(session) = self.session.get() else { return };
        let now = ript::clock::elapsed();
        let mut state = self.state.lock().unwrap();
        let State { sender, scratch, sent, .. } = &mut *state;
        let timestamp = 1_000_000 + *sent * FRAME;
        let out = sender.on_send(now, timestamp, false);
        *sent += 1;
        scratch.clear();
        let header = MediaHeader { seq: out.seq, timestamp, whole: out.whole, ..MediaHeader::default() };
        encode(&header, &Self::mark(self.call, self.caller), scratch);
        session.send_datagram(&[scratch]);
    }
}

/// The sink of a session is its end; the session itself is known only later.
struct Inlet(Arc<End>);

impl SessionSink for Inlet {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        let end = &self.0;
        let now = ript::clock::elapsed();
        let Ok(chunk) = Chunk::parse(&payload) else {
            end.misrouted.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut state = end.state.lock().unwrap();
        match chunk.kind {
            Kind::Control(ControlType::Ack) => {
                if let Ok(ack) = Ack::parse(chunk.package) {
                    state.sender.on_ack(now, &ack);
                }
            }
            Kind::Control(_) => {}
            Kind::Media => {
                let (Some(seq), Some(timestamp)) = (chunk.seq, chunk.timestamp) else { return };
                let count = match state.receiver.on_chunk(now, seq, timestamp) {
                    Verdict::Fresh { .. } if chunk.media() == Some(&End::mark(end.call, !end.caller)) => {
                        &end.received
                    }
                    Verdict::Duplicate => &end.doubled,
                    _ => &end.misrouted,
                };
                count.fetch_add(1, Ordering::Relaxed);
                let ack = state.receiver.ack(now);
                drop(state);
                if let (Some(ack), Some(session)) = (ack, end.session.get()) {
                    session.send_datagram_with(|out| ack.encode(out));
                }
            }
        }
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        self.on_datagram(0, body);
    }

    fn on_closed(&self, _: u64) {}
}

/// Calls that stand, with media open on both sides.
pub struct Load {
    pub callers: User,
    pub callees: User,
    ends: Vec<Arc<End>>,
    /// Readers of signalling: a call without a byway ends after 30 s.
    _signalling: JoinSet<()>,
}

/// Keeps a call's reverse byway open and read.
async fn signalling(user: User, call: String, handler: String) {
    let request = user.builder("GET", &format!("{call}/events?handler={}", percent(&handler)));
    let request = request.body(Body::empty()).expect("a request");
    let Ok(response) = user.client.request(request).await else { return };
    let mut body = response.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}

impl Load {
    /// Callers share one connection, callees another.
    pub async fn of(alice: User, bob: User, calls: u32) -> Self {
        let (a1, b1) = (alice.register("a1", BOTH).await, bob.register("b1", BOTH).await);
        let mut taps = bob.stream(&format!("push?handler={}", percent(&b1))).await;
        let (mut ends, mut readers) = (Vec::new(), JoinSet::new());
        for call in 0..calls {
            let placed = alice.call(&a1, &bob.number).await;
            let mine = placed["uri"].as_str().expect("a uri");
            let tap = taps.next().await.expect("a tap");
            let theirs = tap["call"].as_str().expect("a call").to_owned();
            let claimed = bob.claim(&theirs, &b1, Some("answer")).await;
            assert_eq!(claimed.status, 200, "{claimed:?}");
            let answered = bob.event(&theirs, &b1, json!({"event": "answered"})).await;
            assert_eq!(answered.status, 200, "{answered:?}");
            for (user, uri, handler, caller) in [(&alice, mine, &a1, true), (&bob, &theirs, &b1, false)] {
                readers.spawn(signalling(user.clone(), uri.to_owned(), handler.clone()));
                let end = End::new(call, caller);
                let ticket = user.ticket(uri, handler).await.parse().expect("a URI");
                let opening =
                    user.client.open_session(ticket, HeaderMap::new(), Arc::new(Inlet(end.clone())));
                let session = soon("a session", opening).await.expect("a session");
                end.session.set(session).expect("it is set once");
                ends.push(end);
            }
        }
        Self { callers: alice, callees: bob, ends, _signalling: readers }
    }

    /// Sends 50 chunks a second on each stream for that long. `in_flight`: chunks of one stream that may be under way; a
    /// slow machine then takes longer, and loses nothing.
    pub async fn run(&self, time: Duration, in_flight: Option<u64>) {
        let rounds = time.as_millis() as u64 / FRAME;
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        for round in 0..rounds {
            for slot in 0..FRAME {
                tick.tick().await;
                // A twentieth of the streams each millisecond.
                for (at, end) in self.ends.iter().enumerate().filter(|(at, _)| *at as u64 % FRAME == slot) {
                    if let Some(in_flight) = in_flight {
                        let other = &self.ends[at ^ 1];
                        soon("a chunk", async {
                            while other.received.load(Ordering::Relaxed) + in_flight <= round {
                                tokio::time::sleep(Duration::from_millis(1)).await;
                            }
                        })
                        .await;
                    }
                    end.send();
                }
            }
        }
    }

    /// Waits until all has come, or nothing more comes.
    pub async fn settle(&self) -> Figures {
        let (mut before, mut still) = (self.figures(), 0);
        loop {
            let now = self.figures();
            still = if now == before { still + 1 } else { 0 };
            if now.received == now.sent || still == 40 {
                return now;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub fn figures(&self) -> Figures {
        let sum = |of: fn(&End) -> &AtomicU64| {
            self.ends.iter().map(|end| of(end).load(Ordering::Relaxed)).sum::<u64>()
        };
        Figures {
            sent: self.ends.iter().map(|end| end.state.lock().unwrap().sent).sum(),
            received: sum(|end| &end.received),
            doubled: sum(|end| &end.doubled),
            misrouted: sum(|end| &end.misrouted),
            late: self.callers.client.counters().late + self.callees.client.counters().late,
        }
    }
}
