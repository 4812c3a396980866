//! Packets as chunks and chunks as packets: without transcoding where both sides share the codec. Pure.

use std::time::Duration;

use bytes::Bytes;
use str0m::media::{Mid, Pt};

use super::numbering::{Downlink, Place, Uplink};
use super::rtc::{Agreed, Audio};
use super::transcode::{Transcoder, opus_span};
use super::video::{self, Assembler, VideoCodec};
use crate::media::audio::AudioCodec;
use crate::media::engine::{Engine, MediaFrame, OutFrame};
use crate::protocol::codec::{MediaKind, PayloadType};
use crate::protocol::directive::{Directives, Stream};
use crate::service::dtmf::Detector;

/// The clock of video (RFC 3551 §5).
const VIDEO_RATE: u32 = 90_000;
/// Frames of 20 ms, in milliseconds.
const FRAME_MS: u64 = 20;
/// How far the timestamps of frames that were made anew may be from the clock.
const ASTRAY_MS: u64 = 200;

/// An RTP packet from the browser, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Arrived<'a> {
    pub(super) pt: Pt,
    pub(super) ssrc: u32,
    /// Extended.
    pub(super) packet: u64,
    pub(super) timestamp: u64,
    pub(super) marker: bool,
    /// RFC 6464: −dBov, with the voice bit on top.
    pub(super) level: Option<u8>,
    pub(super) payload: &'a [u8],
}

/// An RTP packet for the browser.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Departing {
    pub(super) mid: Mid,
    pub(super) pt: Pt,
    pub(super) place: Place,
    pub(super) level: Option<u8>,
    /// It may be asked for again.
    pub(super) again: bool,
    pub(super) payload: Vec<u8>,
}

/// What an RTP packet led to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Outcome {
    /// Chunks for the call.
    pub(super) chunks: Vec<Bytes>,
    /// A digit for the call, where its directives take none in media.
    pub(super) digit: Option<(char, u32)>,
    /// The browser is to be asked for a frame that stands alone.
    pub(super) key_frame: bool,
}

/// What a browser hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hears {
    pub(super) source: u8,
    pub(super) sink: u8,
    /// As it comes to the browser.
    pub(super) codec: AudioCodec,
}

impl Hears {
    /// RFC 3550 §6.4.1: jitter is told in units of the timestamp.
    pub(super) fn milliseconds(&self, units: u32) -> f64 {
        f64::from(units) * 1_000.0 / f64::from(rate(self.codec))
    }
}

/// One session's media.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) engine: Engine,
    agreed: Agreed,
    sends: Directives,
    receives: Directives,
    up: Uplink,
    up_again: Option<Transcoder>,
    digits: Detector,
    assembler: Option<(VideoCodec, Assembler)>,
    video_up: Uplink,
    down: Downlink,
    down_again: Option<Transcoder>,
    /// The codec of what went to the browser last.
    down_codec: Option<AudioCodec>,
    /// When the last frame that was made anew for the call plays.
    anew: Option<u64>,
    /// The last frame that was made anew for the browser: its number and when it plays.
    down_anew: (u64, u64),
    /// Frames of video that were whole.
    frames: u64,
    video_down: VideoDown,
}

#[derive(Debug)]
struct VideoDown {
    next: u64,
    picture: u16,
    /// A frame's time, ms, and its RTP timestamp.
    origin: Option<(u64, u32)>,
}

impl Bridge {
    /// `random`: where numbers begin (RFC 3550 §5.1).
    pub(super) fn new(random: [u32; 3]) -> Self {
        let [audio, timestamp, video] = random;
        Self {
            engine: Engine::default(),
            agreed: Agreed::default(),
            sends: Directives::default(),
            receives: Directives::default(),
            up: Uplink::default(),
            up_again: None,
            digits: Detector::default(),
            assembler: None,
            video_up: Uplink::default(),
            // RFC 3711 §3.3.1: below 2^15, so that an early loss can't hide the first roll-over.
            down: Downlink::new(48_000, audio as u16 & 0x7fff, timestamp),
            down_again: None,
            down_codec: None,
            anew: None,
            down_anew: (0, 0),
            frames: 0,
            video_down: VideoDown { next: u64::from(video & 0x7fff), picture: 0, origin: None },
        }
    }

    /// What the descriptions agree on.
    pub(super) fn set_agreed(&mut self, agreed: Agreed) {
        self.agreed = agreed;
    }

