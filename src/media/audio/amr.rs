//! AMR-WB's payload format (RFC 4867): bandwidth-efficient, or octet-aligned as chunks carry it.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// RFC 4867 §4.3.1: no codec mode is asked for.
pub const NO_REQUEST: u8 = 15;
/// Comfort noise (3GPP TS 26.201).
pub const SID: u8 = 9;
/// RFC 4867 §4.3.2: nothing in this place.
pub const NO_DATA: u8 = 15;
/// 20 ms at 16 kHz.
pub const SPAN: u32 = 320;
/// Frames in a packet: a quarter of a second is more than anybody sends.
const MOST: usize = 12;
/// Speech bits by frame type, 6.60 to 23.85 kbit/s, and those of comfort noise.
const BITS: [usize; 10] = [132, 177, 253, 285, 317, 365, 397, 461, 477, 40];

/// One frame of 20 ms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// FT: 0 to 8 speech, then [`SID`], 14 for lost speech, [`NO_DATA`].
    pub kind: u8,
    /// Q: it isn't damaged.
    pub good: bool,
    /// Its bits, the first on top.
    pub data: SmallVec<[u8; 60]>,
}

/// What a payload holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// CMR: the mode that the far side wants to get, or [`NO_REQUEST`].
    pub request: u8,
    /// The frames, oldest first.
    pub frames: SmallVec<[Frame; 1]>,
}

/// The modes that may be sent (`mode-set`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modes(u16);

impl Default for Modes {
    fn default() -> Self {
        Self::ALL
    }
}

impl Modes {
    /// No limit.
    pub const ALL: Self = Self(0x1ff);

    /// Of their numbers, 0 to 8; none: a number is none of them, or there are none.
    pub fn new(modes: impl IntoIterator<Item = u8>) -> Option<Self> {
        let set = modes.into_iter().try_fold(0u16, |set, mode| (mode <= 8).then(|| set | 1 << mode))?;
        (set != 0).then_some(Self(set))
    }

    /// Their numbers.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=8).filter(move |mode| self.0 & 1 << mode != 0)
    }

    /// Those that both have.
    pub fn meet(self, other: Self) -> Option<Self> {
        let both = self.0 & other.0;
        (both != 0).then_some(Self(both))
    }

    /// Whether a frame of this type may be sent.
    pub fn allow(self, kind: u8) -> bool {
        kind > 8 || self.0 & 1 << kind != 0
    }

    /// The mode nearest to this one and not above it; where all are above it, the lowest.
    pub fn nearest(self, mode: u8) -> u8 {
        let lowest = self.0.trailing_zeros() as u8;
        self.iter().filter(|own| *own <= mode).last().unwrap_or(lowest)
    }

    /// A request that this set can fulfil: its highest mode where none is asked for and not all are allowed.
    pub fn request(self, asked: u8) -> u8 {
        match asked {
            0..=8 => self.nearest(asked),
            _ if self == Self::ALL => NO_REQUEST,
            _ => self.nearest(8),
        }
    }
}

impl Frame {
    fn bits(kind: u8) -> Option<usize> {
        match kind {
            0..=SID => Some(BITS[usize::from(kind)]),
            14 | NO_DATA => Some(0),
            // RFC 4867 §4.3.2: frame types that are not to be used make the payload garbage.
            _ => None,
        }
    }
}

/// A payload's frames; none: garbage.
pub fn unpack(payload: &[u8], aligned: bool) -> Option<Packet> {
    let mut reader = Reader { bytes: payload, at: 0 };
    let request = reader.take(4)? as u8;
    if aligned {
        reader.at = 8;
    }
    let mut heads = SmallVec::<[(u8, bool); 1]>::new();
    loop {
        let head = reader.take(6)?;
        if aligned {
            reader.at += 2;
        }
        heads.push(((head >> 1 & 15) as u8, head & 1 != 0));
        if head & 0x20 == 0 {
            break;
        }
        if heads.len() == MOST {
            return None;
        }
    }
    let mut frames = SmallVec::new();
    for (kind, good) in heads {
        let mut left = Frame::bits(kind)?;
        let mut data = SmallVec::new();
        while left > 0 {
            let bits = left.min(8);
            data.push((reader.take(bits)? << (8 - bits)) as u8);
            left -= bits;
        }
        if aligned {
            reader.at = reader.at.next_multiple_of(8);
        }
        frames.push(Frame { kind, good, data });
    }
    // RFC 4867 §4.3.1: an unknown request is none.
    Some(Packet { request: if request <= 8 { request } else { NO_REQUEST }, frames })
}

