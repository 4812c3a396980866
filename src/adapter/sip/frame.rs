//! Messages out of the bytes of a stream (RFC 3261 §18.3), and the keep-alives between them (RFC 5626 §4.4.1).

use bytes::{Buf, Bytes, BytesMut};

/// The longest message.
const LONGEST: usize = 65_535;

/// What stands next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Two line ends: to be answered by one.
    Ping,
    /// One line end.
    Pong,
    /// A message, whole.
    Message(Bytes),
}

/// Nobody knows where the next message begins.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) why: &'static str,
    /// What there is of the message.
    pub(super) head: Bytes,
}

/// The bytes that came and are no message yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) buffer: BytesMut,
    /// Looked through for the end of the headers.
    seen: usize,
}

impl Frames {
    /// The next one; none: more bytes are needed. `pinged`: an answer to a ping is awaited.
    pub(super) fn next(&mut self, pinged: bool) -> Result<Option<Frame>, Lost> {
        loop {
            match &self.buffer[..] {
                [b'\r', b'\n', b'\r', b'\n', ..] => {
                    self.buffer.advance(4);
                    return Ok(Some(Frame::Ping));
                }
                // Without a ping of ours it may be the first half of one of theirs.
                [] | [b'\r'] | [b'\r', b'\n', b'\r'] => return Ok(None),
                [b'\r', b'\n'] if !pinged => return Ok(None),
                [b'\r', b'\n', ..] => {
                    self.buffer.advance(2);
                    if pinged {
                        return Ok(Some(Frame::Pong));
                    }
                }
                _ => break,
            }
        }
        let from = self.seen.saturating_sub(3);
        let end = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end.map(|end| from + end + 4) else {
            self.seen = self.buffer.len();
            return if self.seen > LONGEST {
                self.lost("a message that is too long", self.seen)
            } else {
                Ok(None)
            };
        };
        let length = match length(&self.buffer[..end]) {
            Ok(length) => length,
            Err(why) => return self.lost(why, end),
        };
        let whole = end + length;
        if whole > LONGEST {
            return self.lost("a message that is too long", end);
        }
        if self.buffer.len() < whole {
            return Ok(None);
        }
        self.seen = 0;
        Ok(Some(Frame::Message(self.buffer.split_to(whole).freeze())))
    }

    /// Whether a message has begun.
    pub(super) fn is_within(&self) -> bool {
        self.buffer.len() > 2
    }

    fn lost(&mut self, why: &'static str, end: usize) -> Result<Option<Frame>, Lost> {
        self.seen = 0;
        Err(Lost { why, head: self.buffer.split_to(end).freeze() })
    }
}

/// RFC 3261 §20.14: how long the body is. On a stream it has to be said.
fn length(head: &[u8]) -> Result<usize, &'static str> {
    let mut found = None;
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if !name.eq_ignore_ascii_case(b"content-length") && !name.eq_ignore_ascii_case(b"l") {
            continue;
        }
        let digits = !value.is_empty() && value.len() <= 9 && value.iter().all(u8::is_ascii_digit);
        if !digits {
            return Err("a Content-Length that is no number");
        }
        let number = value.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
        if found.replace(number).is_some_and(|before| before != number) {
            return Err("Content-Length more than once");
        }
    }
    found.ok_or("no Content-Length, which messages of a stream need")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(body: &str) -> String {
        format!("OPTIONS sip:a SIP/2.0\r\nl : {}\r\nVia: x\r\n\r\n{body}", body.len())
    }

    /// All frames of these bytes, which come in pieces of this size.
    fn frames(bytes: &[u8], size: usize, pinged: bool) -> (Vec<Frame>, Option<Lost>) {
        let (mut frames, mut all) = (Frames::default(), Vec::new());
        for piece in bytes.chunks(size) {
            frames.buffer.extend_from_slice(piece);
            loop {
                match frames.next(pinged) {
                    Ok(Some(frame)) => all.push(frame),
                    Ok(None) => break,
                    Err(lost) => return (all, Some(lost)),
                }
            }
        }
        (all, None)
    }

    #[test]
    fn messages_and_pings_are_told_apart_however_they_come() {
        let (one, two) = (message("body"), message(""));
        let text = format!("\r\n\r\n{one}\r\n{two}\r\n\r\n\r\n\r\n{one}");
        let whole = |text: &str| Frame::Message(Bytes::copy_from_slice(text.as_bytes()));
        for size in 1..text.len() {
            let (found, lost) = frames(text.as_bytes(), size, false);
            assert_eq!(found, [Frame::Ping, whole(&one), whole(&two), Frame::Ping, Frame::Ping, whole(&one)]);
            assert_eq!(lost, None);
        }
        assert_eq!(frames(b"\r\n", 2, true).0, [Frame::Pong]);
        assert_eq!(frames(format!("\r\n{two}").as_bytes(), 1, true).0, [Frame::Pong, whole(&two)]);
    }

    #[test]
    fn where_no_length_is_said_nobody_knows_what_follows() {
        for (line, why) in [
            ("Via: x", "no Content-Length"),
            ("Content-Length: x", "no number"),
            ("Content-Length: -1", "no number"),
            ("Content-Length:", "no number"),
            ("Content-Length: 99999999999999999999999999", "no number"),
            ("l: :L5LL:5LL5L5L5LLL55555555555555555555", "no number"),
            ("Content-Length: 1\r\nl: 2", "more than once"),
            ("Content-Length: 999999999", "too long"),
        ] {
            let text = format!("OPTIONS sip:a SIP/2.0\r\n{line}\r\n\r\nrest");
            let (found, lost) = frames(text.as_bytes(), 7, false);
            let lost = lost.unwrap();
            assert!(found.is_empty() && lost.why.contains(why), "{line}: {lost:?}");
            assert!(lost.head.ends_with(b"\r\n\r\n"));
        }
        let (_, lost) = frames(&[b'x'; LONGEST + 1], 1_000, false);
        assert_eq!(lost.unwrap().why, "a message that is too long");
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic_and_pieces_change_nothing(
            bytes in prop::collection::vec(prop::sample::select(&b"\r\n:lL5 x"[..]), 0..200),
            size in 1_usize..9,
        ) {
            let (mut whole, mut pieces) = (frames(&bytes, bytes.len().max(1), false), frames(&bytes, size, false));
            // What is there of a message that is none depends on when it is found.
            for found in [&mut whole, &mut pieces] {
                found.1 = None;
            }
            prop_assert_eq!(whole.0, pieces.0);
        }
    }
}
