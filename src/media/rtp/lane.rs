//! One audio stream: packets as chunks and back, without transcoding where both sides share the codec.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::numbering::{Downlink, Place, Uplink};
use crate::media::audio::AudioCodec;
use crate::media::audio::amr::{self, Modes};
use crate::media::audio::transcode::Transcoder;
use crate::media::dtmf::Detector;
use crate::media::engine::{Engine, MediaFrame, OutFrame};
use crate::protocol::codec::{MediaKind, PayloadType};
use crate::protocol::directive::{Directives, Stream};

/// Frames of 20 ms, in milliseconds.
const FRAME_MS: u64 = 20;
/// How far the timestamps of frames that were made anew may be from the clock.
const ASTRAY_MS: u64 = 200;

/// A codec as descriptions agreed on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// The codec.
    pub codec: AudioCodec,
    /// The payload type that the far side takes.
    pub send: u8,
    /// The payload type that it sends.
    pub receive: u8,
    /// Of AMR-WB: whether its payloads are octet-aligned.
    pub aligned: bool,
    /// Of AMR-WB: what may be sent.
    pub modes: Modes,
}

impl Format {
    /// With one payload type both ways.
    pub fn new(codec: AudioCodec, payload_type: u8) -> Self {
        Self { codec, send: payload_type, receive: payload_type, aligned: true, modes: Modes::ALL }
    }
}

/// What rides along with a codec: telephone-event, or comfort noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rider {
    /// Its clock.
    pub rate: u32,
    /// The payload type that the far side takes.
    pub send: u8,
    /// The payload type that it sends.
    pub receive: u8,
}

impl Rider {
    /// Whether a packet of this payload type is one: as we said it, or as the far side did, if that means nothing else.
    fn is(&self, agreed: &Agreed, payload_type: u8) -> bool {
        let ours = agreed.codecs.iter().any(|format| format.receive == payload_type);
        self.receive == payload_type || self.send == payload_type && !ours
    }
}

impl Agreed {
    /// The clock of a payload type that the far side sends; none: nobody agreed on it.
    pub fn clock_rate(&self, payload_type: u8) -> Option<u32> {
        let mut riders = self.events.iter().chain(&self.noise);
        let rider = riders.find(|rider| rider.is(self, payload_type)).map(|rider| rider.rate);
        rider.or_else(|| format(self, payload_type).map(|format| format.codec.clock_rate()))
    }
}

/// What descriptions agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// The preferred one first.
    pub codecs: Vec<Format>,
    /// telephone-event, by clock.
    pub events: Vec<Rider>,
    /// CN.
    pub noise: Option<Rider>,
}

/// An RTP packet that came, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// Its payload type.
    pub payload_type: u8,
    /// Its source.
    pub ssrc: u32,
    /// Its sequence number, extended.
    pub packet: u64,
    /// Its timestamp, extended.
    pub timestamp: u64,
    /// RFC 6464: −dBov, with the voice bit on top.
    pub level: Option<u8>,
    /// What it carries.
    pub payload: &'a [u8],
}

/// An RTP packet to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departing {
    /// Its payload type.
    pub payload_type: u8,
    /// Its numbers.
    pub place: Place,
    /// RFC 6464: −dBov, with the voice bit on top.
    pub level: Option<u8>,
    /// What it carries.
    pub payload: Bytes,
}

/// What an RTP packet led to.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Chunks for the call.
    pub chunks: Vec<Bytes>,
    /// A digit for the call, where its directives take none in media.
    pub digit: Option<(char, u32)>,
}

/// The stream both ways.
#[derive(Debug)]
pub struct Lane {
    agreed: Agreed,
    up: Uplink,
    up_again: Option<Transcoder>,
    /// How many frames a packet of AMR-WB has.
    bundle: u64,
    digits: Detector,
    /// The event that goes on: its RTP timestamp and its time in the call.
    up_event: Option<(u64, u64)>,
    down: Downlink,
    down_again: Option<Transcoder>,
    down_event: Option<(u64, u32)>,
    /// The codec of what went out last.
    down_codec: Option<AudioCodec>,
    /// When the last frame that was made anew for the call plays.
    anew: Option<u64>,
    /// The last frame that was made anew for the far side: its number and when it plays.
    down_anew: (u64, u64),
    /// What the far side asks AMR-WB's encoder for.
    request: u8,
}

