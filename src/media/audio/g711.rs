//! ITU-T G.711: µ-law and A-law, one byte a sample.

/// The two laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Law {
    /// µ-law, PCMU.
    Mu,
    /// A-law, PCMA.
    A,
}

impl Law {
    /// One sample as a byte.
    pub fn encode(self, sample: i16) -> u8 {
        match self {
            Self::Mu => encode_mu(sample),
            Self::A => encode_a(sample),
        }
    }

    /// The sample a byte stands for.
    pub fn decode(self, byte: u8) -> i16 {
        match self {
            Self::Mu => decode_mu(byte),
            Self::A => decode_a(byte),
        }
    }
}

/// The bias of µ-law at 16 bits: 33 at the law's own 14 bits.
const BIAS: i32 = 0x84;

fn encode_mu(sample: i16) -> u8 {
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = i32::from(sample).abs().min(32_635) + BIAS;
    let segment = 24 - (magnitude as u32).leading_zeros();
    let mantissa = (magnitude >> (segment + 3)) & 0x0f;
    !(sign | (segment as u8) << 4 | mantissa as u8)
}

fn decode_mu(byte: u8) -> i16 {
    let byte = !byte;
    let magnitude = ((i32::from(byte & 0x0f) << 3) + BIAS) << ((byte >> 4) & 7);
    let value = magnitude - BIAS;
    (if byte & 0x80 == 0 { value } else { -value }) as i16
}

fn encode_a(sample: i16) -> u8 {
    // One's complement for negatives, so that −1 lies in the first step below zero.
    let (sign, magnitude) = if sample < 0 { (0, !sample) } else { (0x80, sample) };
    let magnitude = magnitude as u32;
    let segment = (24 - (magnitude | 0xff).leading_zeros()) as u8;
    let shift = if segment == 0 { 4 } else { segment + 3 };
    let mantissa = ((magnitude >> shift) & 0x0f) as u8;
    (sign | segment << 4 | mantissa) ^ 0x55
}

fn decode_a(byte: u8) -> i16 {
    let byte = byte ^ 0x55;
    let (segment, mantissa) = ((byte >> 4) & 7, i32::from(byte & 0x0f) << 4);
    let value = if segment == 0 { mantissa + 8 } else { (mantissa + 0x108) << (segment - 1) };
    (if byte & 0x80 == 0 { -value } else { value }) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decision values and outputs of G.711 tables 2a and 2b, at 16 bits (four times the 14-bit figures).
    #[test]
    fn mu_law_meets_the_tables() {
        for (byte, value) in [
            (0x80, 32_124),
            (0x00, -32_124),
            (0x8f, 16_764),
            (0x9f, 8_316),
            (0xaf, 4_092),
            (0xbf, 1_980),
            (0xcf, 924),
            (0xdf, 396),
            (0xef, 132),
            (0xfe, 8),
            (0xff, 0),
            (0x7f, 0),
            (0x7e, -8),
        ] {
            assert_eq!(Law::Mu.decode(byte), value, "{byte:#x}");
        }
        for (sample, byte) in
            [(0, 0xff), (3, 0xff), (4, 0xfe), (-4, 0x7e), (i16::MAX, 0x80), (i16::MIN, 0x00)]
        {
            assert_eq!(Law::Mu.encode(sample), byte, "{sample}");
        }
    }

    /// G.711 tables 1a and 1b, at 16 bits (sixteen times half of the 13-bit figures' steps).
    #[test]
    fn a_law_meets_the_tables() {
        for (byte, value) in [
            (0xaa, 32_256),
            (0x2a, -32_256),
            (0xa5, 16_896),
            (0xb5, 8_448),
            (0x85, 4_224),
            (0x95, 2_112),
            (0xe5, 1_056),
            (0xf5, 528),
            (0xc5, 264),
            (0xd5, 8),
            (0x55, -8),
            (0xd4, 24),
        ] {
            assert_eq!(Law::A.decode(byte), value, "{byte:#x}");
        }
        for (sample, byte) in [
            (0, 0xd5),
            (15, 0xd5),
            (16, 0xd4),
            (-1, 0x55),
            (-16, 0x55),
            (-17, 0x54),
            (i16::MAX, 0xaa),
            (i16::MIN, 0x2a),
        ] {
            assert_eq!(Law::A.encode(sample), byte, "{sample}");
        }
    }

    #[test]
    fn every_byte_survives_the_round_trip() {
        for byte in 0..=255_u8 {
            assert_eq!(Law::A.encode(Law::A.decode(byte)), byte);
            let expected = if byte == 0x7f { 0xff } else { byte };
            assert_eq!(Law::Mu.encode(Law::Mu.decode(byte)), expected, "negative zero is zero");
        }
    }

    #[test]
    fn every_sample_takes_the_nearest_step_and_order_is_kept() {
        for law in [Law::Mu, Law::A] {
            let mut last = i16::MIN;
            for sample in i16::MIN..=i16::MAX {
                let back = law.decode(law.encode(sample));
                assert!(back >= last, "{law:?} {sample}: not monotonic");
                last = back;
                let error = (i32::from(back) - i32::from(sample)).abs();
                let step = (i32::from(sample).abs() / 16).max(16);
                assert!(error <= step, "{law:?} {sample} became {back}");
            }
        }
    }
}
