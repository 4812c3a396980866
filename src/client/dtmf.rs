//! Digits as chunks of telephone-event, RFC 4733 at 8000 Hz.

use std::time::Duration;

use bytes::Bytes;

/// Payload type of telephone-event.
pub(super) const PAYLOAD_TYPE: u64 = 6;
/// The event codes' digits, RFC 4733 §3.2.
const DIGITS: &[u8; 16] = b"0123456789*#ABCD";
/// A level that every receiver hears, −dBm0.
const VOLUME: u8 = 10;
/// Ticks of the clock in a millisecond.
const PER_MS: u32 = 8;
/// An event whose end is lost is over when nothing more comes for so long.
const OVER_AFTER: Duration = Duration::from_millis(300);

/// The payload after `elapsed_ms` of a digit; `None` if it is no digit.
pub(super) fn payload(digit: char, elapsed_ms: u32, end: bool) -> Option<Bytes> {
    let digit = u8::try_from(digit.to_ascii_uppercase()).ok()?;
    let code = DIGITS.iter().position(|known| *known == digit)?;
    let duration = u16::try_from(elapsed_ms * PER_MS).unwrap_or(u16::MAX).to_be_bytes();
    let flags = u8::from(end) << 7 | VOLUME;
    Some(Bytes::copy_from_slice(&[u8::try_from(code).ok()?, flags, duration[0], duration[1]]))
}

/// Whether this can be dialled.
pub(super) fn is_digit(digit: char) -> bool {
    payload(digit, 0, false).is_some()
}

#[derive(Clone, Copy, Debug)]
struct Current {
    timestamp: u64,
    digit: char,
    duration_ms: u32,
    at: Duration,
    told: bool,
}

/// Puts the chunks of telephone-event together to digits, each once.
#[derive(Debug, Default)]
pub(super) struct Collector {
    current: Option<Current>,
}

impl Collector {
    /// Takes a chunk in; a digit that is over by it, with its duration in ms.
    pub(super) fn push(&mut self, now: Duration, timestamp: u64, payload: &[u8]) -> Option<(char, u32)> {
        let [code, flags, high, low, ..] = *payload else { return None };
        let digit = char::from(*DIGITS.get(usize::from(code))?);
        let duration_ms = u32::from(u16::from_be_bytes([high, low])) / PER_MS;
        let same = self.current.is_some_and(|c| c.timestamp == timestamp && c.digit == digit);
        // RFC 4733 §2.5.2.2: a new event ends the one before.
        let before = if same { None } else { self.take() };
        let told = same && self.current.is_some_and(|c| c.told);
        let longest = self.current.filter(|_| same).map_or(0, |c| c.duration_ms).max(duration_ms);
        self.current = Some(Current { timestamp, digit, duration_ms: longest, at: now, told });
        let ended = if flags & 0x80 != 0 { self.take() } else { None };
        before.or(ended)
    }

    /// A digit whose end was lost.
    pub(super) fn poll(&mut self, now: Duration) -> Option<(char, u32)> {
        let current = self.current.as_ref()?;
        if now.saturating_sub(current.at) < OVER_AFTER { None } else { self.take() }
    }

    fn take(&mut self) -> Option<(char, u32)> {
        let current = self.current.as_mut()?;
        let news = !std::mem::replace(&mut current.told, true);
        news.then_some((current.digit, current.duration_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_digit_is_told_once_however_often_its_end_comes() {
        let mut collector = Collector::default();
        for elapsed in [20, 40, 60] {
            assert_eq!(collector.push(ms(0), 7, &payload('5', elapsed, false).unwrap()), None);
        }
        assert_eq!(collector.push(ms(80), 7, &payload('5', 80, true).unwrap()), Some(('5', 80)));
        assert_eq!(collector.push(ms(80), 7, &payload('5', 80, true).unwrap()), None);
        assert_eq!(
            collector.push(ms(200), 9, &payload('5', 100, true).unwrap()),
            Some(('5', 100)),
            "another one"
        );
    }

    #[test]
    fn a_digit_whose_end_is_lost_is_over_by_the_next_one_or_by_silence() {
        let mut collector = Collector::default();
        collector.push(ms(0), 1, &payload('#', 60, false).unwrap());
        assert_eq!(collector.push(ms(90), 2, &payload('a', 20, false).unwrap()), Some(('#', 60)));
        assert_eq!(collector.poll(ms(100)), None);
        assert_eq!(collector.poll(ms(500)), Some(('A', 20)));
        assert_eq!(collector.poll(ms(900)), None);
    }

    #[test]
    fn what_is_no_digit_is_none() {
        assert!(is_digit('*') && is_digit('d') && !is_digit('x') && !is_digit('٣'));
        let mut collector = Collector::default();
        for bytes in [&b""[..], b"\x01", &[16, 0, 0, 0], &[255; 4]] {
            assert_eq!(collector.push(ms(0), 1, bytes), None);
        }
    }
}
