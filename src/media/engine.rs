//! Numbering, acknowledging, expanding and measuring a call's streams. Pure: `now` is an argument.

use std::collections::HashMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::media::ledger::{Receiver, Sender, Verdict};
use crate::media::quality::{Impairment, Quality, StreamReport};
use crate::protocol::ack::{Ack, NeedWhole, Nonce};
use crate::protocol::chunk::{Chunk, ControlType, Kind, MediaHeader, encode};

/// Streams in each direction that a call may have; beyond that the server is broken.
const MAX_STREAMS: usize = 64;
/// A chunk that says no duration plays as long as the directives' ptime.
const PTIME: u64 = 20;
/// wire §6: an ack gap of this length is answered by a probe.
const PROBE_AFTER: Duration = Duration::from_millis(200);
/// wire §5 "Silence": a sender with nothing to send says so every second.
const KEEPALIVE: Duration = Duration::from_secs(1);

/// A frame to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutFrame {
    /// The source of the directives.
    pub source: u8,
    /// The sink of the directives.
    pub sink: u8,
    /// Of the fixed registry.
    pub payload_type: u64,
    /// The codec's bytes.
    pub payload: Bytes,
    /// Our wall clock when it was captured, ms.
    pub timestamp_ms: u64,
    /// How long it plays, where that isn't the directives' ptime.
    pub duration_ms: Option<u64>,
    /// RFC 6464: −dBov, with the voice bit on top.
    pub level: Option<u8>,
}

/// A frame that arrived; never the same one twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaFrame {
    /// The source of the directives.
    pub source: u8,
    /// The sink of the directives.
    pub sink: u8,
    /// Of the fixed registry.
    pub payload_type: u64,
    /// The codec's bytes.
    pub payload: Bytes,
    /// Its place in its stream.
    pub seq: u64,
    /// The sender's clock, ms.
    pub timestamp_ms: u64,
    /// How long it plays, ms.
    pub duration_ms: u64,
    /// RFC 6464: −dBov, with the voice bit on top.
    pub level: Option<u8>,
    /// When it arrived, by [`crate::clock::elapsed`].
    pub at: Duration,
    /// The stream began anew: forget what came before.
    pub reset: bool,
}

/// What was counted on all streams together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaStats {
    /// Chunks sent.
    pub sent: u64,
    /// Of them, acknowledged.
    pub acknowledged: u64,
    /// Of them, missing at the server.
    pub lost_out: u64,
    /// Different chunks received.
    pub received: u64,
    /// Chunks that never came.
    pub lost: u64,
    /// Chunks that came too late to be played.
    pub late: u64,
    /// Chunks that came twice.
    pub duplicate: u64,
    /// Chunks that can't be read, or that nobody wants.
    pub dropped: u64,
    /// Interarrival jitter, ms.
    pub jitter_ms: f64,
    /// One-way delay, estimated, ms.
    pub delay_ms: f64,
    /// The round trip to the server.
    pub rtt: Option<Duration>,
    /// The opinion score of what is received, once something was.
    pub mos: Option<f64>,
}

#[derive(Debug)]
struct Outgoing {
    ledger: Sender,
    payload_type: u64,
}

#[derive(Debug)]
struct Incoming {
    ledger: Receiver,
    quality: Quality,
    payload_type: u64,
    late: u64,
}

/// The state of a call's media.
#[derive(Debug, Default)]
pub struct Engine {
    outgoing: HashMap<(u8, u8), Outgoing>,
    incoming: HashMap<(u8, u8), Incoming>,
    answers: Vec<Bytes>,
    probe: Option<Duration>,
    probe_answered: Option<Nonce>,
    /// When something last went out, media or control.
    spoke: Duration,
    sent_media: Option<Duration>,
    /// When the server last showed that it hears us.
    alive: Option<Duration>,
    heard: Option<Duration>,
    dropped: u64,
}

impl Engine {
    /// The chunk for a frame.
    pub fn send(&mut self, now: Duration, frame: &OutFrame) -> Option<Bytes> {
        self.send_as(now, frame, None, false)
    }

