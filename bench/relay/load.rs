//! The load: the devices of all calls on one thread, which wakes every millisecond and sends what is due: each leg
//! every 20 ms, the legs evenly spread over those.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use ript::identity::jwk::SigningKey;
use ript::media::ledger::{Receiver, Sender, Verdict};
use ript::protocol::ack::Ack;
use ript::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader, encode};
use ript::protocol::varint;
use ript::transport::session::{Session, SessionSink};
use ript::transport::{quic, tls};
use serde_json::json;

use crate::common::user::{ALL_SCOPES, BOTH, User, encode as percent, token};
use crate::process::cpu_ns;
use crate::{Figure, Job, Place, Relay, Shape};

/// Between a leg's chunks.
const PTIME: Duration = Duration::from_millis(20);
/// What 32 kbit/s make of 20 ms.
const MEDIA: [u8; 80] = [0x5a; 80];
/// Chunks with whole numbers where nobody acknowledges them: as many as go out before the first ack comes.
const WHOLE: u64 = 8;
const WARM_UP: Duration = Duration::from_secs(2);
/// After the last chunk: time for what is under way.
const DRAIN: Duration = Duration::from_millis(500);

pub fn run() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a job");
    let job: Job = serde_json::from_str(&line).expect("a job");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figure = runtime.block_on(async {
        let load = match job.relay {
            Relay::Ript => calls(&job).await,
            Relay::Bare | Relay::BareAcks => bare(&job).await,
        };
        load.run(&job).await
    });
    println!("{}", serde_json::to_string(&figure).expect("a figure"));
}

/// How a leg's datagrams go out.
enum Way {
    Session(Session),
    /// The call's number is in front of each.
    Bare(quinn::Connection, u64),
}

struct State {
    sender: Sender,
    receiver: Receiver,
    sent: u64,
    came: u64,
}

struct Leg(Mutex<State>);

impl Leg {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            sender: Sender::new(),
            receiver: Receiver::new(1, 1),
            sent: 0,
            came: 0,
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }
}

impl SessionSink for Leg {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        let (now, chunk) = (ript::clock::elapsed(), Chunk::parse(&payload).expect("a chunk"));
        let mut state = self.state();
        match chunk.kind {
            Kind::Media => {
                let (seq, timestamp) = chunk.seq.zip(chunk.timestamp).expect("media has both");
                let verdict = state.receiver.on_chunk(now, seq, timestamp);
                state.came += u64::from(matches!(verdict, Verdict::Fresh { .. }));
            }
            Kind::Control(ControlType::Ack) => {
                let ack = Ack::parse(chunk.package).expect("an ack");
                state.sender.on_ack(now, &ack);
            }
            Kind::Control(_) => {}
        }
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        self.on_datagram(0, body);
    }

    fn on_closed(&self, _: u64) {}
}

struct Load {
    legs: Vec<(Arc<Leg>, Way)>,
    connections: Vec<quinn::Connection>,
    users: Vec<User>,
}

impl Load {
    async fn run(self, job: &Job) -> Figure {
        let start = ript::clock::elapsed();
        let (from, to) = (start + WARM_UP, start + WARM_UP + Duration::from_secs(job.seconds));
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut due = 0_u64;
        let mut before = None;
        let acks = job.relay != Relay::Bare;
        loop {
            ticks.tick().await;
            let now = ript::clock::elapsed();
            if before.is_none() && now >= from {
                before = Some((cpu_ns(job.pid), self.came(), self.packets()));
            }
            if now >= to {
                break;
            }
            let passed = (now - start).as_nanos() * self.legs.len() as u128 / PTIME.as_nanos();
            while u128::from(due) < passed {
                let (leg, way) = &self.legs[(due % self.legs.len() as u64) as usize];
                send(now, leg, way, acks);
                due += 1;
            }
        }
        let (cpu, came, packets) = before.expect("the window began");
        let cpu_ns = cpu_ns(job.pid) - cpu;
        let relayed = self.came() - came;
        let now = self.packets();
        let per = |n: usize| (now[n + 1] - packets[n + 1]) as f64 / (now[n] - packets[n]) as f64;
        let (packed, repacked) = (per(0), per(2));
        tokio::time::sleep(DRAIN).await;
        let sent: u64 = self.legs.iter().map(|(leg, _)| leg.state().sent).sum();
        Figure { cpu_ns, relayed, lost: sent - self.came(), packed, repacked }
    }

    fn came(&self) -> u64 {
        self.legs.iter().map(|(leg, _)| leg.state().came).sum()
    }

    /// UDP datagrams that went out, and the QUIC datagrams in them; the same that came in.
    fn packets(&self) -> [u64; 4] {
        let bare = self.connections.iter().map(quinn::Connection::stats);
        let all = bare.chain(self.users.iter().map(|user| user.client.stats()));
        let counts = |s: quinn::ConnectionStats| {
            [s.udp_tx.datagrams, s.frame_tx.datagram, s.udp_rx.datagrams, s.frame_rx.datagram]
        };
        all.map(counts).fold([0; 4], |sum, one| std::array::from_fn(|n| sum[n] + one[n]))
    }
}

