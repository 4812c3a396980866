//! A media client of the loopback world: what it sends and what came, chunk by chunk, and nothing done by itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use ript::protocol::ack::{Ack, NeedWhole, Nonce};
use ript::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader, encode};
use ript::protocol::id::LegId;
use ript::service::ports::LegPort;
use ript::transport::client::ClientError;
use ript::transport::session::{Session, SessionSink};
use serde_json::Value;
use tokio::sync::mpsc;

use super::user::encode as percent;
use super::{User, World, soon};

/// What came on a session.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    Datagram(Bytes),
    Stream(Bytes),
    Closed,
}

struct Inbox(mpsc::UnboundedSender<Came>);

impl SessionSink for Inbox {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        let _ = self.0.send(Came::Datagram(payload));
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        let _ = self.0.send(Came::Stream(body));
    }

    fn on_closed(&self, _: u64) {
        let _ = self.0.send(Came::Closed);
    }
}

/// A media session.
pub struct Media {
    pub session: Session,
    came: mpsc::UnboundedReceiver<Came>,
    probes: u64,
}

impl Media {
    pub async fn open(user: &User, uri: &str, headers: HeaderMap) -> Result<Self, ClientError> {
        let (inbox, came) = mpsc::unbounded_channel();
        let uri = user.uri(uri).parse().expect("a URI");
        let opening = user.client.open_session(uri, headers, Arc::new(Inbox(inbox)));
        let session = soon("a session", opening).await?;
        Ok(Self { session, came, probes: 0 })
    }

    /// Sends a chunk as one datagram.
    pub fn send(&self, chunk: &[u8]) {
        self.session.send_datagram(&[chunk]);
    }

    /// The next that came, whatever it is.
    pub async fn next(&mut self) -> Came {
        soon("something on the session", self.came.recv()).await.unwrap_or(Came::Closed)
    }

    /// The next chunk of this kind; what came before it is passed over.
    async fn chunk_of(&mut self, wanted: impl Fn(Kind) -> bool) -> Bytes {
        loop {
            match self.next().await {
                Came::Closed => panic!("the session closed"),
                Came::Datagram(bytes) | Came::Stream(bytes) => {
                    if wanted(Chunk::parse(&bytes).expect("a server sends readable chunks").kind) {
                        return bytes;
                    }
                }
            }
        }
    }

    /// The next media chunk.
    pub async fn media(&mut self) -> Bytes {
        self.chunk_of(|kind| kind == Kind::Media).await
    }

    /// The next control chunk of this type.
    pub async fn control(&mut self, wanted: ControlType) -> Bytes {
        self.chunk_of(|kind| kind == Kind::Control(wanted)).await
    }

    pub async fn ack(&mut self) -> Ack {
        let bytes = self.control(ControlType::Ack).await;
        Ack::parse(Chunk::parse(&bytes).expect("a chunk").package).expect("an ack")
    }

    /// Acknowledges all up to `newest`.
    pub fn acknowledge(&self, newest: u64) {
        self.acknowledge_runs(newest, vec![newest + 1]);
    }

    pub fn acknowledge_runs(&self, newest: u64, runs: Vec<u64>) {
        let mut out = BytesMut::new();
        Ack { source: 1, sink: 1, newest, delay_ms: 0, runs: runs.into() }.encode(&mut out);
        self.send(&out);
    }

    pub fn need_whole(&self) {
        let mut out = BytesMut::new();
        NeedWhole { source: 1, sink: 1 }.encode(&mut out);
        self.send(&out);
    }

    /// Probes, and returns what came before the answer: after it, the server has dealt with all that was sent here.
    pub async fn settle(&mut self) -> Vec<Bytes> {
        self.probes += 1;
        let nonce = Nonce::new(&self.probes.to_be_bytes()).expect("a nonce");
        let mut out = BytesMut::new();
        nonce.encode_probe(&mut out);
        self.send(&out);
        let mut before = Vec::new();
        let mut again = tokio::time::interval(Duration::from_millis(300));
        again.tick().await;
        loop {
            let came = tokio::select! {
                came = soon("the answer to a probe", self.came.recv()) => came.unwrap_or(Came::Closed),
                // A probe or its answer may be lost like any datagram.
                _ = again.tick() => {
                    self.send(&out);
                    continue;
                }
            };
            match came {
                Came::Closed => panic!("the session closed"),
                Came::Datagram(bytes) | Came::Stream(bytes) => {
                    let chunk = Chunk::parse(&bytes).expect("a chunk");
                    if chunk.kind == Kind::Control(ControlType::ProbeAnswer)
                        && chunk.package == nonce.as_bytes()
                    {
                        return before;
                    }
                    before.push(bytes);
                }
            }
        }
    }

    /// Waits for the end of the session.
    pub async fn closed(&mut self) {
        while self.next().await != Came::Closed {}
    }
}

