//! The media chunk, `ript-chunk/1`: `envelope-length | envelope | package`, read in place.

mod encode;
mod frame;
#[cfg(test)]
mod tests;

pub use encode::{MediaHeader, Rewrite, encode, encode_control, rewrite};
pub use frame::{FrameError, Frames, frames, put_frame};

use super::varint;

/// Sequence numbers and timestamps stay below this: 2⁶².
pub const LIMIT: u64 = 1 << 62;
/// Payload type of a chunk that names none: opus.
pub const OPUS: u64 = 1;
/// Unknown tags above 127 that one envelope may hold; bounds the search for duplicates.
const MAX_HIGH_TAGS: u32 = 32;

mod tag {
    pub(super) const CONTROL: u64 = 0;
    pub(super) const SEQUENCE: u64 = 1;
    pub(super) const TIMESTAMP: u64 = 2;
    pub(super) const PAYLOAD_TYPE: u64 = 3;
    pub(super) const MEDIA: u64 = 4;
    pub(super) const SOURCE: u64 = 5;
    pub(super) const SINK: u64 = 6;
    pub(super) const REFERENCE: u64 = 7;
    pub(super) const SPATIAL: u64 = 8;
    pub(super) const TEMPORAL: u64 = 9;
    pub(super) const AUDIO_LEVEL: u64 = 10;
    pub(super) const SFRAME: u64 = 11;
    pub(super) const DURATION: u64 = 12;
}

/// What a control chunk is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// What arrived, per stream and hop.
    Ack,
    /// Asks for the same nonce back.
    Probe,
    /// The answer to a probe.
    ProbeAnswer,
    /// The receiver cannot expand truncated values.
    NeedWhole,
    /// None of ours: ignored.
    Unknown(u64),
}

impl ControlType {
    /// The value of tag 0.
    pub const fn value(self) -> u64 {
        match self {
            Self::Ack => 1,
            Self::Probe => 2,
            Self::ProbeAnswer => 3,
            Self::NeedWhole => 4,
            Self::Unknown(value) => value,
        }
    }
}

impl From<u64> for ControlType {
    fn from(value: u64) -> Self {
        match value {
            1 => Self::Ack,
            2 => Self::Probe,
            3 => Self::ProbeAnswer,
            4 => Self::NeedWhole,
            _ => Self::Unknown(value),
        }
    }
}

/// Whether a chunk carries media or speaks about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A piece of a stream.
    Media,
    /// Hop-by-hop talk.
    Control(ControlType),
}

/// A sequence number or timestamp as it was sent: whole in 8 bytes, truncated in fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wire {
    /// The bytes read as a big-endian integer.
    pub value: u64,
    /// How many bytes there were, 1–8.
    pub bytes: u8,
}

impl Wire {
    /// All 8 bytes of `value`.
    pub const fn whole(value: u64) -> Self {
        Self { value, bytes: 8 }
    }

    /// The low two bytes of `value`, as senders truncate.
    pub const fn short(value: u64) -> Self {
        Self { value: value & 0xffff, bytes: 2 }
    }

    /// Whether nothing was cut off.
    pub const fn is_whole(self) -> bool {
        self.bytes >= 8
    }
}

/// Why a chunk is dropped, and under what name it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChunkError {
    /// No bytes at all.
    #[error("empty chunk")]
    Empty,
    /// The envelope's length is cut short or greater than the chunk.
    #[error("envelope longer than the chunk")]
    Envelope,
    /// A tag, length or value runs past the envelope's end.
    #[error("field runs past the envelope")]
    Truncated,
    /// The same tag twice, known or not.
    #[error("tag {0} twice")]
    DuplicateTag(u64),
    /// More high unknown tags than anyone needs.
    #[error("too many tags")]
    TooManyTags,
    /// An integer of more than 8 bytes.
    #[error("integer of tag {0} longer than 8 bytes")]
    IntegerLength(u64),
    /// A field whose length its tag does not allow.
    #[error("length of tag {0}")]
    FieldLength(u64),
    /// A whole sequence number or timestamp of 2⁶² or more.
    #[error("value of tag {0} out of range")]
    Range(u64),
    /// Media without tag 1.
    #[error("media without a sequence number")]
    NoSequence,
    /// Media without tag 2.
    #[error("media without a timestamp")]
    NoTimestamp,
    /// Media whose package does not start with tag 4; relays pass it on, receivers drop it.
    #[error("unreadable package")]
    Package,
}

