//! Digits between events and telephone-event chunks (RFC 4733, 8000 Hz).

use bytes::{BufMut, Bytes, BytesMut};

/// Milliseconds between the packets of one event.
pub(crate) const STEP: u32 = 20;
/// Timestamp units per millisecond.
const RATE: u32 = 8;
/// RFC 4733 §2.5.1.4: the last packet goes out three times.
const FINALS: usize = 3;

const DIGITS: &[u8; 16] = b"0123456789*#ABCD";

/// The packets of one digit, in order, one each [`STEP`].
pub(crate) fn payloads(digit: char, duration: u32) -> Vec<Bytes> {
    let Some(event) = DIGITS.iter().position(|d| char::from(*d) == digit.to_ascii_uppercase()) else {
        return Vec::new();
    };
    let packet = |ms: u32, end: bool| {
        let mut out = BytesMut::with_capacity(4);
        out.put_u8(u8::try_from(event).unwrap_or_default());
        // Volume −10 dBm0, as usual.
        out.put_u8(u8::from(end) << 7 | 10);
        out.put_u16(u16::try_from(ms * RATE).unwrap_or(u16::MAX));
        out.freeze()
    };
    let going_on = (1..=duration / STEP).map(|n| n * STEP).filter(|ms| *ms < duration);
    let mut all: Vec<Bytes> = going_on.map(|ms| packet(ms, false)).collect();
    all.extend(std::iter::repeat_n(packet(duration, true), FINALS));
    all
}

/// Finds digits in a stream of telephone-event chunks: one each, though its end comes three times.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    last: Option<u64>,
}

impl Detector {
    /// A chunk came; the digit and its length, when this is the first of its ends.
    pub(crate) fn arrived(&mut self, timestamp: u64, payload: Option<&[u8]>) -> Option<(char, u32)> {
        let &[event, flags, high, low, ..] = payload? else { return None };
        let digit = char::from(*DIGITS.get(usize::from(event))?);
        if flags & 0x80 == 0 || self.last == Some(timestamp) {
            return None;
        }
        self.last = Some(timestamp);
        Some((digit, (u32::from(u16::from_be_bytes([high, low])) / RATE).max(40)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_survives_the_way_through_chunks() {
        for digit in ['0', '9', '*', '#', 'A', 'd'] {
            let packets = payloads(digit, 100);
            assert_eq!(packets.len(), 4 + FINALS);
            let mut detector = Detector::default();
            let found: Vec<_> = packets.iter().filter_map(|p| detector.arrived(7, Some(p))).collect();
            assert_eq!(found, [(digit.to_ascii_uppercase(), 100)]);
            assert_eq!(detector.arrived(8, packets.last().map(|p| &p[..])), found.first().copied());
        }
    }

    #[test]
    fn what_is_no_digit_is_none() {
        let mut detector = Detector::default();
        for payload in [None, Some(&b""[..]), Some(b"\x01\x80"), Some(b"\x40\x80\x00\x10")] {
            assert_eq!(detector.arrived(1, payload), None);
        }
        assert!(payloads('x', 100).is_empty());
    }
}
