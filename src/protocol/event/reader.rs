//! Cuts a stream of bytes into events: a JSON array, bare objects, or one object a line.

use bytes::{Buf, Bytes, BytesMut};
use serde_json::Value;

/// Why a stream can't be read on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// An event is longer than the limit.
    #[error("an event takes more than {0} bytes")]
    TooLarge(usize),
    /// An event nests deeper than 16.
    #[error("an event nests deeper than 16")]
    TooDeep,
    /// Something other than an object stands between events.
    #[error("byte {0:#04x} stands where `[`, `,`, white space, `{{` or `]` is expected")]
    Unexpected(u8),
    /// An object is not JSON.
    #[error("an event isn't JSON: {0}")]
    NotJson(String),
}

/// wire §4: a reader takes at most 64 KiB an event.
pub(super) const MAX_EVENT: usize = 64 * 1024;
/// wire §4: nests at most 16 deep.
const MAX_DEPTH: usize = 16;

/// An incremental reader; holds at most one unfinished event.
#[derive(Debug)]
pub struct EventReader {
    buffer: BytesMut,
    /// How far into the unfinished object the scan has come, and in what state.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    ended: bool,
    limit: usize,
}

impl Default for EventReader {
    fn default() -> Self {
        Self::new(MAX_EVENT)
    }
}

impl EventReader {
    /// A reader that takes at most `limit` bytes an event.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            ended: false,
            limit,
        }
    }

    /// Takes in what arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the array was closed.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether an event was begun and not finished.
    pub fn unfinished(&self) -> bool {
        self.depth > 0
    }

    /// The next whole event, as JSON.
    pub fn next_json(&mut self) -> Result<Option<Value>, ReadError> {
        match self.next_object()? {
            None => Ok(None),
            Some(bytes) => {
                serde_json::from_slice(&bytes).map(Some).map_err(|e| ReadError::NotJson(e.to_string()))
            }
        }
    }

    fn next_object(&mut self) -> Result<Option<Bytes>, ReadError> {
        if self.depth == 0 {
            while let Some(&first) = self.buffer.first() {
                match first {
                    b'{' => break,
                    b']' => self.ended = true,
                    // RFC 8259 §2 white space, the array's own marks, and RFC 7464's record separator.
                    b'[' | b',' | b' ' | b'\t' | b'\r' | b'\n' | 0x1e => {}
                    other => return Err(ReadError::Unexpected(other)),
                }
                self.buffer.advance(1);
            }
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.scanned > self.limit {
                return Err(ReadError::TooLarge(self.limit));
            }
            if self.in_string {
                match (self.escaped, byte) {
                    (true, _) => self.escaped = false,
                    (false, b'\\') => self.escaped = true,
                    (false, b'"') => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > MAX_DEPTH {
                        return Err(ReadError::TooDeep);
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.buffer.split_to(std::mem::take(&mut self.scanned)).freeze()));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Value>, ReadError> {
        let mut reader = EventReader::default();
        let mut out = Vec::new();
        for part in bytes.chunks(step.max(1)) {
            reader.push(part);
            while let Some(json) = reader.next_json()? {
                out.push(json);
            }
        }
        Ok(out)
    }

    #[test]
    fn arrays_lines_and_bare_objects_are_all_read_at_any_cut() {
        let wanted: Vec<Value> =
            vec![serde_json::json!({"a": "]},{\"["}), serde_json::json!({"b": [1, {"c": "\\"}]})];
        let (one, two) = (wanted[0].to_string(), wanted[1].to_string());
        for text in [
            format!("[{one},{two}]"),
            format!("{one}\n{two}\n"),
            format!("{one}{two}"),
            format!(" [ \r\n\n{one}\n,\n\n{two}"),
        ] {
            for step in 1..text.len() {
                assert_eq!(all(text.as_bytes(), step).unwrap(), wanted, "{text} cut at {step}");
            }
        }
    }

    #[test]
    fn what_is_too_deep_too_long_or_no_object_is_refused() {
        assert_eq!(all("{\"a\":".repeat(5000).as_bytes(), 100), Err(ReadError::TooDeep));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_EVENT));
        assert_eq!(all(long.as_bytes(), 1000), Err(ReadError::TooLarge(MAX_EVENT)));
        assert_eq!(all(b"hello", 1), Err(ReadError::Unexpected(b'h')));
        assert!(matches!(all(b"{nonsense}", 1), Err(ReadError::NotJson(_))));
    }

    #[test]
    fn the_end_of_the_array_is_seen() {
        let mut reader = EventReader::default();
        reader.push(b"[{}]");
        assert!(reader.next_json().unwrap().is_some() && !reader.ended());
        assert!(reader.next_json().unwrap().is_none() && reader.ended());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1usize..50) {
            let _ = all(&bytes, step);
        }

        #[test]
        fn hostile_brackets_never_panic(text in "[\\[\\]{},\"\\\\ a1:]{0,200}", step in 1usize..20) {
            let _ = all(text.as_bytes(), step);
        }
    }
}