    /// The chunk for a frame that has its number from elsewhere, or stands alone (an intra frame of video).
    pub fn send_as(
        &mut self,
        now: Duration,
        frame: &OutFrame,
        seq: Option<u64>,
        intra: bool,
    ) -> Option<Bytes> {
        let key = (frame.source, frame.sink);
        if self.outgoing.len() >= MAX_STREAMS && !self.outgoing.contains_key(&key) {
            return None;
        }
        let payload_type = frame.payload_type;
        let stream =
            self.outgoing.entry(key).or_insert_with(|| Outgoing { ledger: Sender::new(), payload_type });
        if std::mem::replace(&mut stream.payload_type, payload_type) != payload_type {
            // wire §5 "Truncation": whole again on a new codec.
            stream.ledger.reset();
        }
        let (seq, whole) = match seq {
            Some(seq) => (seq, stream.ledger.on_send_seq(now, seq, frame.timestamp_ms, intra)),
            None => {
                let numbered = stream.ledger.on_send(now, frame.timestamp_ms, intra);
                (numbered.seq, numbered.whole)
            }
        };
        let header = MediaHeader {
            seq,
            timestamp: frame.timestamp_ms,
            whole,
            payload_type,
            source: frame.source,
            sink: frame.sink,
            audio_level: frame.level,
            duration: frame.duration_ms,
            reference: intra,
            ..MediaHeader::default()
        };
        let mut chunk = BytesMut::new();
        encode(&header, &frame.payload, &mut chunk);
        (self.spoke, self.sent_media) = (now, Some(now));
        Some(chunk.freeze())
    }

    /// Takes in a chunk, whichever way it came.
    pub fn on_chunk(&mut self, now: Duration, bytes: &Bytes) -> Option<MediaFrame> {
        let Ok(chunk) = Chunk::parse(bytes) else {
            self.dropped += 1;
            return None;
        };
        match chunk.kind {
            Kind::Media => self.on_media(now, bytes, &chunk),
            Kind::Control(control) => {
                self.on_control(now, control, chunk.package);
                None
            }
        }
    }

    fn on_control(&mut self, now: Duration, control: ControlType, package: &[u8]) {
        let read = match control {
            ControlType::Ack => Ack::parse(package).map(|ack| self.on_ack(now, &ack)),
            ControlType::Probe => Nonce::new(package).map(|nonce| {
                let mut out = BytesMut::new();
                nonce.encode_answer(&mut out);
                if self.answers.len() < MAX_STREAMS {
                    self.answers.push(out.freeze());
                }
            }),
            ControlType::ProbeAnswer => Nonce::new(package).map(|nonce| {
                self.probe_answered = Some(nonce);
                self.alive = Some(now);
            }),
            ControlType::NeedWhole => NeedWhole::parse(package).map(|need| {
                if let Some(stream) = self.outgoing.get_mut(&(need.source, need.sink)) {
                    stream.ledger.reset();
                }
            }),
            ControlType::Unknown(_) => Ok(()),
        };
        self.dropped += u64::from(read.is_err());
    }

    fn on_ack(&mut self, now: Duration, ack: &Ack) {
        let Some(stream) = self.outgoing.get_mut(&(ack.source, ack.sink)) else { return };
        let Some(outcome) = stream.ledger.on_ack(now, ack) else { return };
        if outcome.newly_received > 0 {
            self.alive = Some(now);
        }
        if let Some(rtt) = stream.ledger.rtt() {
            self.incoming.values_mut().for_each(|incoming| incoming.quality.set_rtt(rtt));
        }
    }

    fn on_media(&mut self, now: Duration, bytes: &Bytes, chunk: &Chunk<'_>) -> Option<MediaFrame> {
        let (Some(seq), Some(timestamp), Some(media)) = (chunk.seq, chunk.timestamp, chunk.media()) else {
            self.dropped += 1;
            return None;
        };
        let key = (chunk.source, chunk.sink);
        if self.incoming.len() >= MAX_STREAMS && !self.incoming.contains_key(&key) {
            self.dropped += 1;
            return None;
        }
        let payload_type = chunk.payload_type;
        let stream = self.incoming.entry(key).or_insert_with(|| Incoming {
            ledger: Receiver::new(chunk.source, chunk.sink),
            quality: Quality::new(Impairment::of(payload_type)),
            payload_type,
            late: 0,
        });
        let (seq, timestamp_ms, reset) = match stream.ledger.on_chunk(now, seq, timestamp) {
            Verdict::Fresh { seq, timestamp } => (seq, timestamp, false),
            Verdict::Reset { seq, timestamp } => (seq, timestamp, true),
            Verdict::Duplicate => {
                stream.quality.on_duplicate();
                return None;
            }
            Verdict::Stale => {
                stream.quality.on_late();
                return None;
            }
            Verdict::NeedWhole => {
                if stream.ledger.need_whole_due(now) {
                    let mut out = BytesMut::new();
                    NeedWhole { source: chunk.source, sink: chunk.sink }.encode(&mut out);
                    self.answers.push(out.freeze());
                }
                return None;
            }
        };
        if reset {
            stream.quality.on_reset();
        }
        if stream.payload_type != payload_type && !matches!(payload_type, 5 | 6) {
            stream.payload_type = payload_type;
            stream.quality.set_codec(Impairment::of(payload_type));
        }
        stream.quality.on_arrival(now, seq, timestamp_ms);
        self.heard = Some(now);
        Some(MediaFrame {
            source: chunk.source,
            sink: chunk.sink,
            payload_type,
            payload: bytes.slice_ref(media),
            seq,
            timestamp_ms,
            duration_ms: chunk.duration.unwrap_or(PTIME),
            level: chunk.audio_level,
            at: now,
            reset,
        })
    }

