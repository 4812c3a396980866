//! One leg's part in the relay, without sockets: what arrives from its client is checked, noted and
//! acknowledged; what goes to its client is numbered on, widened where needed, and noted.
//!
//! A chunk goes from the [`Port`] of the leg that it came from to the one of the leg that hears it; no port
//! knows another.

use std::time::Duration;

use bytes::BytesMut;
use smallvec::SmallVec;

use super::ledger::{Receiver, Sender, Verdict};
use super::quality::{Impairment, Quality, StreamReport, mos, rating};
use crate::protocol::ack::{Ack, NeedWhole, Nonce};
use crate::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader, OPUS, Rewrite, Wire, encode, rewrite};
use crate::protocol::codec::PayloadType;
use crate::protocol::directive::Directives;
use crate::protocol::id::{HandlerKey, LegId};

/// wire §4 `directives`: the previous ones are still taken for 2 s.
const GRACE: Duration = Duration::from_secs(2);
/// Payload types below it are codecs; CN and telephone-event ride along.
const CN: u64 = 5;
/// Streams that one leg may have in one direction, all its devices together.
const MAX_STREAMS: usize = 64;

/// Where a stream comes from; when this changes, its numbers start anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The leg.
    pub leg: LegId,
    /// The device.
    pub handler: HandlerKey,
}

/// What was counted instead of passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// No chunk at all, or one that is malformed.
    pub garbage: u64,
    /// For a stream that no directive names.
    pub unnamed: u64,
    /// Seen already, or too old.
    pub repeated: u64,
    /// Truncated with nothing to expand it against.
    pub unexpandable: u64,
    /// From a device that doesn't carry the call, or while nobody may hear.
    pub unheard: u64,
}

/// What is to happen with something that arrived.
#[derive(Debug, PartialEq)]
pub enum Arrival<'a> {
    /// Nothing more.
    Done,
    /// Send this back to where it came from.
    Reply,
    /// Pass it on to the leg that hears this one.
    Media(Relayed<'a>),
}

/// A media chunk on its way through the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Relayed<'a> {
    /// The chunk as it came.
    pub chunk: Chunk<'a>,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Its whole sequence number.
    pub seq: u64,
    /// Its whole timestamp.
    pub timestamp: u64,
    /// Whether its sender began anew.
    pub reset: bool,
}

#[derive(Debug)]
#[repr(C)]
struct Inbound {
    handler: HandlerKey,
    ids: (u8, u8),
    payload_type: u64,
    /// Until when directives name it.
    named: Duration,
    quality: Quality,
    receiver: Receiver,
}

#[derive(Debug)]
#[repr(C)]
struct Outbound {
    ids: (u8, u8),
    payload_type: u64,
    origin: Option<Origin>,
    /// What is added to the origin's numbers, so that the stream goes on where it was.
    shift: (i64, i64),
    newest: Option<Newest>,
    sender: Sender,
}

/// How far a stream got: where the next numbering goes on.
#[derive(Clone, Copy, Debug)]
struct Newest {
    seq: u64,
    /// The highest timestamp, and when it went out.
    timestamp: u64,
    at: Duration,
}

impl Newest {
    fn next_timestamp(&self, now: Duration) -> u64 {
        self.timestamp + (now.saturating_sub(self.at).as_millis() as u64).max(1)
    }
}

/// What a call wants of one leg's media.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What its client sends.
    pub sends: Directives,
    /// What its client is sent.
    pub receives: Directives,
    /// Whose media goes on to the peer.
    pub speaker: Option<HandlerKey>,
    /// Who hears the peer; none: every device of the leg.
    pub listener: Option<HandlerKey>,
    /// Whether somebody hears this leg.
    pub heard: bool,
}

/// One leg's media. What every chunk needs comes first.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Port {
    speaker: Option<HandlerKey>,
    listener: Option<HandlerKey>,
    heard: bool,
    // Nearly all legs have one stream each way: theirs lie here, not behind a pointer, which every chunk would follow.
    inbound: SmallVec<[Inbound; 1]>,
    outbound: SmallVec<[Outbound; 1]>,
    drops: Drops,
    sends: Directives,
    sent_before: Option<(Directives, Duration)>,
    receives: Directives,
}

impl Port {
    /// What the call wants from now on.
    pub fn plan(&mut self, now: Duration, plan: Plan) {
        if plan.sends != self.sends {
            let before = std::mem::replace(&mut self.sends, plan.sends);
            self.sent_before = Some((before, now + GRACE));
            for at in 0..self.inbound.len() {
                let (source, sink) = self.inbound[at].ids;
                self.inbound[at].named = self.named(source, sink);
            }
        }
        if plan.receives != self.receives || plan.listener != self.listener {
            // wire §5 "Truncation": whole again on a new codec or handler, which knows nothing of the numbers.
            self.receives = plan.receives;
            self.listener = plan.listener;
            self.start_whole();
        }
        self.speaker = plan.speaker;
        // wire §4 `hold`: what was under way when the directives lost their streams is taken, and not passed on.
        self.heard = plan.heard && !self.sends.is_empty();
    }