impl Lane {
    /// `first`, `timestamp`: where numbers begin, at random (RFC 3550 §5.1).
    pub fn new(first: u16, timestamp: u32) -> Self {
        Self {
            agreed: Agreed::default(),
            up: Uplink::default(),
            up_again: None,
            bundle: 1,
            digits: Detector::default(),
            up_event: None,
            // RFC 3711 §3.3.1: below 2^15, so that an early loss can't hide the first roll-over.
            down: Downlink::new(48_000, first & 0x7fff, timestamp),
            down_again: None,
            down_event: None,
            down_codec: None,
            anew: None,
            down_anew: (0, 0),
            request: amr::NO_REQUEST,
        }
    }

    /// What the descriptions agree on.
    pub fn set_agreed(&mut self, agreed: Agreed) {
        self.agreed = agreed;
    }

    /// What they agreed on.
    pub fn agreed(&self) -> &Agreed {
        &self.agreed
    }

    /// The codec of what went to the far side last.
    pub fn sent(&self) -> Option<AudioCodec> {
        self.down_codec
    }

    /// Whether chunks are made anew for the far side, which takes a hundred times as long.
    pub fn is_heavy(&self) -> bool {
        self.down_again.is_some()
    }

    /// A packet came from the far side, whose directives these are.
    pub fn on_rtp(
        &mut self,
        engine: &mut Engine,
        sends: &Directives,
        (now, wall): (Duration, u64),
        rtp: &Arrived<'_>,
        outcome: &mut Outcome,
    ) {
        let is = |rider: &&Rider| rider.is(&self.agreed, rtp.payload_type);
        if let Some(event) = self.agreed.events.iter().find(is).copied() {
            return self.on_event(engine, sends, (now, wall), event.rate, rtp, outcome);
        }
        if let Some(noise) = self.agreed.noise.as_ref().filter(is).copied() {
            return self.on_noise(engine, sends, (now, wall), noise.rate, rtp, outcome);
        }
        let Some(format) = format(&self.agreed, rtp.payload_type).copied() else { return };
        let Some(stream) = stream(sends) else {
            return self.rest();
        };
        let (source, sink) = (stream.source, stream.sink);
        let frame = |payload, codec: AudioCodec, timestamp_ms, duration_ms| OutFrame {
            source,
            sink,
            payload_type: codec.payload_type(),
            payload,
            timestamp_ms,
            duration_ms,
            level: rtp.level,
        };
        let mut payloads = smallvec::SmallVec::<[Bytes; 1]>::new();
        if format.codec == AudioCodec::AmrWb {
            // RIPT's chunks: one frame each, octet-aligned (wire §5).
            let Some(packet) = amr::unpack(rtp.payload, format.aligned) else { return };
            self.request = packet.request;
            let request = format.modes.request(packet.request);
            payloads.extend(packet.frames.chunks(1).map(|frame| amr::pack(request, frame, true)));
        } else {
            payloads.push(Bytes::copy_from_slice(rtp.payload));
        }
        let frames = payloads.len() as u64;
        if allows(stream, format.codec) {
            if self.up_again.take().is_some() || std::mem::replace(&mut self.bundle, frames) != frames {
                // The frames that were made anew counted by themselves.
                self.up.rest();
            }
            let rate = format.codec.clock_rate();
            for (n, payload) in (0u64..).zip(payloads) {
                let packet = rtp.packet * frames + n;
                let timestamp = rtp.timestamp + n * u64::from(amr::SPAN);
                if let Some((seq, at)) = self.up.number(rtp.ssrc, packet, timestamp, rate, wall) {
                    let out = frame(payload, format.codec, at, None);
                    let out = OutFrame { duration_ms: duration(format.codec, &out.payload), ..out };
                    outcome.chunks.extend(engine.send_as(now, &out, Some(seq), false));
                }
            }
            return;
        }
        if !format.codec.is_spoken() {
            return;
        }
        let Some(wanted) = spoken(stream) else { return };
        for (n, payload) in (0u64..).zip(payloads) {
            let packet = rtp.packet * frames + n;
            for payload in again(&mut self.up_again, format.codec, wanted, packet, &payload, None) {
                let at = follow(self.anew, wall);
                let seq = self.up.count();
                self.anew = Some(at);
                let out = frame(payload, wanted, at, None);
                outcome.chunks.extend(engine.send_as(now, &out, Some(seq), false));
            }
        }
    }