/// Frames as a payload.
pub fn pack(request: u8, frames: &[Frame], aligned: bool) -> Bytes {
    let mut writer = Writer { bytes: BytesMut::with_capacity(2 + 61 * frames.len()), spare: 0 };
    writer.put(request.into(), 4);
    writer.align(aligned);
    for (n, frame) in frames.iter().enumerate() {
        let more = u32::from(n + 1 < frames.len());
        writer.put(more << 5 | u32::from(frame.kind & 15) << 1 | u32::from(frame.good), 6);
        writer.align(aligned);
    }
    for frame in frames {
        let mut left = Frame::bits(frame.kind).unwrap_or(0);
        for byte in &frame.data {
            let bits = left.min(8);
            writer.put(u32::from(*byte) >> (8 - bits), bits);
            left -= bits;
        }
        writer.align(aligned);
    }
    writer.bytes.freeze()
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// At most 8 bits.
    fn take(&mut self, bits: usize) -> Option<u32> {
        let end = self.at + bits;
        if end > self.bytes.len() * 8 {
            return None;
        }
        let first = self.at / 8;
        let two = u32::from(self.bytes[first]) << 8
            | u32::from(self.bytes.get(first + 1).copied().unwrap_or_default());
        self.at = end;
        Some(two >> (16 - (end - first * 8)) & ((1 << bits) - 1))
    }
}

struct Writer {
    bytes: BytesMut,
    /// Bits of the last byte that are not used yet.
    spare: usize,
}

impl Writer {
    /// At most 8 bits.
    fn put(&mut self, value: u32, bits: usize) {
        if bits == 0 {
            return;
        }
        if self.spare < bits {
            let over = bits - self.spare;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (value >> over) as u8 & (0xff >> (8 - self.spare.max(1)));
            }
            self.bytes.put_u8((value << (8 - over)) as u8);
            self.spare = 8 - over;
        } else {
            self.spare -= bits;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (value << self.spare) as u8;
            }
        }
    }

    fn align(&mut self, aligned: bool) {
        if aligned {
            self.spare = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, seed: u8) -> Frame {
        let bits = Frame::bits(kind).unwrap();
        let mut data: SmallVec<[u8; 60]> =
            (0..bits.div_ceil(8)).map(|n| (n as u8).wrapping_mul(37) ^ seed).collect();
        if let (Some(last), used @ 1..) = (data.last_mut(), bits % 8) {
            *last &= 0xff << (8 - used);
        }
        Frame { kind, good: seed.is_multiple_of(2), data }
    }

    #[test]
    fn every_mode_survives_both_formats() {
        for aligned in [false, true] {
            for kinds in [&[0u8][..], &[8], &[2, 2], &[SID], &[NO_DATA], &[14, 3, 9]] {
                let frames: Vec<_> =
                    kinds.iter().enumerate().map(|(n, kind)| frame(*kind, 0x5a ^ n as u8)).collect();
                let payload = pack(2, &frames, aligned);
                let back = unpack(&payload, aligned).unwrap();
                assert_eq!((back.request, &back.frames[..]), (2, &frames[..]), "{aligned} {kinds:?}");
            }
        }
    }

    /// RFC 4867 §4.3.5.1 and §4.4.5: what comes first in each format.
    #[test]
    fn the_heads_are_those_of_the_rfc() {
        let one = [frame(4, 0)];
        let aligned = pack(6, &one, true);
        assert_eq!((aligned[0], aligned[1], aligned.len()), (6 << 4, 4 << 3 | 4, 2 + 40));
        assert_eq!(aligned[2..], one[0].data[..]);
        let tight = pack(6, &one, false);
        // CMR 0110, F 0, FT 0100, Q 1, and the first six bits of speech; 327 bits in all.
        assert_eq!((tight[0], tight[1] >> 6, tight.len()), (0b0110_0010, 0b01, 41));
        assert_eq!(tight[1] & 0x3f, one[0].data[0] >> 2);
    }

    #[test]
    fn a_mode_set_bounds_what_is_asked_for() {
        let set = Modes::new([0, 1, 2]).unwrap();
        assert_eq!([15, 8, 2, 1].map(|asked| set.request(asked)), [2, 2, 2, 1]);
        assert_eq!(Modes::ALL.request(15), NO_REQUEST);
        assert_eq!(Modes::new([4, 8]).unwrap().request(1), 4);
        assert!(set.allow(SID) && set.allow(2) && !set.allow(3));
        assert_eq!((Modes::new([9]), Modes::new([])), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_or_read_within_bounds(
            payload in proptest::collection::vec(0u8.., 0..200), aligned in proptest::bool::ANY
        ) {
            if let Some(packet) = unpack(&payload, aligned) {
                proptest::prop_assert!(packet.frames.len() <= MOST);
                let again = unpack(&pack(packet.request, &packet.frames, !aligned), !aligned);
                proptest::prop_assert_eq!(again, Some(packet));
            }
        }
    }
}