/// What `to` has got of all that `from` sent until now, media only.
pub async fn through(from: &mut Media, to: &mut Media) -> Vec<Bytes> {
    from.settle().await;
    let got = to.settle().await;
    got.into_iter().filter(|bytes| Chunk::parse(bytes).expect("a chunk").kind == Kind::Media).collect()
}

/// An audio chunk of stream 1 to 1.
pub fn audio(seq: u64, timestamp: u64, whole: bool, payload: &[u8]) -> Bytes {
    made(&MediaHeader { seq, timestamp, whole, ..MediaHeader::default() }, payload)
}

pub fn made(header: &MediaHeader, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    encode(header, payload, &mut out);
    out.freeze()
}

/// Sequence number, timestamp, whether both are whole, and the media.
pub fn read(bytes: &[u8]) -> (u64, u64, bool, Vec<u8>) {
    let chunk = Chunk::parse(bytes).expect("a chunk");
    let (seq, timestamp) = (chunk.seq.expect("tag 1"), chunk.timestamp.expect("tag 2"));
    let media = chunk.media().expect("media").to_vec();
    (seq.value, timestamp.value, seq.is_whole() && timestamp.is_whole(), media)
}

impl User {
    /// The URI of the media session, with a fresh ticket for that device.
    pub async fn ticket(&self, call: &str, handler: &str) -> String {
        let description = self.get(&format!("{call}?handler={}", percent(handler))).await.json();
        description["media"]["webtransport"].as_str().expect("a ticket").to_owned()
    }

    /// A media session by ticket.
    pub async fn media(&self, call: &str, handler: &str) -> Media {
        let uri = self.ticket(call, handler).await;
        let mut media = Media::open(self, &uri, HeaderMap::new()).await.expect("a session");
        // wire §1: a session is trusted once a probe came back; before, the server may not know it as a way.
        media.settle().await;
        media
    }

    pub fn bearer(&self) -> HeaderMap {
        let value = format!("Bearer {}", self.token).parse().expect("a header");
        HeaderMap::from_iter([(http::header::AUTHORIZATION, value)])
    }

    /// The refusal of a media session.
    pub async fn refused(&self, uri: &str, headers: HeaderMap) -> (u16, String) {
        match Media::open(self, uri, headers).await {
            Ok(_) => panic!("{uri} was opened"),
            Err(ClientError::Refused { status, body, .. }) => {
                let problem: Value = serde_json::from_slice(&body).expect("a problem");
                (status.as_u16(), problem["code"].as_str().unwrap_or_default().to_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl World {
    /// The server's port of a call's leg, to look at its counters.
    pub fn port(&self, call: &str) -> Arc<LegPort> {
        let leg: LegId = call.rsplit('/').next().expect("a leg").parse().expect("a leg");
        self.service.ports.get(leg).expect("a live leg")
    }
}

/// Two users in a call, with a media session each.
pub struct Pair {
    pub alice: User,
    pub bob: User,
    pub a1: String,
    pub b1: String,
    /// The call, as each of them sees it.
    pub mine: String,
    pub theirs: String,
}

impl Pair {
    /// Alice calls Bob, whose device rings.
    pub async fn ringing(world: &World, advertisements: [&str; 2]) -> Self {
        let alice = world.user("alice", "+14085550001").await;
        let bob = world.user("bob", "+14085550002").await;
        let (a1, b1) =
            (alice.register("a1", advertisements[0]).await, bob.register("b1", advertisements[1]).await);
        let mine = alice.call(&a1, &bob.number).await["uri"].as_str().expect("a uri").to_owned();
        let theirs = bob.calls().await.pop().expect("a ringing call");
        Self { alice, bob, a1, b1, mine, theirs }
    }

    pub async fn answered(world: &World, advertisements: [&str; 2]) -> Self {
        let pair = Self::ringing(world, advertisements).await;
        pair.answer().await;
        pair
    }

    pub async fn answer(&self) {
        let claimed = self.bob.claim(&self.theirs, &self.b1, Some("answer")).await;
        assert_eq!(claimed.status, 200, "{claimed:?}");
        self.by_bob("answered").await;
    }

    pub async fn by_alice(&self, event: &str) {
        let done = self.alice.event(&self.mine, &self.a1, serde_json::json!({ "event": event })).await;
        assert_eq!(done.status, 200, "{done:?}");
    }

    pub async fn by_bob(&self, event: &str) {
        let done = self.bob.event(&self.theirs, &self.b1, serde_json::json!({ "event": event })).await;
        assert_eq!(done.status, 200, "{done:?}");
    }

    /// Both media sessions.
    pub async fn media(&self) -> (Media, Media) {
        (self.alice.media(&self.mine, &self.a1).await, self.bob.media(&self.theirs, &self.b1).await)
    }
}
