//! Video: whole frames in chunks, and the RTP packets of VP8 (RFC 7741) and H.264 (RFC 6184) that carry them.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};

/// A packet's payload, so that it fits the path with SRTP around it.
const MTU: usize = 1_150;
/// The largest frame: what a chunk may hold.
const MAX_FRAME: usize = 256 * 1024;
/// Packets of frames that are not whole yet.
const MAX_WAITING: usize = 512;
/// Later frames that are there while a packet is still waited for.
const PATIENCE: usize = 8;
/// RFC 6184 §5.2
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const START: [u8; 4] = [0, 0, 0, 1];

/// The codecs that pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VideoCodec {
    Vp8,
    H264,
}

/// A frame that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VideoFrame {
    /// RTP's extended timestamp.
    pub(super) timestamp: u64,
    pub(super) data: Bytes,
    /// It stands alone.
    pub(super) key: bool,
}

/// Puts packets together to frames. A frame with a gap is dropped with all that is built on it.
#[derive(Debug)]
pub(super) struct Assembler {
    codec: VideoCodec,
    waiting: BTreeMap<u64, Packet>,
    /// The packet after the last frame that came out.
    next: Option<u64>,
    /// A frame is missing: only one that stands alone is of use.
    broken: bool,
    wants_key: bool,
}

#[derive(Debug)]
struct Packet {
    timestamp: u64,
    marker: bool,
    payload: Bytes,
}

impl Assembler {
    pub(super) fn new(codec: VideoCodec) -> Self {
        Self { codec, waiting: BTreeMap::new(), next: None, broken: true, wants_key: false }
    }

    /// Takes a packet in; the frames that are whole now, in order.
    pub(super) fn push(
        &mut self,
        packet: u64,
        timestamp: u64,
        marker: bool,
        payload: Bytes,
    ) -> Vec<VideoFrame> {
        if self.next.is_some_and(|next| packet < next) || payload.is_empty() {
            return Vec::new();
        }
        self.waiting.insert(packet, Packet { timestamp, marker, payload });
        let mut frames: Vec<_> = std::iter::from_fn(|| self.pop()).collect();
        let whole = self.waiting.values().filter(|packet| packet.marker).count();
        if whole >= PATIENCE || self.waiting.len() >= MAX_WAITING {
            // What is missing does not come any more.
            self.skip();
            frames.extend(std::iter::from_fn(|| self.pop()));
        }
        frames
    }

    /// Whether a frame that stands alone is to be asked for; once each time.
    pub(super) fn wants_key(&mut self) -> bool {
        std::mem::take(&mut self.wants_key)
    }

    fn pop(&mut self) -> Option<VideoFrame> {
        loop {
            let (first, packet) = self.waiting.first_key_value()?;
            let (first, timestamp) = (*first, packet.timestamp);
            let gap = self.next.is_some_and(|next| first != next);
            let mut last = None;
            let mut size = 0;
            for (n, (number, packet)) in self.waiting.iter().enumerate() {
                if *number != first + n as u64 || packet.timestamp != timestamp {
                    break;
                }
                size += packet.payload.len();
                if packet.marker {
                    last = Some(*number);
                    break;
                }
            }
            let last = last?;
            if gap && !(self.begins(first) && self.stands_alone(first)) {
                // What is missing may still come.
                return None;
            }
            let rest = self.waiting.split_off(&(last + 1));
            let parts = std::mem::replace(&mut self.waiting, rest);
            self.next = Some(last + 1);
            let data = (size <= MAX_FRAME).then(|| self.join(parts.into_values())).flatten();
            match data {
                Some((data, key)) if key || !self.broken => {
                    self.broken = false;
                    return Some(VideoFrame { timestamp, data, key });
                }
                _ => self.lost(),
            }
        }
    }

    /// Whether a packet is a frame's first.
    fn begins(&self, number: u64) -> bool {
        let Some(packet) = self.waiting.get(&number) else { return false };
        match self.codec {
            VideoCodec::Vp8 => vp8_payload(&packet.payload).is_some_and(|(start, _)| start),
            VideoCodec::H264 => match packet.payload.as_ref() {
                [head, fu, ..] if head & 0x1f == FU_A => fu & 0x80 != 0,
                _ => true,
            },
        }
    }

    fn stands_alone(&self, number: u64) -> bool {
        let Some(packet) = self.waiting.get(&number) else { return false };
        match self.codec {
            // RFC 7741 §4.3: P, inverse key frame.
            VideoCodec::Vp8 => vp8_payload(&packet.payload)
                .is_some_and(|(start, at)| start && packet.payload.get(at).is_some_and(|b| b & 1 == 0)),
            VideoCodec::H264 => h264_kinds(&packet.payload).any(|kind| matches!(kind, 5 | 7)),
        }
    }

    fn skip(&mut self) {
        let numbers: Vec<u64> = self.waiting.keys().copied().collect();
        let from =
            numbers.into_iter().skip(1).find(|number| self.begins(*number) && self.stands_alone(*number));
        match from {
            Some(from) => self.waiting = self.waiting.split_off(&from),
            None => self.waiting.clear(),
        }
        self.next = self.waiting.keys().next().copied();
        self.lost();
    }