    /// The control chunks that are due now.
    pub fn controls(&mut self, now: Duration) -> Vec<Bytes> {
        let mut due = std::mem::take(&mut self.answers);
        for stream in self.incoming.values_mut() {
            if let Some(ack) = stream.ledger.ack(now) {
                let mut out = BytesMut::new();
                ack.encode(&mut out);
                due.push(out.freeze());
            }
        }
        let unprobed = self.probe.is_none_or(|at| now.saturating_sub(at) >= PROBE_AFTER);
        let idle = now.saturating_sub(self.spoke) >= KEEPALIVE;
        if unprobed && (idle || self.silence(now) >= PROBE_AFTER) {
            due.push(self.probe(now).1);
        }
        if !due.is_empty() {
            self.spoke = now;
        }
        due
    }

    /// A probe, and the nonce that its answer will bear.
    pub fn probe(&mut self, now: Duration) -> (Nonce, Bytes) {
        self.probe = Some(now);
        let random = uuid::Uuid::new_v4();
        let nonce = Nonce::new(&random.as_bytes()[..8]).expect("8 bytes are a nonce");
        let mut out = BytesMut::new();
        nonce.encode_probe(&mut out);
        (nonce, out.freeze())
    }

    /// The newest probe answer.
    pub fn probe_answered(&self) -> Option<Nonce> {
        self.probe_answered
    }

    /// A new way is open: values go out whole again.
    pub fn on_new_path(&mut self) {
        self.outgoing.values_mut().for_each(|stream| stream.ledger.reset());
    }

    /// How long the server has not acknowledged anything, while we send.
    pub fn silence(&self, now: Duration) -> Duration {
        let sending = self.sent_media.is_some_and(|at| now.saturating_sub(at) < PROBE_AFTER);
        if !sending {
            return Duration::ZERO;
        }
        let silent = self.outgoing.values().map(|stream| stream.ledger.silent_for(now)).max();
        let alive = self.alive.map_or(Duration::MAX, |at| now.saturating_sub(at));
        silent.unwrap_or_default().min(alive)
    }

    /// When media last came.
    pub fn heard(&self) -> Option<Duration> {
        self.heard
    }

    /// When the server last showed that it hears us.
    pub fn alive(&self) -> Option<Duration> {
        self.alive
    }

    /// The player's word: chunks came too late in all, and the delay that it plays with.
    pub fn on_playout(&mut self, stream: (u8, u8), late: u64, delay: Duration) {
        if let Some(stream) = self.incoming.get_mut(&stream) {
            (stream.late..late).for_each(|_| stream.quality.on_late());
            stream.late = stream.late.max(late);
            stream.quality.set_playout(delay);
        }
    }

    /// The share of what was sent that is missing at the server, 0 to 1.
    pub fn loss_out(&self) -> f64 {
        let stats = self.stats();
        stats.lost_out as f64 / (stats.acknowledged + stats.lost_out).max(1) as f64
    }

    /// What was counted.
    pub fn stats(&self) -> MediaStats {
        let mut stats = MediaStats { dropped: self.dropped, ..MediaStats::default() };
        for stream in self.outgoing.values() {
            let counts = stream.ledger.counts();
            stats.sent += counts.sent;
            stats.acknowledged += counts.acknowledged;
            stats.lost_out += counts.lost;
            stats.rtt = stats.rtt.max(stream.ledger.rtt());
        }
        for stream in self.incoming.values() {
            let report = stream.quality.report(0, 0, 0);
            stats.received += report.received;
            stats.lost += report.lost;
            stats.late += report.late;
            stats.duplicate += stream.quality.duplicate();
            stats.jitter_ms = stats.jitter_ms.max(report.jitter_ms);
            stats.delay_ms = stats.delay_ms.max(report.delay_ms);
            stats.mos = Some(stats.mos.map_or(report.mos, |mos: f64| mos.min(report.mos)));
        }
        stats
    }

    /// The entries of a `quality` event: what we receive, and what we send as the acks tell it.
    pub fn reports(&self) -> Vec<StreamReport> {
        let sent = |key| self.outgoing.get(key).map_or(0, |stream| stream.ledger.counts().sent);
        let mut all: Vec<StreamReport> = self
            .incoming
            .iter()
            .map(|(key, stream)| stream.quality.report(key.0, key.1, sent(key)))
            .collect();
        for (key, stream) in self.outgoing.iter().filter(|(key, _)| !self.incoming.contains_key(key)) {
            let sent = stream.ledger.counts().sent;
            all.push(StreamReport { source: key.0, sink: key.1, sent, ..StreamReport::default() });
        }
        all.sort_by_key(|report| (report.source, report.sink));
        all
    }
}

#[cfg(test)]
mod tests;
