//! The body of a media byway: any number of `varint length | chunk`.

use bytes::{BufMut, BytesMut};

use crate::protocol::varint;

/// A byway body that ends in the middle of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("body ends inside a chunk")]
pub struct FrameError;

/// The chunks of a byway body; ends after the first broken frame.
#[derive(Clone, Debug)]
pub struct Frames<'a>(&'a [u8]);

/// Walks over the chunks of a byway body.
pub const fn frames(body: &[u8]) -> Frames<'_> {
    Frames(body)
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut rest = std::mem::take(&mut self.0);
        let split = varint::take(&mut rest)
            .and_then(|len| usize::try_from(len).ok())
            .and_then(|len| rest.split_at_checked(len));
        let Some((chunk, rest)) = split else { return Some(Err(FrameError)) };
        self.0 = rest;
        Some(Ok(chunk))
    }
}

/// Appends one chunk with its length to a byway body.
pub fn put_frame(chunk: &[u8], out: &mut BytesMut) {
    out.reserve(8 + chunk.len());
    varint::put(chunk.len() as u64, out);
    out.put_slice(chunk);
}
