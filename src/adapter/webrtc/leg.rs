//! A session's one owner: a task that feeds str0m and moves media between the browser and the call's port.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};
use str0m::net::{DatagramRecv, Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Event, IceConnectionState, Input, Output};
use tokio::sync::{mpsc, oneshot};

use super::bridge::{Arrived, Bridge, Departing};
use super::port::{ADDRESSES, Datagram, Port};
use super::rtc::Negotiation;
use super::sdp::BadSdp;
use crate::clock;
use crate::media::quality::{self, Impairment};
use crate::protocol::advertisement::Advertisement;
use crate::protocol::directive::Directives;
use crate::protocol::id::CallId;
use crate::service::ports::{Entrance, MediaPath};

/// What may wait for a session: a quarter of a second of audio and video, and then some.
const INBOX: usize = 512;
/// How often a session looks whether acks or probes are due.
const TICK: Duration = Duration::from_millis(100);
/// Frames that stand alone are asked for no more often.
const KEY_FRAMES: Duration = Duration::from_millis(500);

/// A description of ours, and what the other side can do.
#[derive(Clone, Debug)]
pub struct Described {
    /// The session description.
    pub sdp: String,
    /// What the browser sends and renders itself.
    pub native: Advertisement,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum LegEvent {
    /// Media can flow.
    Connected,
    /// The browser is not heard any more; it may come back.
    Disconnected,
    /// A digit was pressed that the call's directives take as an event only.
    Digit(char, u32),
    /// How the browser says that it hears: an entry for a `quality` event.
    Quality(Value),
}

type Answer<T> = oneshot::Sender<Result<T, BadSdp>>;

#[derive(Debug)]
pub(super) enum Command {
    Datagram(Datagram),
    Chunk(Bytes),
    Offer(String, Answer<Described>),
    MakeOffer(bool, Answer<String>),
    Answer(String, Answer<Advertisement>),
    Attach(Entrance, CallId),
    Directives(Directives, Directives),
    KeyFrame,
}

/// What others hold of a session; when it is dropped the session ends.
#[derive(Debug)]
pub struct Leg {
    inbox: mpsc::Sender<Command>,
    port: Arc<Port>,
    task: tokio::task::JoinHandle<()>,
    /// Reads the port, where it is the session's own.
    reader: Option<tokio::task::AbortHandle>,
}

impl Drop for Leg {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(reader) = &self.reader {
            reader.abort();
        }
    }
}

/// The session as a leg's way to its browser.
struct ChunkPath {
    inbox: mpsc::Sender<Command>,
    port: Arc<Port>,
}