    /// A device opened a new path: its numbers go out whole until it acknowledges them there. `only`: it has no other,
    /// so its own numbers may start anew.
    pub fn path_opened(&mut self, handler: HandlerKey, only: bool) {
        if self.hears(handler) {
            self.start_whole();
        }
        if only {
            self.inbound.iter_mut().filter(|i| i.handler == handler).for_each(|i| i.receiver.on_new_path());
        }
    }

    fn start_whole(&mut self) {
        self.outbound.iter_mut().for_each(|o| o.sender.reset());
    }

    fn hears(&self, handler: HandlerKey) -> bool {
        self.listener.is_none_or(|listener| listener == handler)
    }

    /// What was dropped so far.
    pub fn drops(&self) -> Drops {
        self.drops
    }

    /// What the leg's client may be sent.
    pub fn receives(&self) -> &Directives {
        &self.receives
    }

    /// Until when directives name a stream; zero if they don't.
    fn named(&self, source: u8, sink: u8) -> Duration {
        if self.sends.stream(source, sink).is_some() {
            return Duration::MAX;
        }
        let before = self.sent_before.as_ref().filter(|(before, _)| before.stream(source, sink).is_some());
        before.map_or(Duration::ZERO, |(_, until)| *until)
    }

    /// Reads what the first stream's next chunk will want, all at once: memory answers in the time of one read.
    pub fn expect_arrival(&self) {
        if let Some(stream) = self.inbound.first() {
            stream.quality.expect();
            stream.receiver.expect();
        }
    }

    /// The same for a chunk that goes out.
    pub fn expect_departure(&self, seq: u64) {
        if let Some(stream) = self.outbound.first() {
            std::hint::black_box(stream.newest);
            stream.sender.expect(seq);
        }
    }

