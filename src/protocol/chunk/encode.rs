//! Writing chunks, and rewriting the ones that a relay passes on.

use bytes::{BufMut, BytesMut};

use super::{Chunk, ControlType, OPUS, tag};
use crate::protocol::varint;

/// What the envelope of a media chunk is to say; what equals its default is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaHeader {
    /// Sequence number, below 2⁶².
    pub seq: u64,
    /// Milliseconds, below 2⁶².
    pub timestamp: u64,
    /// Whether sequence and timestamp go out in 8 bytes rather than 2.
    pub whole: bool,
    /// Of the fixed registry; opus if not said.
    pub payload_type: u64,
    /// Source id; 1 if not said.
    pub source: u8,
    /// Sink id; 1 if not said.
    pub sink: u8,
    /// Other chunks are built on this frame.
    pub reference: bool,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// −dBov, with the voice bit on top.
    pub audio_level: Option<u8>,
    /// The media is an SFrame ciphertext; the key-epoch hint.
    pub sframe: Option<u64>,
    /// Milliseconds, where it differs from the directive's ptime.
    pub duration: Option<u64>,
}

impl Default for MediaHeader {
    fn default() -> Self {
        Self {
            seq: 0,
            timestamp: 0,
            whole: true,
            payload_type: OPUS,
            source: 1,
            sink: 1,
            reference: false,
            spatial: 0,
            temporal: 0,
            audio_level: None,
            sframe: None,
            duration: None,
        }
    }
}

/// A field ready to be written; empty when its value is the default.
#[derive(Clone, Copy, Default)]
struct Field {
    bytes: [u8; 9],
    len: usize,
}

impl Field {
    /// `bytes` low bytes of `value` under `tag`.
    fn new(tag: u64, value: u64, bytes: usize) -> Self {
        debug_assert!(tag < 15 && bytes <= 8, "a field of ours has a one-byte head");
        let mut field = Self { bytes: [0; 9], len: 1 + bytes };
        field.bytes[0] = (tag << 4) as u8 | bytes as u8;
        field.bytes[1..=bytes].copy_from_slice(&value.to_be_bytes()[8 - bytes..]);
        field
    }

    /// In as few bytes as the value needs, zero in one.
    fn uint(tag: u64, value: u64) -> Self {
        Self::new(tag, value, 8 - (value | 1).leading_zeros() as usize / 8)
    }

    fn wire(tag: u64, value: u64, whole: bool) -> Self {
        Self::new(tag, value, if whole { 8 } else { 2 })
    }

    fn byte(tag: u64, value: u8, default: u8) -> Self {
        if value == default { Self::default() } else { Self::new(tag, value.into(), 1) }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Appends a media chunk to `out`.
pub fn encode(header: &MediaHeader, media: &[u8], out: &mut BytesMut) {
    let none = Field::default();
    let fields = [
        Field::wire(tag::SEQUENCE, header.seq, header.whole),
        Field::wire(tag::TIMESTAMP, header.timestamp, header.whole),
        if header.payload_type == OPUS { none } else { Field::uint(tag::PAYLOAD_TYPE, header.payload_type) },
        Field::byte(tag::SOURCE, header.source, 1),
        Field::byte(tag::SINK, header.sink, 1),
        if header.reference { Field::new(tag::REFERENCE, 0, 0) } else { none },
        Field::byte(tag::SPATIAL, header.spatial, 0),
        Field::byte(tag::TEMPORAL, header.temporal, 0),
        header.audio_level.map_or(none, |level| Field::new(tag::AUDIO_LEVEL, level.into(), 1)),
        header.sframe.map_or(none, |hint| Field::uint(tag::SFRAME, hint)),
        header.duration.map_or(none, |ms| Field::uint(tag::DURATION, ms)),
    ];
    let len: usize = fields.iter().map(|field| field.len).sum();
    out.reserve(2 + len + 1 + media.len());
    varint::put(len as u64, out);
    for field in &fields {
        out.put_slice(field.as_slice());
    }
    out.put_u8((tag::MEDIA << 4) as u8);
    out.put_slice(media);
}

/// Appends a control chunk with that raw package to `out`.
pub fn encode_control(kind: ControlType, package: &[u8], out: &mut BytesMut) {
    let field = Field::uint(tag::CONTROL, kind.value());
    out.reserve(1 + field.len + package.len());
    varint::put(field.len as u64, out);
    out.put_slice(field.as_slice());
    out.put_slice(package);
}

/// What a relay changes on the way from one leg to another; `None` leaves a field as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// The source id in the far leg's directives.
    pub source: Option<u8>,
    /// The sink id in the far leg's directives.
    pub sink: Option<u8>,
    /// The sequence number, and whether it goes out whole.
    pub seq: Option<(u64, bool)>,
    /// The timestamp, and whether it goes out whole.
    pub timestamp: Option<(u64, bool)>,
}

impl Rewrite {
    /// Whether the chunk can be passed on as it came.
    pub const fn is_verbatim(&self) -> bool {
        self.source.is_none() && self.sink.is_none() && self.seq.is_none() && self.timestamp.is_none()
    }
}

/// Appends `chunk` with `new` in place of the old fields; every other field and the package byte for byte.
pub fn rewrite(chunk: &Chunk<'_>, new: &Rewrite, out: &mut BytesMut) {
    let fields = [
        (tag::SEQUENCE, new.seq.map(|(value, whole)| Field::wire(tag::SEQUENCE, value, whole))),
        (tag::TIMESTAMP, new.timestamp.map(|(value, whole)| Field::wire(tag::TIMESTAMP, value, whole))),
        (tag::SOURCE, new.source.map(|id| Field::byte(tag::SOURCE, id, 1))),
        (tag::SINK, new.sink.map(|id| Field::byte(tag::SINK, id, 1))),
    ];
    let replaced = |tag| fields.iter().any(|(of, field)| *of == tag && field.is_some());
    let kept: usize = chunk.tlvs().filter(|tlv| !replaced(tlv.tag)).map(|tlv| tlv.raw.len()).sum();
    let added: usize = fields.iter().filter_map(|(_, field)| field.map(|field| field.len)).sum();
    out.reserve(8 + kept + added + chunk.package.len());
    varint::put((kept + added) as u64, out);
    for field in fields.iter().filter_map(|(_, field)| field.as_ref()) {
        out.put_slice(field.as_slice());
    }
    for tlv in chunk.tlvs().filter(|tlv| !replaced(tlv.tag)) {
        out.put_slice(tlv.raw);
    }
    out.put_slice(chunk.package);
}