    /// What is in force in the call. True: video flows up from now on.
    pub(super) fn set_directives(&mut self, sends: Directives, receives: Directives) -> bool {
        let video = |directives: &Directives| stream(directives, MediaKind::Video).is_some();
        let begins = video(&sends) && !video(&self.sends);
        (self.sends, self.receives) = (sends, receives);
        begins
    }

    /// A packet came from the browser.
    pub(super) fn on_rtp(&mut self, now: Duration, wall: u64, rtp: &Arrived<'_>) -> Outcome {
        let video = self.agreed.video.as_ref().and_then(|v| v.codecs.iter().find(|(_, pt)| *pt == rtp.pt));
        if let Some((codec, _)) = video.copied() {
            return self.on_video(now, wall, codec, rtp);
        }
        let Some(audio) = &self.agreed.audio else { return Outcome::default() };
        if let Some((rate, _)) = audio.events.iter().find(|(_, pt)| *pt == rtp.pt) {
            return self.on_event(now, wall, *rate, rtp);
        }
        let Some((codec, _)) = audio.codecs.iter().find(|(_, pt)| *pt == rtp.pt).copied() else {
            return Outcome::default();
        };
        let Some(stream) = stream(&self.sends, MediaKind::Audio) else {
            self.rest();
            return Outcome::default();
        };
        let (source, sink) = (stream.source, stream.sink);
        let level = rtp.level;
        let frame = |payload: Bytes, codec: AudioCodec, timestamp_ms| OutFrame {
            source,
            sink,
            payload_type: codec.payload_type(),
            payload,
            timestamp_ms,
            duration_ms: None,
            level,
        };
        let mut outcome = Outcome::default();
        if allows(stream, codec) {
            if self.up_again.take().is_some() {
                // The frames that were made anew counted by themselves.
                self.up.rest();
            }
            if let Some((seq, at)) = self.up.number(rtp.ssrc, rtp.packet, rtp.timestamp, rate(codec), wall) {
                let mut out = frame(Bytes::copy_from_slice(rtp.payload), codec, at);
                out.duration_ms = duration(codec, rtp.payload);
                outcome.chunks.extend(self.engine.send_as(now, &out, Some(seq), false));
            }
            return outcome;
        }
        let wanted = AudioCodec::ALL.into_iter().find(|wanted| allows(stream, *wanted));
        let Some(wanted) = wanted else { return outcome };
        for payload in again(&mut self.up_again, codec, wanted, rtp.packet, rtp.payload) {
            let at = follow(self.anew, wall);
            let seq = self.up.next();
            self.anew = Some(at);
            outcome.chunks.extend(self.engine.send_as(now, &frame(payload, wanted, at), Some(seq), false));
        }
        outcome
    }

    fn rest(&mut self) {
        self.up.rest();
        if let Some(transcoder) = &mut self.up_again {
            transcoder.rest();
        }
    }

    /// RFC 4733: a key. RIPT's own clock for it is 8000 Hz (wire §4 `dtmf`).
    fn on_event(&mut self, now: Duration, wall: u64, rate: u32, rtp: &Arrived<'_>) -> Outcome {
        let &[event, flags, high, low, ..] = rtp.payload else { return Outcome::default() };
        let duration = u32::from(u16::from_be_bytes([high, low])) * 8_000 / rate.max(8_000);
        let [_, _, high, low] = duration.to_be_bytes();
        let payload = [event, flags, high, low];
        let Some(stream) = stream(&self.sends, MediaKind::Audio) else { return Outcome::default() };
        if !stream.allows(PayloadType::TELEPHONE_EVENT) {
            return Outcome {
                digit: self.digits.arrived(rtp.timestamp, Some(&payload)),
                ..Outcome::default()
            };
        }
        let numbered = match &self.up_again {
            None => self.up.number(rtp.ssrc, rtp.packet, rtp.timestamp, rate, wall),
            Some(_) => Some((self.up.next(), wall)),
        };
        let Some((seq, timestamp_ms)) = numbered else { return Outcome::default() };
        let out = OutFrame {
            source: stream.source,
            sink: stream.sink,
            payload_type: PayloadType::TELEPHONE_EVENT.0.into(),
            payload: Bytes::copy_from_slice(&payload),
            timestamp_ms,
            duration_ms: None,
            level: None,
        };
        let chunks = self.engine.send_as(now, &out, Some(seq), false).into_iter().collect();
        Outcome { chunks, ..Outcome::default() }
    }