impl MediaPath for ChunkPath {
    fn send(&self, chunk: &[u8]) -> bool {
        match self.inbox.try_send(Command::Chunk(Bytes::copy_from_slice(chunk))) {
            Ok(()) => true,
            // Who is that far behind plays nothing of it any more.
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.port.counters.overrun.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn close(&self, _: &str) {}

    fn is_session(&self) -> bool {
        true
    }
}

fn gone<E>(_: E) -> BadSdp {
    BadSdp("the session is over".to_owned())
}

impl Leg {
    pub(super) fn start(
        port: Arc<Port>,
        reader: Option<tokio::task::AbortHandle>,
    ) -> (Self, mpsc::Receiver<LegEvent>) {
        let (inbox, commands) = mpsc::channel(INBOX);
        let (events, happened) = mpsc::channel(64);
        let own = inbox.clone();
        let owner = Owner::new(port.clone(), own, events);
        (Self { inbox, port, task: tokio::spawn(owner.run(commands)), reader }, happened)
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, BadSdp> {
        let (answer, answered) = oneshot::channel();
        self.inbox.send(command(answer)).await.map_err(gone)?;
        answered.await.map_err(gone)?
    }

    /// Answers an offer: the first one, one that changes the session, or one from a new session of the same client.
    pub async fn offered(&self, sdp: String) -> Result<Described, BadSdp> {
        self.ask(|answer| Command::Offer(sdp, answer)).await
    }

    /// Offers audio, and video if asked for.
    pub async fn offer(&self, video: bool) -> Result<String, BadSdp> {
        self.ask(|answer| Command::MakeOffer(video, answer)).await
    }

    /// Takes the answer to the newest offer: what the browser sends and renders.
    pub async fn answered(&self, sdp: String) -> Result<Advertisement, BadSdp> {
        self.ask(|answer| Command::Answer(sdp, answer)).await
    }

    /// The session as a way for chunks.
    pub fn path(&self) -> Arc<dyn MediaPath> {
        Arc::new(ChunkPath { inbox: self.inbox.clone(), port: self.port.clone() })
    }

    /// Where what comes from the browser goes.
    pub async fn attach(&self, entrance: Entrance, call: CallId) {
        let _ = self.inbox.send(Command::Attach(entrance, call)).await;
    }

    /// What is in force now: what the browser's side sends, and what it receives.
    pub async fn direct(&self, sends: Directives, receives: Directives) {
        let _ = self.inbox.send(Command::Directives(sends, receives)).await;
    }
}

/// The task's own: when it is dropped, the port forgets the session.
struct Owner {
    id: u64,
    port: Arc<Port>,
    inbox: mpsc::Sender<Command>,
    events: mpsc::Sender<LegEvent>,
    session: Negotiation,
    bridge: Bridge,
    entrance: Option<Entrance>,
    call: Option<CallId>,
    admitted: Vec<SocketAddr>,
    asked: Option<Instant>,
    /// RTP came, and str0m has not handed it out yet.
    expecting: bool,
}

/// RFC 5761 §4, RFC 7983 §7: RTP, and not RTCP.
fn is_rtp(data: &[u8]) -> bool {
    matches!(data, [128..=191, kind, ..] if !(192..=223).contains(kind))
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.port.forget(self.id, self.call);
        self.port.sessions.fetch_sub(1, Ordering::Relaxed);
        if let Some(entrance) = &self.entrance {
            entrance.closed();
        }
    }
}

impl Owner {
    fn new(port: Arc<Port>, inbox: mpsc::Sender<Command>, events: mpsc::Sender<LegEvent>) -> Self {
        let id = port.name();
        let session = Negotiation::new(&port);
        let (a, b) = uuid::Uuid::new_v4().as_u64_pair();
        let bridge = Bridge::new([a as u32, b as u32, (b >> 32) as u32]);
        let admitted = Vec::new();
        Self {
            id,
            port,
            inbox,
            events,
            session,
            bridge,
            entrance: None,
            call: None,
            admitted,
            asked: None,
            expecting: false,
        }
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let name = self.session.user_fragment();
        self.port.enlist(self.id, &name, &self.inbox);
        let mut ticker = tokio::time::interval(TICK);
        ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.drain();
            if std::mem::take(&mut self.expecting) {
                // A replay, a stranger's packet from a known address, or a key that is not ours.
                self.refused();
            }
            tokio::select! {
                command = commands.recv() => {
                    let Some(command) = command else { return };
                    self.command(command);
                }
                () = tokio::time::sleep_until(due.into()) => self.input(Input::Timeout(clock::instant())),
                _ = ticker.tick() => self.controls(),
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Datagram(Datagram { from, to, at, data }) => {
                let Ok(contents) = DatagramRecv::try_from(&data[..]) else { return self.refused() };
                let receive = Receive { proto: Protocol::Udp, source: from, destination: to, contents };
                let input = Input::Receive(at, receive);
                if self.session.rtc.accepts(&input) {
                    self.expecting = is_rtp(&data);
                    self.input(input);
                } else {
                    self.refused();
                }
            }
            Command::Chunk(bytes) => {
                let packets = self.bridge.on_chunk(clock::elapsed(), &bytes);
                if !packets.is_empty() {
                    packets.into_iter().for_each(|packet| self.depart(packet));
                    // str0m sends what was written at its next look at the clock: that is now, not a timer's turn later.
                    self.input(Input::Timeout(clock::instant()));
                }
            }
            Command::Offer(sdp, answer) => {
                let _ = answer.send(self.offered(&sdp));
            }
            Command::MakeOffer(video, answer) => {
                let _ = answer.send(self.session.offer(video));
            }
            Command::Answer(sdp, answer) => {
                let done = self.session.answered(&sdp).map(|()| self.agree());
                let _ = answer.send(done);
            }
            Command::Attach(entrance, call) => {
                if let Some(before) = self.entrance.replace(entrance) {
                    before.closed();
                }
                self.call = Some(call);
                self.port.join(self.id, call, &self.inbox);
            }
            Command::Directives(sends, receives) => {
                if self.bridge.set_directives(sends, receives) {
                    self.want_key_frame();
                }
            }
            Command::KeyFrame => self.want_key_frame(),
        }
    }

    fn offered(&mut self, sdp: &str) -> Result<Described, BadSdp> {
        // RFC 8842 §5.5: another certificate is another DTLS association, and so another session.
        if self.session.is_foreign(sdp) || !self.session.rtc.is_alive() {
            let mut fresh = Negotiation::new(&self.port);
            let answer = fresh.answer(sdp)?;
            self.session = fresh;
            self.admitted.clear();
            return Ok(self.described(answer));
        }
        let answer = self.session.answer(sdp)?;
        Ok(self.described(answer))
    }

    fn described(&mut self, sdp: String) -> Described {
        let native = self.agree();
        // An ICE restart gives us a new name too.
        let name = self.session.user_fragment();
        self.port.enlist(self.id, &name, &self.inbox);
        Described { sdp, native }
    }

    fn agree(&mut self) -> Advertisement {
        let agreed = self.session.agreed();
        let native = agreed.advertisement();
        self.bridge.set_agreed(agreed);
        native
    }

    fn input(&mut self, input: Input<'_>) {
        if let Err(error) = self.session.rtc.handle_input(input) {
            tracing::debug!(%error, "a WebRTC session would not have what came");
            self.refused();
        }
    }

    fn refused(&self) {
        self.port.counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Does what str0m says, until it waits; for how long.
    fn drain(&mut self) -> Instant {
        loop {
            match self.session.rtc.poll_output() {
                Ok(Output::Timeout(at)) => return at,
                Ok(Output::Transmit(transmit)) => {
                    let to = transmit.destination;
                    if !self.admitted.contains(&to) {
                        // A valid check came from there, or our own goes there.
                        if self.admitted.len() >= ADDRESSES {
                            self.admitted.remove(0);
                        }
                        self.admitted.push(to);
                        self.port.admit(self.id, to, &self.inbox);
                    }
                    self.port.send(to, &transmit.contents);
                }
                Ok(Output::Event(event)) => self.event(event),
                Err(error) => {
                    tracing::debug!(%error, "a WebRTC session failed");
                    self.tell(LegEvent::Disconnected);
                    return clock::instant() + Duration::from_secs(3_600);
                }
            }
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::RtpPacket(packet) => self.rtp(&packet),
            Event::Connected => self.tell(LegEvent::Connected),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) | Event::Closed => {
                self.tell(LegEvent::Disconnected);
            }
            Event::IceConnectionStateChange(
                IceConnectionState::Connected | IceConnectionState::Completed,
            ) if self.session.rtc.is_connected() => {
                self.tell(LegEvent::Connected);
            }
            Event::KeyframeRequest(_) => {
                if let Some(call) = self.call {
                    self.port.ask_for_key_frame(self.id, call);
                }
            }
            Event::MediaEgressStats(stats) => {
                if let (Some(remote), Some(hears)) = (&stats.remote, self.bridge.hears(stats.mid)) {
                    let lost = remote.packets_lost;
                    let delay = stats.rtt.unwrap_or_default().as_secs_f64() * 500.0;
                    let share = f64::from(stats.loss.unwrap_or_default());
                    let codec = Impairment::of(hears.codec.payload_type());
                    let rating = quality::rating(codec, delay, share, 1.0);
                    self.tell(LegEvent::Quality(json!({
                        "source": hears.source, "sink": hears.sink, "sent": stats.packets,
                        "received": stats.packets.saturating_sub(lost), "lost": lost, "late": 0,
                        "jitter-ms": hears.milliseconds(remote.jitter), "delay-ms": delay,
                        "mos": quality::mos(rating),
                    })));
                }
            }
            _ => {}
        }
    }

    fn tell(&self, event: LegEvent) {
        // Who doesn't read learns of it by the next one.
        let _ = self.events.try_send(event);
    }

    fn rtp(&mut self, packet: &RtpPacket) {
        self.expecting = false;
        let ext = &packet.header.ext_vals;
        let voice = u8::from(ext.voice_activity.unwrap_or_default()) << 7;
        let level = ext.audio_level.map(|level| level.unsigned_abs() & 0x7f | voice);
        let arrived = Arrived {
            pt: packet.header.payload_type,
            ssrc: *packet.header.ssrc,
            packet: *packet.seq_no,
            timestamp: packet.time.numer(),
            marker: packet.header.marker,
            level,
            payload: &packet.payload,
        };
        let outcome = self.bridge.on_rtp(clock::elapsed(), clock::now().as_millis(), &arrived);
        if let Some(entrance) = &self.entrance {
            outcome.chunks.iter().for_each(|chunk| {
                entrance.arrived(chunk);
            });
        }
        if let Some((digit, duration)) = outcome.digit {
            self.tell(LegEvent::Digit(digit, duration));
        }
        if outcome.key_frame {
            self.want_key_frame();
        }
    }

    fn depart(&mut self, packet: Departing) {
        let Departing { mid, pt, place, level, again, payload } = packet;
        let ext_vals = ExtensionValues {
            audio_level: level.map(|level| -i8::try_from(level & 0x7f).unwrap_or_default()),
            voice_activity: level.map(|level| level & 0x80 != 0),
            ..ExtensionValues::default()
        };
        let rtp = RtpWrite::new(pt, place.packet.into(), place.timestamp, clock::instant(), payload)
            .marker(place.marker)
            .nackable(again)
            .ext_vals(ext_vals);
        if let Some(stream) = self.session.rtc.direct_api().stream_tx_by_mid(mid, None) {
            stream.write_rtp(rtp);
        }
    }

    fn controls(&mut self) {
        let Some(entrance) = &self.entrance else { return };
        for control in self.bridge.engine.controls(clock::elapsed()) {
            entrance.arrived(&control);
        }
    }

    /// RFC 4585 §6.3.1: picture loss indication.
    fn want_key_frame(&mut self) {
        let now = clock::instant();
        if self.asked.is_some_and(|at| now.duration_since(at) < KEY_FRAMES) {
            return;
        }
        let Some(mid) = self.bridge.video() else { return };
        if let Some(stream) = self.session.rtc.direct_api().stream_rx_by_mid(mid, None) {
            self.asked = Some(now);
            stream.request_keyframe(str0m::media::KeyframeRequestKind::Pli);
        }
    }
}

#[cfg(test)]
mod tests;