    /// What comes next begins anew: nothing is passed on for now.
    fn rest(&mut self) {
        self.up.rest();
        if let Some(transcoder) = &mut self.up_again {
            transcoder.rest();
        }
    }

    /// A packet that is not passed on is no loss.
    fn skip(&mut self, packet: u64) {
        if self.bundle != 1 {
            self.up.rest();
        } else if self.up_again.is_none() {
            self.up.skip(packet);
        }
    }

    /// RFC 4733: a key. RIPT's own clock for it is 8000 Hz (wire §4 `dtmf`).
    fn on_event(
        &mut self,
        engine: &mut Engine,
        sends: &Directives,
        (now, wall): (Duration, u64),
        rate: u32,
        rtp: &Arrived<'_>,
        outcome: &mut Outcome,
    ) {
        let &[event, flags, high, low, ..] = rtp.payload else { return };
        let duration = u32::from(u16::from_be_bytes([high, low])) * 8_000 / rate.max(8_000);
        let [_, _, high, low] = duration.to_be_bytes();
        let payload = [event, flags, high, low];
        let Some(stream) = stream(sends) else { return };
        if !stream.allows(PayloadType::TELEPHONE_EVENT) {
            self.skip(rtp.packet);
            outcome.digit = self.digits.arrived(rtp.timestamp, Some(&payload));
            return;
        }
        let number = match (&self.up_again, self.bundle) {
            (None, 1) => self.up.number(rtp.ssrc, rtp.packet, rtp.timestamp, rate, wall),
            _ => Some((self.up.count(), wall)),
        };
        let Some((seq, at)) = number else { return };
        // RFC 4733 §2.5.1.2: all packets of an event have the time of its beginning.
        let at = self.up_event.filter(|(of, _)| *of == rtp.timestamp).map_or(at, |(_, at)| at);
        self.up_event = Some((rtp.timestamp, at));
        let payload = Bytes::copy_from_slice(&payload);
        let frame = rider(stream, PayloadType::TELEPHONE_EVENT, payload, at);
        outcome.chunks.extend(engine.send_as(now, &frame, Some(seq), false));
    }

    /// RFC 3389: comfort noise; where the call takes none it is silence.
    fn on_noise(
        &mut self,
        engine: &mut Engine,
        sends: &Directives,
        (now, wall): (Duration, u64),
        rate: u32,
        rtp: &Arrived<'_>,
        outcome: &mut Outcome,
    ) {
        let stream = stream(sends).filter(|stream| stream.allows(PayloadType::CN));
        let (Some(stream), true) = (stream, self.up_again.is_none() && self.bundle == 1) else {
            if let Some(transcoder) = &mut self.up_again {
                // What follows is no loss that has to be made up.
                transcoder.rest();
            }
            return self.skip(rtp.packet);
        };
        let Some((seq, at)) = self.up.number(rtp.ssrc, rtp.packet, rtp.timestamp, rate, wall) else { return };
        let frame = rider(stream, PayloadType::CN, Bytes::copy_from_slice(rtp.payload), at);
        outcome.chunks.extend(engine.send_as(now, &frame, Some(seq), false));
    }

