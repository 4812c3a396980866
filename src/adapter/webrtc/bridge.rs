//! Packets as chunks and chunks as packets: without transcoding where both sides share the codec. Pure.

use std::time::Duration;

use bytes::Bytes;
use str0m::media::{Mid, Pt};

use super::rtc::{Agreed, Audio};
use super::video::{self, Assembler, VideoCodec};
use crate::media::audio::AudioCodec;
use crate::media::engine::{Engine, MediaFrame, OutFrame};
use crate::media::rtp::lane::{self, Format, Lane, Rider};
use crate::media::rtp::numbering::{Place, Uplink};
use crate::protocol::codec::{MediaKind, PayloadType};
use crate::protocol::directive::{Directives, Stream};

/// The clock of video (RFC 3551 §5).
const VIDEO_RATE: u32 = 90_000;

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
        f64::from(units) * 1_000.0 / f64::from(self.codec.clock_rate())
    }
}

/// One session's media.
#[derive(Debug)]
pub(super) struct Bridge {
    pub(super) engine: Engine,
    agreed: Agreed,
    sends: Directives,
    receives: Directives,
    lane: Lane,
    assembler: Option<(VideoCodec, Assembler)>,
    video_up: Uplink,
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
            lane: Lane::new(audio as u16, timestamp),
            assembler: None,
            video_up: Uplink::default(),
            frames: 0,
            video_down: VideoDown { next: u64::from(video & 0x7fff), picture: 0, origin: None },
        }
    }

    /// What the descriptions agree on.
    pub(super) fn set_agreed(&mut self, agreed: Agreed) {
        self.lane.set_agreed(agreed.audio.as_ref().map(lane_of).unwrap_or_default());
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
        let (ssrc, packet, timestamp, level) = (rtp.ssrc, rtp.packet, rtp.timestamp, rtp.level);
        let payload = rtp.payload;
        let arrived = lane::Arrived { payload_type: *rtp.pt, ssrc, packet, timestamp, level, payload };
        let mut outcome = lane::Outcome::default();
        self.lane.on_rtp(&mut self.engine, &self.sends, (now, wall), &arrived, &mut outcome);
        Outcome { chunks: outcome.chunks, digit: outcome.digit, key_frame: false }
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
            PayloadType::VP8 => self.video_down(VideoCodec::Vp8, &frame),
            PayloadType::H264 => self.video_down(VideoCodec::H264, &frame),
            _ => {
                let Some(mid) = self.agreed.audio.as_ref().map(|audio| audio.mid) else { return Vec::new() };
                let mut out = Vec::new();
                self.lane.on_frame(&frame, &mut |packet| {
                    let lane::Departing { payload_type, place, level, payload } = packet;
                    let (pt, payload) = (payload_type.into(), payload.to_vec());
                    out.push(Departing { mid, pt, place, level, again: false, payload });
                });
                out
            }
        }
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
        let codec = self.lane.sent().or(audio.codecs.first().map(|(codec, _)| *codec))?;
        let Stream { source, sink, .. } = *stream(&self.receives, MediaKind::Audio)?;
        Some(Hears { source, sink, codec })
    }
}

fn lane_of(audio: &Audio) -> lane::Agreed {
    let event = |(rate, pt): &(u32, Pt)| Rider { rate: *rate, send: **pt, receive: **pt };
    lane::Agreed {
        codecs: audio.codecs.iter().map(|(codec, pt)| Format::new(*codec, **pt)).collect(),
        events: audio.events.iter().map(event).collect(),
        noise: None,
    }
}

fn stream(directives: &Directives, kind: MediaKind) -> Option<&Stream> {
    directives.streams().iter().find(|stream| stream.kind() == Some(kind))
}

fn video_type(codec: VideoCodec) -> PayloadType {
    match codec {
        VideoCodec::Vp8 => PayloadType::VP8,
        VideoCodec::H264 => PayloadType::H264,
    }
}

#[cfg(test)]
mod tests;
