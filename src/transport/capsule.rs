//! Capsules on a CONNECT stream, RFC 9297 §3.2, as far as WebTransport sessions need them.

use bytes::{BufMut, Bytes, BytesMut};

use super::varint;

/// draft-ietf-webtrans-http3 §6: CLOSE_WEBTRANSPORT_SESSION.
const CLOSE: u64 = 0x2843;
/// Its message is at most 1024 bytes, after a code of four.
const MAX_CLOSE: u64 = 4 + 1024;

/// Why a session ended, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseReason {
    /// The application's code; 0 if the stream just ended.
    pub code: u32,
    /// The application's message.
    pub message: String,
}

/// The capsule that closes a session; the message is cut to what is allowed.
pub(super) fn close(reason: &CloseReason) -> Bytes {
    let mut message = reason.message.as_str();
    while message.len() > 1024 {
        let mut chars = message.chars();
        chars.next_back();
        message = chars.as_str();
    }
    let mut out = BytesMut::new();
    varint::put(&mut out, CLOSE);
    varint::put(&mut out, 4 + message.len() as u64);
    out.put_u32(reason.code);
    out.put_slice(message.as_bytes());
    out.freeze()
}

/// Reads capsules from slices; keeps no more than one CLOSE in memory.
#[derive(Debug, Default)]
pub(super) struct Reader {
    held: BytesMut,
    skip: u64,
}

impl Reader {
    /// Takes more bytes; the reason, when a CLOSE is complete. A broken CLOSE closes too.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Option<CloseReason> {
        loop {
            let passed = self.skip.min(bytes.len() as u64);
            self.skip -= passed;
            bytes = &bytes[passed as usize..];
            if bytes.is_empty() {
                return None;
            }
            let before = self.held.len();
            let take = bytes.len().min(16 + MAX_CLOSE as usize - before);
            self.held.extend_from_slice(&bytes[..take]);
            let mut rest = &self.held[..];
            let (Some(kind), Some(len)) = (varint::get(&mut rest), varint::get(&mut rest)) else {
                return None;
            };
            let head = self.held.len() - rest.len();
            if kind == CLOSE {
                if !(4..=MAX_CLOSE).contains(&len) {
                    return Some(CloseReason::default());
                }
                let body = rest.get(..len as usize)?;
                let (code, message) = body.split_first_chunk::<4>()?;
                let message = String::from_utf8_lossy(message).into_owned();
                return Some(CloseReason { code: u32::from_be_bytes(*code), message });
            }
            // RFC 9297 §3.2: unknown capsules are skipped.
            self.held.clear();
            self.skip = len;
            bytes = &bytes[head - before..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_is_found_behind_unknown_capsules_in_any_slices() {
        let reason = CloseReason { code: 7, message: "grüße".into() };
        let mut stream = BytesMut::new();
        varint::put(&mut stream, 0x78ae);
        varint::put(&mut stream, 5_000);
        stream.put_bytes(0x40, 5_000);
        varint::put(&mut stream, 0x17);
        varint::put(&mut stream, 0);
        stream.extend_from_slice(&close(&reason));
        for step in [1, 2, 3, 900, 1_100, stream.len()] {
            let mut reader = Reader::default();
            let found: Vec<_> = stream.chunks(step).filter_map(|slice| reader.feed(slice)).collect();
            assert_eq!(found, std::slice::from_ref(&reason), "in steps of {step}");
        }
    }

    #[test]
    fn an_oversized_close_closes_without_being_kept() {
        let mut stream = BytesMut::new();
        varint::put(&mut stream, CLOSE);
        varint::put(&mut stream, 1 << 40);
        assert_eq!(Reader::default().feed(&stream), Some(CloseReason::default()));
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let reason = CloseReason { code: 1, message: "ü".repeat(600) };
        let read = Reader::default().feed(&close(&reason)).unwrap();
        assert_eq!(read.message, "ü".repeat(512));
    }
}
