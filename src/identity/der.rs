//! As much DER as keys and validity dates need.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const CONTEXT_0: u8 = 0xa0;

/// A reader that takes one element after the other off the front.
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The contents of the next element, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let length = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x83 => {
                let (bytes, after) = rest.split_at_checked(usize::from(first & 0x0f))?;
                rest = after;
                bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte))
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        if found != tag {
            return None;
        }
        self.0 = rest;
        Some(contents)
    }

    /// The elements inside the next sequence.
    pub(super) fn sequence(&mut self) -> Option<Der<'a>> {
        self.take(SEQUENCE).map(Der)
    }

    /// The next element whole, head included, whatever it is.
    pub(super) fn element(&mut self) -> Option<&'a [u8]> {
        let before = self.0;
        self.take(*before.first()?)?;
        before.get(..before.len() - self.0.len())
    }

    /// A non-negative integer's bytes, without the sign byte.
    pub(super) fn unsigned(&mut self) -> Option<&'a [u8]> {
        match self.take(INTEGER)? {
            [] => None,
            [first, ..] if first & 0x80 != 0 => None,
            [0, rest @ ..] => Some(rest),
            bytes => Some(bytes),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_taken_only_whole_and_only_with_its_tag() {
        assert_eq!(Der::new(&[2, 1, 7, 9]).take(INTEGER), Some(&[7][..]));
        assert_eq!(Der::new(&[2, 2, 7]).take(INTEGER), None);
        assert_eq!(Der::new(&[2, 1, 7]).take(OID), None);
        assert_eq!(Der::new(&[2, 0x80, 7]).take(INTEGER), None);
        assert_eq!(Der::new(&[2, 0x83, 0xff, 0xff, 0xff, 1]).take(INTEGER), None);
        assert_eq!(Der::new(&[2, 2, 0, 0x80]).unsigned(), Some(&[0x80][..]));
        assert_eq!(Der::new(&[2, 1, 0x80]).unsigned(), None);
    }
}