    fn on_video(&mut self, now: Duration, wall: u64, codec: VideoCodec, rtp: &Arrived<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if self.assembler.as_ref().is_none_or(|(of, _)| *of != codec) {
            self.assembler = Some((codec, Assembler::new(codec)));
        }
        let Some((_, assembler)) = &mut self.assembler else { return outcome };
        let payload = Bytes::copy_from_slice(rtp.payload);
        let frames = assembler.push(rtp.packet, rtp.timestamp, rtp.marker, payload);
        outcome.key_frame = assembler.wants_key();
        let payload_type = video_type(codec);
        let Some(stream) = stream(&self.sends, MediaKind::Video).filter(|s| s.allows(payload_type)) else {
            self.video_up.rest();
            return Outcome::default();
        };
        for frame in frames {
            self.frames += 1;
            let at = self.video_up.number(rtp.ssrc, self.frames, frame.timestamp, VIDEO_RATE, wall);
            let Some((seq, timestamp_ms)) = at else { continue };
            let out = OutFrame {
                source: stream.source,
                sink: stream.sink,
                payload_type: payload_type.0.into(),
                payload: frame.data,
                timestamp_ms,
                duration_ms: None,
                level: None,
            };
            outcome.chunks.extend(self.engine.send_as(now, &out, Some(seq), frame.key));
        }
        outcome
    }

    /// A chunk came from the call.
    pub(super) fn on_chunk(&mut self, now: Duration, bytes: &Bytes) -> Vec<Departing> {
        let Some(frame) = self.engine.on_chunk(now, bytes) else { return Vec::new() };
        let kind = u32::try_from(frame.payload_type).map_or(PayloadType(0), PayloadType);
        match kind {
            PayloadType::TELEPHONE_EVENT => self.event_down(&frame).into_iter().collect(),
            PayloadType::VP8 => self.video_down(VideoCodec::Vp8, &frame),
            PayloadType::H264 => self.video_down(VideoCodec::H264, &frame),
            _ => match AudioCodec::from_payload_type(frame.payload_type) {
                Some(codec) => self.audio_down(codec, &frame),
                None => Vec::new(),
            },
        }
    }

    fn audio_down(&mut self, codec: AudioCodec, frame: &MediaFrame) -> Vec<Departing> {
        let Some(audio) = &self.agreed.audio else { return Vec::new() };
        let departing = |pt, place, payload| Departing {
            mid: audio.mid,
            pt,
            place,
            level: frame.level,
            again: false,
            payload,
        };
        if let Some((_, pt)) = audio.codecs.iter().find(|(own, _)| *own == codec) {
            let span = match codec {
                AudioCodec::Opus => opus_span(&frame.payload),
                AudioCodec::Pcmu | AudioCodec::Pcma => frame.payload.len() as u32,
            };
            let began = std::mem::take(&mut self.down_again).is_some();
            self.down_codec = Some(codec);
            self.down.set_rate(rate(codec));
            let place = self.down.place(frame.seq, frame.timestamp_ms, span, frame.reset || began);
            return place.map(|place| departing(*pt, place, frame.payload.to_vec())).into_iter().collect();
        }
        let Some((wanted, pt)) = audio.codecs.first().copied() else { return Vec::new() };
        let began = self.down_again.is_none();
        self.down_codec = Some(wanted);
        self.down.set_rate(rate(wanted));
        let mut out = Vec::new();
        for payload in again(&mut self.down_again, codec, wanted, frame.seq, &frame.payload) {
            // What a transcoder makes has no gaps, and counts by itself.
            let (seq, last) = self.down_anew;
            self.down_anew = (seq + 1, follow((!began).then_some(last), frame.timestamp_ms));
            let reset = (frame.reset || began) && out.is_empty();
            let place = self.down.place(seq + 1, self.down_anew.1, rate(wanted) / 50, reset);
            out.extend(place.map(|place| departing(pt, place, payload.to_vec())));
        }
        out
    }

    fn event_down(&mut self, frame: &MediaFrame) -> Option<Departing> {
        let audio = self.agreed.audio.as_ref()?;
        let (rate, pt) = event(audio)?;
        let &[event, flags, high, low, ..] = frame.payload.as_ref() else { return None };
        let duration = u32::from(u16::from_be_bytes([high, low])) * (rate / 8_000).max(1);
        let [high, low] = u16::try_from(duration).unwrap_or(u16::MAX).to_be_bytes();
        let place = match &self.down_again {
            None => self.down.place_event(frame.seq, frame.timestamp_ms)?,
            Some(_) => {
                self.down_anew.0 += 1;
                self.down.place_event(self.down_anew.0, self.down_anew.1)?
            }
        };
        let payload = vec![event, flags, high, low];
        Some(Departing { mid: audio.mid, pt, place, level: None, again: false, payload })
    }