    /// A frame came from the call.
    pub fn on_frame(&mut self, frame: &MediaFrame, send: &mut dyn FnMut(Departing)) {
        match u32::try_from(frame.payload_type).map_or(PayloadType(0), PayloadType) {
            PayloadType::TELEPHONE_EVENT => self.event_down(frame, send),
            PayloadType::CN => match (self.agreed.noise, &self.down_again) {
                (Some(noise), None) => {
                    if let Some(place) = self.down.place_event(frame.seq, frame.timestamp_ms) {
                        let payload = frame.payload.clone();
                        send(Departing { payload_type: noise.send, place, level: None, payload });
                    }
                }
                (None, None) => self.down.skip(frame.seq),
                (_, Some(_)) => {
                    if let Some(transcoder) = &mut self.down_again {
                        transcoder.rest();
                    }
                }
            },
            _ => match AudioCodec::from_payload_type(frame.payload_type) {
                Some(codec) => self.audio_down(codec, frame, send),
                None => self.down.skip(frame.seq),
            },
        }
    }

    fn audio_down(&mut self, codec: AudioCodec, frame: &MediaFrame, send: &mut dyn FnMut(Departing)) {
        let mut same = self.agreed.codecs.iter().filter(|format| format.codec == codec);
        let (shared, payload) = match codec {
            AudioCodec::AmrWb => {
                let Some(packet) = amr::unpack(&frame.payload, true) else { return };
                let allowed = |f: &&Format| packet.frames.iter().all(|frame| f.modes.allow(frame.kind));
                let shared = same.find(allowed).copied();
                let payload = shared.map(|format| {
                    // The far side sends nothing but its modes.
                    let request = if packet.request > 8 {
                        amr::NO_REQUEST
                    } else {
                        format.modes.nearest(packet.request)
                    };
                    amr::pack(request, &packet.frames, format.aligned)
                });
                (shared, payload.unwrap_or_default())
            }
            _ => (same.next().copied(), frame.payload.clone()),
        };
        if let Some(format) = shared {
            let span = codec.span(&frame.payload);
            let began = std::mem::take(&mut self.down_again).is_some();
            self.down_codec = Some(codec);
            self.down.set_rate(codec.clock_rate());
            let place = self.down.place(frame.seq, frame.timestamp_ms, span, frame.reset || began);
            if let Some(place) = place {
                send(Departing { payload_type: format.send, place, level: frame.level, payload });
            }
            return;
        }
        let wanted = self.agreed.codecs.iter().find(|format| format.codec.is_spoken()).copied();
        let (Some(wanted), true) = (wanted, codec.is_spoken()) else { return self.down.skip(frame.seq) };
        let began = self.down_again.is_none();
        let rate = wanted.codec.clock_rate();
        self.down_codec = Some(wanted.codec);
        self.down.set_rate(rate);
        let limits = (wanted.codec == AudioCodec::AmrWb).then_some((wanted.modes, self.request));
        let mut reset = frame.reset || began;
        for payload in again(&mut self.down_again, codec, wanted.codec, frame.seq, &frame.payload, limits) {
            // What a transcoder makes has no gaps, and counts by itself.
            let (seq, last) = self.down_anew;
            self.down_anew = (seq + 1, follow((!began).then_some(last), frame.timestamp_ms));
            let reset = std::mem::take(&mut reset);
            if let Some(place) = self.down.place(seq + 1, self.down_anew.1, rate / 50, reset) {
                let payload = match wanted {
                    Format { codec: AudioCodec::AmrWb, aligned: false, .. } => tight(&payload),
                    _ => payload,
                };
                send(Departing { payload_type: wanted.send, place, level: frame.level, payload });
            }
        }
    }

    fn event_down(&mut self, frame: &MediaFrame, send: &mut dyn FnMut(Departing)) {
        let (Some(rider), &[event, flags, high, low, ..]) = (self.event(), frame.payload.as_ref()) else {
            return self.down.skip(frame.seq);
        };
        let duration = u32::from(u16::from_be_bytes([high, low])) * (rider.rate / 8_000).max(1);
        let [high, low] = u16::try_from(duration).unwrap_or(u16::MAX).to_be_bytes();
        let place = match &self.down_again {
            None => self.down.place_event(frame.seq, frame.timestamp_ms),
            Some(_) => {
                self.down_anew.0 += 1;
                self.down.place_event(self.down_anew.0, self.down_anew.1)
            }
        };
        let Some(mut place) = place else { return };
        match self.down_event.filter(|(of, _)| *of == frame.timestamp_ms) {
            // RFC 4733 §2.5.1.2: all packets of an event have the time of its beginning; the first one is marked.
            Some((_, timestamp)) => place = Place { timestamp, marker: false, ..place },
            None => place.marker = true,
        }
        self.down_event = Some((frame.timestamp_ms, place.timestamp));
        let payload = Bytes::copy_from_slice(&[event, flags, high, low]);
        send(Departing { payload_type: rider.send, place, level: None, payload });
    }

