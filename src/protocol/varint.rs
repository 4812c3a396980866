//! QUIC's variable-length integers, RFC 9000 §16.

use bytes::BufMut;

/// The greatest value that a varint holds: 2⁶² − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// How many bytes the shortest form of `value` takes.
pub const fn len(value: u64) -> usize {
    match value {
        0..0x40 => 1,
        0x40..0x4000 => 2,
        0x4000..0x4000_0000 => 4,
        _ => 8,
    }
}

/// Writes the shortest form; a value above [`MAX`] is written as [`MAX`].
pub fn put(value: u64, out: &mut impl BufMut) {
    let value = value.min(MAX);
    match len(value) {
        1 => out.put_uint(value, 1),
        2 => out.put_uint(value | 0x4000, 2),
        4 => out.put_uint(value | 0x8000_0000, 4),
        _ => out.put_uint(value | 0xc000_0000_0000_0000, 8),
    }
}

/// Reads the varint at the start of `bytes`, in any of its forms: its value and its length; `None` if cut short.
pub fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let len = 1usize << (first >> 6);
    let rest = bytes.get(1..len)?;
    let value = rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
    Some((value, len))
}

/// Takes the varint at the start of `bytes` off it; `None`, and nothing taken, if cut short.
pub fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (value, len) = get(bytes)?;
    *bytes = &bytes[len..];
    Some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_rfc_9000_appendix_a_1() {
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d][..], 494_878_333),
            (&[0x7b, 0xbd][..], 15_293),
            (&[0x25][..], 37),
        ] {
            assert_eq!(get(bytes), Some((value, bytes.len())));
            let mut out = Vec::new();
            put(value, &mut out);
            assert_eq!(out, bytes);
        }
        assert_eq!(get(&[0x40, 0x25]), Some((37, 2)), "a longer form than needed is legal");
    }

    #[test]
    fn a_cut_varint_is_none_and_takes_nothing() {
        assert_eq!(get(&[]), None);
        let mut bytes = &[0xc0, 0, 0][..];
        assert_eq!(take(&mut bytes), None);
        assert_eq!(bytes.len(), 3);
    }

    proptest! {
        #[test]
        fn what_is_put_is_got(value in 0..=MAX, tail in any::<Vec<u8>>()) {
            let mut out = Vec::new();
            put(value, &mut out);
            prop_assert_eq!(out.len(), len(value));
            out.extend(tail);
            prop_assert_eq!(get(&out), Some((value, len(value))));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            if let Some((value, len)) = get(&bytes) {
                prop_assert!(value <= MAX && len <= bytes.len());
            }
        }
    }
}
