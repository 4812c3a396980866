//! QUIC variable-length integers, RFC 9000 §16.

use bytes::BufMut;

/// The largest value.
pub(super) const MAX: u64 = (1 << 62) - 1;

/// Takes one integer off the front; `None`, and `from` untouched, if it is not all there.
pub(super) fn get(from: &mut &[u8]) -> Option<u64> {
    let first = *from.first()?;
    let len = 1_usize << (first >> 6);
    let (bytes, rest) = from.split_at_checked(len)?;
    let value = bytes[1..].iter().fold(u64::from(first & 0x3f), |v, b| v << 8 | u64::from(*b));
    *from = rest;
    Some(value)
}

/// Appends one integer in its shortest form; values above [`MAX`] are cut to it.
pub(super) fn put(to: &mut impl BufMut, value: u64) {
    let value = value.min(MAX);
    match value {
        0..0x40 => to.put_uint(value, 1),
        0x40..0x4000 => to.put_uint(value | 1 << 14, 2),
        0x4000..0x4000_0000 => to.put_uint(value | 2 << 30, 4),
        _ => to.put_u64(value | 3 << 62),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rfc_examples_read_and_print() {
        for (value, bytes) in [
            (151_288_809_941_952_652, &[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..]),
            (494_878_333, &[0x9d, 0x7f, 0x3e, 0x7d]),
            (15_293, &[0x7b, 0xbd]),
            (37, &[0x25]),
        ] {
            let mut rest = bytes;
            assert_eq!(get(&mut rest), Some(value));
            assert!(rest.is_empty());
            let mut out = Vec::new();
            put(&mut out, value);
            assert_eq!(out, bytes);
            let mut short = &bytes[..bytes.len() - 1];
            assert_eq!(get(&mut short), None);
        }
    }
}