    /// Something came from a device of this leg. `reply` takes what is to be sent back.
    pub fn arrived<'a>(
        &mut self,
        now: Duration,
        from: HandlerKey,
        bytes: &'a [u8],
        reply: &mut BytesMut,
    ) -> Arrival<'a> {
        let Ok(chunk) = Chunk::parse(bytes) else {
            self.drops.garbage += 1;
            return Arrival::Done;
        };
        match chunk.kind {
            Kind::Control(control) => self.control(now, from, control, chunk.package, reply),
            Kind::Media => self.media(now, from, chunk, bytes, reply),
        }
    }

    fn control<'a>(
        &mut self,
        now: Duration,
        from: HandlerKey,
        control: ControlType,
        package: &[u8],
        reply: &mut BytesMut,
    ) -> Arrival<'a> {
        match control {
            ControlType::Ack => match Ack::parse(package) {
                // A device that no longer listens says nothing about what the one that does has got.
                Ok(ack) if self.hears(from) => {
                    if let Some(out) = self.outbound.iter_mut().find(|o| o.ids == (ack.source, ack.sink)) {
                        out.sender.on_ack(now, &ack);
                    }
                }
                Ok(_) => {}
                Err(_) => self.drops.garbage += 1,
            },
            ControlType::Probe => match Nonce::new(package) {
                Ok(nonce) => {
                    nonce.encode_answer(reply);
                    return Arrival::Reply;
                }
                Err(_) => self.drops.garbage += 1,
            },
            ControlType::NeedWhole => match NeedWhole::parse(package) {
                Ok(need) => {
                    if let Some(out) = self.outbound.iter_mut().find(|o| o.ids == (need.source, need.sink)) {
                        out.sender.reset();
                    }
                }
                Err(_) => self.drops.garbage += 1,
            },
            // wire: unknown control types are ignored.
            _ => {}
        }
        Arrival::Done
    }

    fn media<'a>(
        &mut self,
        now: Duration,
        from: HandlerKey,
        chunk: Chunk<'a>,
        bytes: &'a [u8],
        reply: &mut BytesMut,
    ) -> Arrival<'a> {
        let ids = (chunk.source, chunk.sink);
        let (Some(seq), Some(timestamp)) = (chunk.seq, chunk.timestamp) else {
            self.drops.garbage += 1;
            return Arrival::Done;
        };
        let at = match self.inbound.iter().position(|i| i.ids == ids && i.handler == from) {
            Some(at) => at,
            None if self.inbound.len() < MAX_STREAMS && now < self.named(ids.0, ids.1) => {
                self.inbound.push(Inbound {
                    handler: from,
                    ids,
                    named: self.named(ids.0, ids.1),
                    receiver: Receiver::new(ids.0, ids.1),
                    quality: Quality::new(Impairment::of(chunk.payload_type)),
                    payload_type: chunk.payload_type,
                });
                self.inbound.len() - 1
            }
            None => {
                self.drops.unnamed += 1;
                return Arrival::Done;
            }
        };
        let stream = &mut self.inbound[at];
        if now >= stream.named {
            self.drops.unnamed += 1;
            return Arrival::Done;
        }
        if stream.payload_type != chunk.payload_type && chunk.payload_type < CN {
            stream.payload_type = chunk.payload_type;
            stream.quality.set_codec(Impairment::of(chunk.payload_type));
        }
        let (seq, timestamp, reset) = match stream.receiver.on_chunk(now, seq, timestamp) {
            Verdict::Fresh { seq, timestamp } => (seq, timestamp, false),
            Verdict::Reset { seq, timestamp } => {
                stream.quality.on_reset();
                (seq, timestamp, true)
            }
            Verdict::Duplicate => {
                stream.quality.on_duplicate();
                self.drops.repeated += 1;
                return Arrival::Done;
            }
            Verdict::Stale => {
                stream.quality.on_late();
                self.drops.repeated += 1;
                return Arrival::Done;
            }
            Verdict::NeedWhole => {
                self.drops.unexpandable += 1;
                if stream.receiver.need_whole_due(now) {
                    NeedWhole { source: ids.0, sink: ids.1 }.encode(reply);
                    return Arrival::Reply;
                }
                return Arrival::Done;
            }
        };
        stream.quality.on_arrival(now, seq, timestamp);
        if self.speaker != Some(from) || !self.heard {
            // wire §5 "Relay": media from the caller before `answered` is acknowledged and dropped.
            self.drops.unheard += 1;
            return Arrival::Done;
        }
        Arrival::Media(Relayed { chunk, bytes, seq, timestamp, reset })
    }

    /// Something is to go to this leg's client. True: the chunk may go as it came; false: `out` holds what goes, and nothing else.
    pub fn departs(
        &mut self,
        now: Duration,
        origin: Origin,
        media: &Relayed<'_>,
        out: &mut BytesMut,
    ) -> Option<bool> {
        let ids = (media.chunk.source, media.chunk.sink);
        let stream = self.outbound(ids)?;
        if stream.origin != Some(origin) || media.reset {
            stream.take_over(now, origin, media.seq, media.timestamp);
        }
        let seq = media.seq.checked_add_signed(stream.shift.0)?;
        let timestamp = media.timestamp.checked_add_signed(stream.shift.1)?;
        let whole = stream.sender.on_send_seq(now, seq, timestamp, media.chunk.reference);
        stream.went_out(now, seq, timestamp);
        if media.chunk.payload_type < CN {
            stream.payload_type = media.chunk.payload_type;
        }
        let came_whole = |wire: Option<Wire>| wire.is_some_and(Wire::is_whole);
        let widen = whole && !(came_whole(media.chunk.seq) && came_whole(media.chunk.timestamp));
        if stream.shift == (0, 0) && !widen {
            return Some(true);
        }
        let new =
            Rewrite { seq: Some((seq, whole)), timestamp: Some((timestamp, whole)), ..Rewrite::default() };
        out.clear();
        rewrite(&media.chunk, &new, out);
        Some(false)
    }

    fn outbound(&mut self, ids: (u8, u8)) -> Option<&mut Outbound> {
        if let Some(at) = self.outbound.iter().position(|o| o.ids == ids) {
            return self.outbound.get_mut(at);
        }
        if self.outbound.len() >= MAX_STREAMS {
            return None;
        }
        let sender = Sender::new();
        let payload_type = OPUS;
        self.outbound.push(Outbound { ids, payload_type, sender, origin: None, shift: (0, 0), newest: None });
        self.outbound.last_mut()
    }

    /// A chunk that the server makes itself, in the audio stream: a digit as telephone-event.
    pub fn insert(
        &mut self,
        now: Duration,
        payload_type: u64,
        timestamp: Option<u64>,
        payload: &[u8],
        out: &mut BytesMut,
    ) -> Option<u64> {
        let audio = self.receives.audio()?;
        let ids = (audio.source, audio.sink);
        let stream = self.outbound(ids)?;
        let seq = stream.newest.map_or(0, |newest| newest.seq + 1);
        let next = || stream.newest.map_or(now.as_millis() as u64, |newest| newest.next_timestamp(now));
        let timestamp = timestamp.unwrap_or_else(next);
        // What follows makes room for it in the numbers.
        stream.shift.0 += i64::from(seq > 0);
        stream.went_out(now, seq, timestamp);
        let whole = stream.sender.on_send_seq(now, seq, timestamp, false);
        let (source, sink) = ids;
        let header =
            MediaHeader { seq, timestamp, whole, payload_type, source, sink, ..MediaHeader::default() };
        encode(&header, payload, out);
        Some(timestamp)
    }

    /// The acks that are due towards a device, each written to `out` and given to `send`.
    pub fn acks(&mut self, now: Duration, to: HandlerKey, out: &mut BytesMut, mut send: impl FnMut(&[u8])) {
        for stream in self.inbound.iter_mut().filter(|i| i.handler == to) {
            if let Some(ack) = stream.receiver.ack(now) {
                out.clear();
                ack.encode(out);
                send(out);
            }
        }
    }

    /// The acks of all that came from a device since the last one, due or not.
    pub fn acks_now(&mut self, now: Duration, to: HandlerKey, mut send: impl FnMut(&[u8])) {
        for stream in self.inbound.iter_mut().filter(|i| i.handler == to) {
            if let Some(ack) = stream.receiver.ack_now(now) {
                let mut out = BytesMut::with_capacity(32);
                ack.encode(&mut out);
                send(&out);
            }
        }
    }

    /// Whether digits go to this leg as chunks of that stream.
    pub fn takes_digits(&self, source: u8, sink: u8) -> bool {
        self.receives.stream(source, sink).is_some_and(|s| s.allows(PayloadType::TELEPHONE_EVENT))
    }

    /// A device towards which an ack is due.
    pub fn acks_due(&self, now: Duration) -> Option<HandlerKey> {
        self.inbound.iter().find(|i| i.receiver.ack_due(now)).map(|i| i.handler)
    }

    /// When the next ack is due, if one is.
    pub fn next_ack(&self) -> Option<Duration> {
        self.inbound.iter().filter_map(|i| i.receiver.next_ack()).min()
    }

    /// How the leg's streams fare that come from its client, as measured here.
    pub fn reports(&self) -> impl Iterator<Item = StreamReport> + '_ {
        let rtt = self.rtt();
        self.inbound.iter().filter(|i| self.speaker.is_none_or(|speaker| speaker == i.handler)).map(
            move |stream| {
                let mut quality = stream.quality.clone();
                if let Some(rtt) = rtt {
                    quality.set_rtt(rtt);
                }
                let received = quality.report(stream.ids.0, stream.ids.1, 0);
                StreamReport { sent: received.received + received.lost, ..received }
            },
        )
    }

    /// How those fare that go to its client, as acknowledged. Acks tell of loss and delay, not of jitter.
    pub fn sent(&self) -> impl Iterator<Item = StreamReport> + '_ {
        let rtt = self.rtt().unwrap_or_default();
        self.outbound.iter().map(move |stream| {
            let counts = stream.sender.counts();
            let delay_ms = rtt.as_secs_f64() * 500.0;
            let loss = counts.lost as f64 / counts.sent.max(1) as f64;
            let mos = mos(rating(Impairment::of(stream.payload_type), delay_ms, loss, 1.0));
            StreamReport {
                source: stream.ids.0,
                sink: stream.ids.1,
                sent: counts.sent,
                received: counts.acknowledged,
                lost: counts.lost,
                delay_ms: (delay_ms * 10.0).round() / 10.0,
                mos: (mos * 100.0).round() / 100.0,
                ..StreamReport::default()
            }
        })
    }

    fn rtt(&self) -> Option<Duration> {
        self.outbound.iter().find_map(|o| o.sender.rtt())
    }
}

impl Outbound {
    /// wire §5 "Relay": on handler change sequence and timestamp are rebased into one continuous stream.
    fn take_over(&mut self, now: Duration, origin: Origin, seq: u64, timestamp: u64) {
        self.origin = Some(origin);
        if let Some(newest) = self.newest {
            let difference = |wanted: u64, given: u64| wanted as i64 - given as i64;
            self.shift = (difference(newest.seq + 1, seq), difference(newest.next_timestamp(now), timestamp));
            self.sender.reset();
        }
    }

    fn went_out(&mut self, now: Duration, seq: u64, timestamp: u64) {
        let newest = self.newest.get_or_insert(Newest { seq, timestamp, at: now });
        newest.seq = newest.seq.max(seq);
        if timestamp > newest.timestamp {
            (newest.timestamp, newest.at) = (timestamp, now);
        }
    }
}

#[cfg(test)]
mod tests;