impl ChunkError {
    /// The name under which drops are counted.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Envelope => "envelope",
            Self::Truncated => "truncated",
            Self::DuplicateTag(_) => "duplicate-tag",
            Self::TooManyTags => "too-many-tags",
            Self::IntegerLength(_) => "integer-length",
            Self::FieldLength(_) => "field-length",
            Self::Range(_) => "range",
            Self::NoSequence => "no-sequence",
            Self::NoTimestamp => "no-timestamp",
            Self::Package => "package",
        }
    }
}

/// One field of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// The real tag, whichever form it was sent in.
    pub tag: u64,
    /// The value's bytes.
    pub value: &'a [u8],
    /// Head, length and value as sent.
    pub raw: &'a [u8],
}

/// The fields of an envelope in their order; ends after the first broken one.
#[derive(Clone, Debug)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Result<Tlv<'a>, ChunkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let all = std::mem::take(&mut self.0);
        let Some((tag, value, rest)) = split_tlv(all) else { return Some(Err(ChunkError::Truncated)) };
        self.0 = rest;
        Some(Ok(Tlv { tag, value, raw: &all[..all.len() - rest.len()] }))
    }
}

/// Tag, value, and what follows them.
fn split_tlv(all: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (head, mut rest) = all.split_first()?;
    let tag = match head >> 4 {
        15 => varint::take(&mut rest)?,
        tag => u64::from(tag),
    };
    let len = match head & 15 {
        15 => usize::try_from(varint::take(&mut rest)?).ok()?,
        len => usize::from(len),
    };
    let (value, rest) = rest.split_at_checked(len)?;
    Some((tag, value, rest))
}