    /// The event type whose clock is that of the preferred codec (RFC 4733 §2.1).
    fn event(&self) -> Option<Rider> {
        let preferred = self.agreed.codecs.first().map(|format| format.codec.clock_rate());
        let same = self.agreed.events.iter().find(|event| Some(event.rate) == preferred);
        same.or(self.agreed.events.first()).copied()
    }
}

/// The codec of a payload type: as we said it, or as the far side did.
fn format(agreed: &Agreed, payload_type: u8) -> Option<&Format> {
    let ours = agreed.codecs.iter().find(|format| format.receive == payload_type);
    ours.or_else(|| agreed.codecs.iter().find(|format| format.send == payload_type))
}

fn rider(stream: &Stream, kind: PayloadType, payload: Bytes, timestamp_ms: u64) -> OutFrame {
    let (source, sink, payload_type) = (stream.source, stream.sink, kind.0.into());
    OutFrame { source, sink, payload_type, payload, timestamp_ms, duration_ms: None, level: None }
}

/// RFC 4867 §4.3: octet-aligned as bandwidth-efficient.
fn tight(payload: &Bytes) -> Bytes {
    amr::unpack(payload, true)
        .map_or_else(|| payload.clone(), |packet| amr::pack(packet.request, &packet.frames, false))
}

/// When the next frame plays: right after the last one, unless that is far from the clock.
fn follow(last: Option<u64>, clock: u64) -> u64 {
    let next = last.map(|last| last + FRAME_MS);
    next.filter(|next| next.abs_diff(clock) < ASTRAY_MS).unwrap_or(clock)
}

/// The audio stream of directives.
pub fn stream(directives: &Directives) -> Option<&Stream> {
    directives.streams().iter().find(|stream| stream.kind() == Some(MediaKind::Audio))
}

fn allows(stream: &Stream, codec: AudioCodec) -> bool {
    u32::try_from(codec.payload_type()).is_ok_and(|pt| stream.allows(PayloadType(pt)))
}

/// The codec of a stream that can be made for it.
fn spoken(stream: &Stream) -> Option<AudioCodec> {
    let types = stream.codecs.iter().filter_map(|codec| codec.payload_type());
    let codecs = types.filter_map(|kind| AudioCodec::from_payload_type(kind.0.into()));
    codecs.into_iter().find(|codec| codec.is_spoken())
}

/// wire §5: a chunk says how long it plays where that isn't the usual 20 ms.
fn duration(codec: AudioCodec, payload: &[u8]) -> Option<u64> {
    let ms = u64::from(codec.span(payload)) * 1_000 / u64::from(codec.clock_rate());
    (ms != FRAME_MS).then_some(ms)
}

fn again(
    transcoder: &mut Option<Transcoder>,
    from: AudioCodec,
    to: AudioCodec,
    seq: u64,
    payload: &[u8],
    limits: Option<(Modes, u8)>,
) -> Vec<Bytes> {
    let mut make = || {
        let transcoder = match transcoder {
            Some(transcoder) => {
                transcoder.switch(from, to)?;
                transcoder
            }
            None => transcoder.insert(Transcoder::new(from, to)?),
        };
        if let Some((modes, request)) = limits {
            transcoder.restrict(modes, request)?;
        }
        transcoder.push(seq, payload)
    };
    make().unwrap_or_else(|error| {
        tracing::warn!(%error, "a codec failed");
        Vec::new()
    })
}