    fn video_down(&mut self, codec: VideoCodec, frame: &MediaFrame) -> Vec<Departing> {
        let Some(video) = &self.agreed.video else { return Vec::new() };
        let Some((_, pt)) = video.codecs.iter().find(|(own, _)| *own == codec) else { return Vec::new() };
        let down = &mut self.video_down;
        let (origin, base) = *down.origin.get_or_insert((frame.timestamp_ms, down.next as u32));
        let elapsed = frame.timestamp_ms.wrapping_sub(origin).wrapping_mul(u64::from(VIDEO_RATE / 1_000));
        let timestamp = base.wrapping_add(elapsed as u32);
        down.picture = (down.picture + 1) & 0x7fff;
        let payloads = video::packets(codec, &frame.payload, down.picture);
        let last = payloads.len().saturating_sub(1);
        let mut out = Vec::with_capacity(payloads.len());
        for (n, payload) in payloads.into_iter().enumerate() {
            let place = Place { packet: down.next, timestamp, marker: n == last };
            down.next += 1;
            out.push(Departing { mid: video.mid, pt: *pt, place, level: None, again: true, payload });
        }
        out
    }

    /// Which of the session's media is video.
    pub(super) fn video(&self) -> Option<Mid> {
        self.agreed.video.as_ref().map(|video| video.mid)
    }

    /// What the browser hears on this media, for reports; none where it is no audio.
    pub(super) fn hears(&self, mid: Mid) -> Option<Hears> {
        let audio = self.agreed.audio.as_ref().filter(|audio| audio.mid == mid)?;
        let codec = self.down_codec.or(audio.codecs.first().map(|(codec, _)| *codec))?;
        let Stream { source, sink, .. } = *stream(&self.receives, MediaKind::Audio)?;
        Some(Hears { source, sink, codec })
    }
}

/// When the next frame plays: right after the last one, unless that is far from the clock.
fn follow(last: Option<u64>, clock: u64) -> u64 {
    let next = last.map(|last| last + FRAME_MS);
    next.filter(|next| next.abs_diff(clock) < ASTRAY_MS).unwrap_or(clock)
}

fn stream(directives: &Directives, kind: MediaKind) -> Option<&Stream> {
    directives.streams().iter().find(|stream| stream.kind() == Some(kind))
}

fn allows(stream: &Stream, codec: AudioCodec) -> bool {
    u32::try_from(codec.payload_type()).is_ok_and(|pt| stream.allows(PayloadType(pt)))
}

fn rate(codec: AudioCodec) -> u32 {
    match codec {
        AudioCodec::Opus => 48_000,
        AudioCodec::Pcmu | AudioCodec::Pcma => 8_000,
    }
}

/// wire §5: a chunk says how long it plays where that isn't the usual 20 ms.
fn duration(codec: AudioCodec, payload: &[u8]) -> Option<u64> {
    let samples = match codec {
        AudioCodec::Opus => u64::from(opus_span(payload)) * 1_000 / 48_000,
        AudioCodec::Pcmu | AudioCodec::Pcma => payload.len() as u64 / 8,
    };
    (samples != FRAME_MS).then_some(samples)
}

/// The event type whose clock is that of the preferred codec (RFC 4733 §2.1).
fn event(audio: &Audio) -> Option<(u32, Pt)> {
    let preferred = audio.codecs.first().map(|(codec, _)| rate(*codec));
    let same = audio.events.iter().find(|(rate, _)| Some(*rate) == preferred);
    same.or(audio.events.first()).copied()
}

fn video_type(codec: VideoCodec) -> PayloadType {
    match codec {
        VideoCodec::Vp8 => PayloadType::VP8,
        VideoCodec::H264 => PayloadType::H264,
    }
}

fn again(
    transcoder: &mut Option<Transcoder>,
    from: AudioCodec,
    to: AudioCodec,
    seq: u64,
    payload: &[u8],
) -> Vec<Bytes> {
    let transcoded = match transcoder {
        Some(transcoder) => transcoder.switch(from, to).and_then(|()| transcoder.push(seq, payload)),
        None => Transcoder::new(from, to).and_then(|new| transcoder.insert(new).push(seq, payload)),
    };
    transcoded.unwrap_or_else(|error| {
        tracing::warn!(%error, "a codec failed");
        Vec::new()
    })
}

#[cfg(test)]
mod tests;