/// A chunk read in place: what its fields say, defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Media or control.
    pub kind: Kind,
    /// Tag 1; always there in media.
    pub seq: Option<Wire>,
    /// Tag 2, milliseconds; always there in media.
    pub timestamp: Option<Wire>,
    /// Tag 3, of the fixed registry.
    pub payload_type: u64,
    /// Tag 5.
    pub source: u8,
    /// Tag 6.
    pub sink: u8,
    /// Tag 7: other chunks are built on this frame.
    pub reference: bool,
    /// Tag 8: spatial layer.
    pub spatial: u8,
    /// Tag 9: temporal layer.
    pub temporal: u8,
    /// Tag 10: −dBov, with the voice bit on top.
    pub audio_level: Option<u8>,
    /// Tag 11: the media is an SFrame ciphertext; the key-epoch hint.
    pub sframe: Option<u64>,
    /// Tag 12, milliseconds.
    pub duration: Option<u64>,
    /// The envelope as sent, without its length.
    pub envelope: &'a [u8],
    /// Everything after the envelope; for media it starts with tag 4's head.
    pub package: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads one chunk, or says why it is dropped.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ChunkError> {
        if bytes.is_empty() {
            return Err(ChunkError::Empty);
        }
        let mut rest = bytes;
        let (envelope, package) = varint::take(&mut rest)
            .and_then(|len| rest.split_at_checked(usize::try_from(len).ok()?))
            .ok_or(ChunkError::Envelope)?;
        let mut chunk = Self {
            kind: Kind::Media,
            seq: None,
            timestamp: None,
            payload_type: OPUS,
            source: 1,
            sink: 1,
            reference: false,
            spatial: 0,
            temporal: 0,
            audio_level: None,
            sframe: None,
            duration: None,
            envelope,
            package,
        };
        let (mut low, mut high) = (0u128, 0);
        for (index, tlv) in Tlvs(envelope).enumerate() {
            let tlv = tlv?;
            if tlv.tag < 128 {
                if low & 1 << tlv.tag != 0 {
                    return Err(ChunkError::DuplicateTag(tlv.tag));
                }
                low |= 1 << tlv.tag;
            } else {
                high += 1;
                if high > MAX_HIGH_TAGS {
                    return Err(ChunkError::TooManyTags);
                }
                if chunk.tlvs().take(index).any(|earlier| earlier.tag == tlv.tag) {
                    return Err(ChunkError::DuplicateTag(tlv.tag));
                }
            }
            chunk.set(&tlv)?;
        }
        if chunk.kind == Kind::Media {
            chunk.seq.ok_or(ChunkError::NoSequence)?;
            chunk.timestamp.ok_or(ChunkError::NoTimestamp)?;
        }
        Ok(chunk)
    }

    /// The envelope's fields, unknown ones too, in their order.
    pub fn tlvs(&self) -> impl Iterator<Item = Tlv<'a>> + use<'a> {
        Tlvs(self.envelope).map_while(Result::ok)
    }

    /// The codec's (or SFrame's) bytes; `None` for control chunks and packages that cannot be read.
    pub fn media(&self) -> Option<&'a [u8]> {
        match (self.kind, self.package.split_first()?) {
            (Kind::Media, (&head, media)) if u64::from(head) == tag::MEDIA << 4 => Some(media),
            _ => None,
        }
    }

    fn set(&mut self, tlv: &Tlv<'_>) -> Result<(), ChunkError> {
        match tlv.tag {
            tag::CONTROL => self.kind = Kind::Control(uint(tlv)?.into()),
            tag::SEQUENCE => self.seq = Some(wire(tlv)?),
            tag::TIMESTAMP => self.timestamp = Some(wire(tlv)?),
            tag::PAYLOAD_TYPE => self.payload_type = uint(tlv)?,
            tag::SOURCE => self.source = byte(tlv)?,
            tag::SINK => self.sink = byte(tlv)?,
            tag::REFERENCE if !tlv.value.is_empty() => return Err(ChunkError::FieldLength(tlv.tag)),
            tag::REFERENCE => self.reference = true,
            tag::SPATIAL => self.spatial = byte(tlv)?,
            tag::TEMPORAL => self.temporal = byte(tlv)?,
            tag::AUDIO_LEVEL => self.audio_level = Some(byte(tlv)?),
            tag::SFRAME => self.sframe = Some(uint(tlv)?),
            tag::DURATION => self.duration = Some(uint(tlv)?),
            _ => {}
        }
        Ok(())
    }
}

/// The value that `truncated` stands for: the one nearest to `newest`, at exactly half the higher one.
pub fn expand(truncated: Wire, newest: u64) -> u64 {
    if truncated.is_whole() {
        return truncated.value;
    }
    let span = 1u64 << (8 * u32::from(truncated.bytes.max(1)));
    let newest = newest.min(LIMIT - 1);
    let near = newest & !(span - 1) | truncated.value & (span - 1);
    // Below 2⁶², so neither sum nor difference wraps.
    if newest >= near && newest - near >= span / 2 && near + span < LIMIT {
        near + span
    } else if near > newest && near - newest > span / 2 && near >= span {
        near - span
    } else {
        near
    }
}

fn uint(tlv: &Tlv<'_>) -> Result<u64, ChunkError> {
    if tlv.value.len() > 8 {
        return Err(ChunkError::IntegerLength(tlv.tag));
    }
    Ok(tlv.value.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn wire(tlv: &Tlv<'_>) -> Result<Wire, ChunkError> {
    let value = uint(tlv)?;
    match u8::try_from(tlv.value.len()) {
        Ok(bytes @ 1..=8) if value < LIMIT => Ok(Wire { value, bytes }),
        Ok(1..=8) => Err(ChunkError::Range(tlv.tag)),
        _ => Err(ChunkError::FieldLength(tlv.tag)),
    }
}

fn byte(tlv: &Tlv<'_>) -> Result<u8, ChunkError> {
    match tlv.value {
        [byte] => Ok(*byte),
        _ => Err(ChunkError::FieldLength(tlv.tag)),
    }
}