/// The next chunk, and an ack beside it when one is due.
fn send(now: Duration, leg: &Leg, way: &Way, acks: bool) {
    let mut state = leg.state();
    state.sent += 1;
    let timestamp = now.as_millis() as u64;
    let mut outgoing = state.sender.on_send(now, timestamp, false);
    let ack = if acks { state.receiver.ack(now) } else { None };
    drop(state);
    let put = |datagram: BytesMut| match way {
        Way::Session(session) => {
            session.send_datagram(&[&datagram]);
        }
        Way::Bare(conn, _) => conn.send_datagram(datagram.freeze()).expect("a connection"),
    };
    let mut out = BytesMut::with_capacity(128);
    if let Way::Bare(_, call) = way {
        varint::put(*call, &mut out);
        outgoing.whole = outgoing.seq < WHOLE;
    }
    let mut head = out.clone();
    let header =
        MediaHeader { seq: outgoing.seq, timestamp, whole: outgoing.whole, ..MediaHeader::default() };
    encode(&header, &MEDIA, &mut out);
    put(out);
    if let Some(ack) = ack {
        ack.encode(&mut head);
        put(head);
    }
}

/// Real calls: registered, placed with a PASSporT, answered, each leg's events open, media by ticket.
async fn calls(job: &Job) -> Load {
    let issuer = SigningKey::from_pem(&job.place.issuer).expect("a key");
    let mut pairs = Vec::new();
    let users = if job.shape == Shape::Trunk { 1 } else { job.shape.calls() };
    for n in 0..users {
        let caller = user(&job.place, &issuer, 2 * n).await;
        pairs.push((caller, user(&job.place, &issuer, 2 * n + 1).await));
    }
    let mut legs = Vec::new();
    for n in 0..job.shape.calls() {
        let ((caller, from), (callee, to)) = &pairs[n % users];
        let call = caller.call(from, &callee.number).await;
        let mine = call["uri"].as_str().expect("a URI").to_owned();
        let list = callee.get("providertgs/test/calls").await.json();
        let mut ringing =
            list["calls"].as_array().expect("a list").iter().filter(|c| c["state"] != "answered");
        let theirs = ringing.next().expect("a ringing call")["uri"].as_str().expect("a URI");
        listen(callee, theirs, to).await;
        assert_eq!(callee.claim(theirs, to, Some("answer")).await.status, 200);
        assert_eq!(callee.event(theirs, to, json!({"event": "answered"})).await.status, 200);
        listen(caller, &mine, from).await;
        legs.push(media(caller, &mine, from).await);
        legs.push(media(callee, theirs, to).await);
    }
    let users = pairs.into_iter().flat_map(|((a, _), (b, _))| [a, b]).collect();
    Load { legs, connections: Vec::new(), users }
}

async fn user(place: &Place, issuer: &SigningKey, n: usize) -> (User, String) {
    let number = format!("+1408555{n:04}");
    let token = token(issuer, &format!("user{n}"), &[&number], &["test"], ALL_SCOPES);
    let user = User::at(&place.ca, address(place), place.passports.clone(), token, &number).await;
    let handler = user.register("phone", BOTH).await;
    (user, handler)
}

/// Keeps the leg's events open, as a device does.
async fn listen(user: &User, call: &str, handler: &str) {
    let mut events = user.events(call, handler, None).await;
    tokio::spawn(async move { while events.next_ever().await.is_some() {} });
}

async fn media(user: &User, call: &str, handler: &str) -> (Arc<Leg>, Way) {
    let description = user.get(&format!("{call}?handler={}", percent(handler))).await.json();
    let uri = description["media"]["webtransport"].as_str().expect("a URI").parse().expect("a URI");
    let leg = Leg::new();
    let session = user.client.open_session(uri, HeaderMap::new(), leg.clone()).await.expect("a session");
    (leg, Way::Session(session))
}

fn address(place: &Place) -> SocketAddr {
    ([127, 0, 0, 1], place.port).into()
}

async fn bare(job: &Job) -> Load {
    let calls = job.shape.calls();
    let pairs = if job.shape == Shape::Trunk { 1 } else { calls };
    let mut connections = Vec::new();
    let all: Vec<Arc<Leg>> = (0..2 * calls).map(|_| Leg::new()).collect();
    let all: Arc<[Arc<Leg>]> = all.into();
    for n in 0..2 * pairs {
        let tls = tls::quic_client(tls::roots(Some(&job.place.ca)).expect("roots")).expect("TLS");
        let endpoint = quic::client_endpoint(tls, address(&job.place)).expect("an endpoint");
        let conn =
            endpoint.connect(address(&job.place), "127.0.0.1").expect("a way").await.expect("a connection");
        let own: Vec<u64> = (0..calls as u64).filter(|call| *call as usize % pairs == n / 2).collect();
        let mut hello = conn.open_uni().await.expect("a stream");
        hello.write_all(&serde_json::to_vec(&(n, own)).expect("a hello")).await.expect("a connection");
        hello.finish().expect("a stream");
        let _ = hello.stopped().await;
        let (all, side, reader) = (all.clone(), n % 2, conn.clone());
        tokio::spawn(async move {
            while let Ok(datagram) = reader.read_datagram().await {
                let (call, used) = varint::get(&datagram).expect("a call");
                all[2 * call as usize + side].on_datagram(0, datagram.slice(used..));
            }
        });
        connections.push(conn);
    }
    let way = |leg: usize| {
        let (call, side) = (leg / 2, leg % 2);
        Way::Bare(connections[2 * (call % pairs) + side].clone(), call as u64)
    };
    let legs = all.iter().cloned().enumerate().map(|(n, leg)| (leg, way(n))).collect();
    Load { legs, connections, users: Vec::new() }
}
