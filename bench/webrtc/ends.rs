//! The ends of calls: WebRTC by str0m, RIPT on a WebTransport session, and plain RTP. Each sends its packets when they are
//! due, and looks at every one that comes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use ript::media::ledger::{Receiver, Sender};
use ript::protocol::ack::Ack;
use ript::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader, encode};
use ript::transport::session::{Session, SessionSink};
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::media::{Direction, MediaKind, Mid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::RtpWrite;
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::net::UdpSocket;
use tokio::sync::watch;

const PTIME: Duration = Duration::from_millis(20);
/// What 32 kbit/s make of 20 ms.
const PAYLOAD: usize = 80;
/// RFC 6716 §3.1: hybrid, full band, one frame of 20 ms.
const TOC: u8 = 0x78;
/// What str0m calls opus.
const OPUS: u8 = 111;

/// When all begin: the first packet's time.
pub type Go = watch::Receiver<Option<Instant>>;

/// What one end sends and hears.
pub struct Tally {
    call: u32,
    side: u8,
    /// Packets to send.
    total: u32,
    /// How far into the 20 ms its packets are due.
    phase: Duration,
    seen: Mutex<Vec<bool>>,
    pub sent: AtomicU64,
    pub received: AtomicU64,
    pub doubled: AtomicU64,
    pub misrouted: AtomicU64,
    /// What its QUIC connection had no room for in time.
    pub late: AtomicU64,
}

impl Tally {
    pub fn new(call: u32, side: u8, total: u32, phase: Duration) -> Arc<Self> {
        Arc::new(Self {
            call,
            side,
            total,
            phase,
            seen: Mutex::new(vec![false; total as usize]),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            doubled: AtomicU64::new(0),
            misrouted: AtomicU64::new(0),
            late: AtomicU64::new(0),
        })
    }

    /// The next payload: it reads as opus, and says whose it is and which.
    fn next(&self) -> [u8; PAYLOAD] {
        let mut payload = [0xa5; PAYLOAD];
        let n = self.sent.fetch_add(1, Ordering::Relaxed) as u32;
        payload[0] = TOC;
        payload[1..5].copy_from_slice(&self.call.to_be_bytes());
        payload[5] = self.side;
        payload[6..10].copy_from_slice(&n.to_be_bytes());
        payload
    }

    /// When the next packet is due, if there is one.
    fn due(&self, go: &Go) -> Option<Instant> {
        let sent = self.sent.load(Ordering::Relaxed) as u32;
        let start = (*go.borrow())?;
        (sent < self.total).then(|| start + self.phase + PTIME * sent)
    }

    fn heard(&self, payload: &[u8]) {
        let mine = [&[TOC][..], &self.call.to_be_bytes(), &[1 - self.side]].concat();
        let n = payload.strip_prefix(&mine[..]).filter(|_| payload.len() == PAYLOAD);
        let n = n.and_then(|rest| rest.first_chunk()).map(|n| u32::from_be_bytes(*n) as usize);
        let mut seen = self.seen.lock().expect("no panic");
        let count = match n.and_then(|n| seen.get_mut(n)) {
            None => &self.misrouted,
            Some(true) => &self.doubled,
            Some(seen) => {
                *seen = true;
                &self.received
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn now() -> Instant {
    ript::clock::instant()
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// A browser's peer connection, without its codecs.
pub struct Browser {
    rtc: Rtc,
    socket: UdpSocket,
    pub address: SocketAddr,
    mid: Mid,
    pending: Option<SdpPendingOffer>,
    numbers: u64,
    tally: Arc<Tally>,
    connected: Arc<AtomicU64>,
}

impl Browser {
    /// With its offer. `connected` counts those whose media can flow.
    pub async fn new(tally: Arc<Tally>, connected: Arc<AtomicU64>) -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port");
        let address = socket.local_addr().expect("an address");
        let config = RtcConfig::new().clear_codecs().enable_opus(true, false).set_rtp_mode(true);
        let mut rtc = config.build(now());
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a candidate"));
        let mut changes = rtc.sdp_api();
        let mid = changes.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
        let (offer, pending) = changes.apply().expect("an offer");
        let pending = Some(pending);
        let numbers = 1_000;
        (Self { rtc, socket, address, mid, pending, numbers, tally, connected }, offer.to_sdp_string())
    }

    pub fn take_answer(&mut self, sdp: &str) {
        let answer = SdpAnswer::from_sdp_string(sdp).expect("an answer");
        let pending = self.pending.take().expect("an offer");
        self.rtc.sdp_api().accept_answer(pending, answer).expect("an answer that fits");
    }

    pub async fn run(mut self, mut go: Go) {
        let mut buffer = vec![0; 2_000];
        loop {
            let timeout = self.drain();
            let due = self.tally.due(&go);
            tokio::select! {
                _ = self.socket.readable() => {
                    while let Ok((len, source)) = self.socket.try_recv_from(&mut buffer) {
                        let Ok(contents) = (&buffer[..len]).try_into() else { continue };
                        let receive = Receive { proto: Protocol::Udp, source, destination: self.address, contents };
                        let _ = self.rtc.handle_input(Input::Receive(now(), receive));
                        self.drain();
                    }
                }
                () = until(due) => self.send(),
                () = tokio::time::sleep_until(timeout.into()) => {
                    let _ = self.rtc.handle_input(Input::Timeout(now()));
                }
                changed = go.changed() => if changed.is_err() { return },
            }
        }
    }

    fn send(&mut self) {
        let payload = self.tally.next().to_vec();
        self.numbers += 1;
        let timestamp = self.numbers as u32 * 960;
        let rtp = RtpWrite::new(OPUS.into(), self.numbers.into(), timestamp, now(), payload);
        let mut api = self.rtc.direct_api();
        api.stream_tx_by_mid(self.mid, None).expect("a stream").write_rtp(rtp);
        // str0m hands it out by time.
        let _ = self.rtc.handle_input(Input::Timeout(now()));
    }

    fn drain(&mut self) -> Instant {
        loop {
            match self.rtc.poll_output().expect("str0m goes on") {
                Output::Timeout(at) => return at,
                Output::Transmit(transmit) => {
                    let _ = self.socket.try_send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(Event::RtpPacket(packet)) => self.tally.heard(&packet.payload),
                Output::Event(Event::Connected) => {
                    self.connected.fetch_add(1, Ordering::Relaxed);
                }
                Output::Event(_) => {}
            }
        }
    }
}

/// A leg's media session: chunks and acks, as a client has them.
pub struct Ript {
    state: Mutex<(Sender, Receiver)>,
    tally: Arc<Tally>,
}

impl Ript {
    pub fn new(tally: Arc<Tally>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((Sender::new(), Receiver::new(1, 1))), tally })
    }

    pub async fn run(self: Arc<Self>, session: Session, mut go: Go) {
        loop {
            let due = self.tally.due(&go);
            tokio::select! {
                () = until(due) => self.send(&session),
                changed = go.changed() => if changed.is_err() { return },
            }
        }
    }

    fn send(&self, session: &Session) {
        let now = ript::clock::elapsed();
        let timestamp = ript::clock::now().as_millis();
        let (out, ack) = {
            let mut state = self.state.lock().expect("no panic");
            (state.0.on_send(now, timestamp, false), state.1.ack(now))
        };
        let mut chunk = BytesMut::with_capacity(128);
        let header = MediaHeader { seq: out.seq, timestamp, whole: out.whole, ..MediaHeader::default() };
        encode(&header, &self.tally.next(), &mut chunk);
        session.send_datagram(&[&chunk]);
        self.tally.late.store(session.counters().late, Ordering::Relaxed);
        if let Some(ack) = ack {
            session.send_datagram_with(|out| ack.encode(out));
        }
    }
}

impl SessionSink for Ript {
    fn on_datagram(&self, _: u64, payload: Bytes) {
        let (now, chunk) = (ript::clock::elapsed(), Chunk::parse(&payload).expect("a chunk"));
        match chunk.kind {
            Kind::Media => {
                let (seq, timestamp) = chunk.seq.zip(chunk.timestamp).expect("media has both");
                self.state.lock().expect("no panic").1.on_chunk(now, seq, timestamp);
                self.tally.heard(chunk.media().unwrap_or_default());
            }
            Kind::Control(ControlType::Ack) => {
                let ack = Ack::parse(chunk.package).expect("an ack");
                self.state.lock().expect("no panic").0.on_ack(now, &ack);
            }
            Kind::Control(_) => {}
        }
    }

    fn on_stream(&self, _: u64, body: Bytes) {
        self.on_datagram(0, body);
    }

    fn on_closed(&self, _: u64) {}
}

/// A plain RTP device.
pub struct Rtp {
    pub socket: UdpSocket,
    tally: Arc<Tally>,
}

impl Rtp {
    pub async fn new(tally: Arc<Tally>) -> Self {
        Self { socket: UdpSocket::bind("127.0.0.1:0").await.expect("a UDP port"), tally }
    }

    pub fn ssrc(&self) -> u32 {
        1 << 16 | self.tally.call
    }

    pub async fn run(self, mut go: Go) {
        let mut buffer = vec![0; 2_000];
        loop {
            let due = self.tally.due(&go);
            tokio::select! {
                _ = self.socket.readable() => {
                    while let Ok(len) = self.socket.try_recv(&mut buffer) {
                        self.tally.heard(media(&buffer[..len]));
                    }
                }
                () = until(due) => self.send(),
                changed = go.changed() => if changed.is_err() { return },
            }
        }
    }

    fn send(&self) {
        let n = self.tally.sent.load(Ordering::Relaxed) as u32;
        let ssrc = self.ssrc().to_be_bytes();
        // RFC 3550 §5.1
        let number = (n as u16).to_be_bytes();
        let head = [&[0x80, OPUS][..], &number, &(n * 960).to_be_bytes(), &ssrc].concat();
        let _ = self.socket.try_send(&[&head[..], &self.tally.next()].concat());
    }
}

/// RFC 3550 §5.1, §5.3.1: what is behind a packet's header, its CSRCs and its extension.
fn media(packet: &[u8]) -> &[u8] {
    let Some(first) = packet.first() else { return &[] };
    let mut from = 12 + 4 * usize::from(first & 15);
    if first & 0x10 != 0
        && let Some([_, _, high, low]) = packet.get(from..).and_then(|rest| rest.first_chunk())
    {
        from += 4 + 4 * usize::from(u16::from_be_bytes([*high, *low]));
    }
    packet.get(from..).unwrap_or_default()
}