    fn lost(&mut self) {
        self.broken = true;
        self.wants_key = true;
    }

    fn join(&self, packets: impl Iterator<Item = Packet>) -> Option<(Bytes, bool)> {
        let mut out = BytesMut::new();
        match self.codec {
            VideoCodec::Vp8 => {
                for (n, packet) in packets.enumerate() {
                    let (start, at) = vp8_payload(&packet.payload)?;
                    if n == 0 && !start {
                        return None;
                    }
                    out.put_slice(packet.payload.get(at..)?);
                }
                let key = out.first().is_some_and(|b| b & 1 == 0);
                Some((out.freeze(), key))
            }
            VideoCodec::H264 => {
                let mut key = false;
                for packet in packets {
                    key |= h264_kinds(&packet.payload).any(|kind| kind == 5);
                    h264_units(&packet.payload, &mut out)?;
                }
                (!out.is_empty()).then(|| (out.freeze(), key))
            }
        }
    }
}

/// RFC 7741 §4.2: whether a frame starts here, and where the payload does.
fn vp8_payload(payload: &[u8]) -> Option<(bool, usize)> {
    let first = *payload.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let flags = *payload.get(at)?;
        at += 1;
        if flags & 0x80 != 0 {
            at += if *payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(flags & 0x40 != 0) + usize::from(flags & 0x30 != 0);
    }
    (at < payload.len()).then_some((first & 0x10 != 0 && first & 0x07 == 0, at))
}

/// The types of the units in a packet; of a fragment its whole's.
fn h264_kinds(payload: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let kind = payload.first().map_or(0, |b| b & 0x1f);
    let single = match kind {
        FU_A => payload.get(1).filter(|b| *b & 0x80 != 0).map(|b| b & 0x1f),
        STAP_A => None,
        other => Some(other),
    };
    let mut rest = if kind == STAP_A { &payload[1..] } else { &[] };
    let aggregated = std::iter::from_fn(move || {
        let (unit, after) = stap_unit(rest)?;
        rest = after;
        unit.first().map(|b| b & 0x1f)
    });
    single.into_iter().chain(aggregated)
}

fn stap_unit(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let [high, low, rest @ ..] = rest else { return None };
    rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low]))).filter(|(unit, _)| !unit.is_empty())
}

/// Appends a packet's units as an Annex B byte stream.
fn h264_units(payload: &[u8], out: &mut BytesMut) -> Option<()> {
    match payload.first()? & 0x1f {
        STAP_A => {
            let mut rest = &payload[1..];
            while let Some((unit, after)) = stap_unit(rest) {
                out.put_slice(&START);
                out.put_slice(unit);
                rest = after;
            }
            rest.is_empty().then_some(())
        }
        FU_A => {
            let [indicator, header, fragment @ ..] = payload else { return None };
            if header & 0x80 != 0 {
                out.put_slice(&START);
                out.put_u8(indicator & 0xe0 | header & 0x1f);
            }
            out.put_slice(fragment);
            Some(())
        }
        1..=23 => {
            out.put_slice(&START);
            out.put_slice(payload);
            Some(())
        }
        _ => None,
    }
}

/// The payloads of a frame's packets; the last one bears the marker.
pub(super) fn packets(codec: VideoCodec, frame: &[u8], picture: u16) -> Vec<Vec<u8>> {
    match codec {
        VideoCodec::Vp8 => {
            let piece = |(n, piece): (usize, &[u8])| {
                // RFC 7741 §4.2: X; S on the first; I with M and 15 bits of picture id.
                let [high, low] = (picture | 0x8000).to_be_bytes();
                let mut out = vec![if n == 0 { 0x90 } else { 0x80 }, 0x80, high, low];
                out.extend_from_slice(piece);
                out
            };
            frame.chunks(MTU - 4).enumerate().map(piece).collect()
        }
        VideoCodec::H264 => units(frame).flat_map(fragments).collect(),
    }
}

/// The units of an Annex B byte stream.
fn units(frame: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = frame;
    std::iter::from_fn(move || {
        loop {
            let begin = start_code(rest)?;
            rest = &rest[begin + 3..];
            let end = start_code(rest).unwrap_or(rest.len());
            let unit = &rest[..end];
            // Zeros before a start code belong to it.
            let len = unit.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            if len > 0 {
                return Some(&unit[..len]);
            }
        }
    })
}

fn start_code(bytes: &[u8]) -> Option<usize> {
    bytes.windows(3).position(|three| three == [0, 0, 1])
}

fn fragments(unit: &[u8]) -> Vec<Vec<u8>> {
    if unit.len() <= MTU {
        return vec![unit.to_vec()];
    }
    let (head, body) = (unit[0], &unit[1..]);
    let pieces = body.chunks(MTU - 2);
    let last = pieces.len() - 1;
    let piece = |(n, piece): (usize, &[u8])| {
        let (start, end) = (u8::from(n == 0) << 7, u8::from(n == last) << 6);
        let mut out = vec![head & 0xe0 | FU_A, start | end | head & 0x1f];
        out.extend_from_slice(piece);
        out
    };
    pieces.enumerate().map(piece).collect()
}

#[cfg(test)]
mod tests;
