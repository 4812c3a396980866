//! Keys in descriptions: SDES (RFC 4568).

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use super::sdp::Media;

/// AES_CM_128 with HMAC-SHA1, and how much of it goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Suite {
    /// 80 bits.
    Long,
    /// 32 bits.
    Short,
}

/// A master key and its salt; never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) suite: Suite,
    pub(super) tag: u32,
    /// 16 bytes of key, 14 of salt.
    pub(super) material: [u8; 30],
    /// RFC 3711 §3.1: what names it in each packet.
    pub(super) mki: Vec<u8>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?}, {})", self.suite, self.tag)
    }
}

impl Suite {
    pub(super) const ALL: [Self; 2] = [Self::Long, Self::Short];

    fn name(self) -> &'static str {
        match self {
            Self::Long => "AES_CM_128_HMAC_SHA1_80",
            Self::Short => "AES_CM_128_HMAC_SHA1_32",
        }
    }
}

impl Key {
    /// A fresh one.
    pub(super) fn random(suite: Suite, tag: u32) -> Option<Self> {
        let mut material = [0; 30];
        SystemRandom::new().fill(&mut material).ok()?;
        Some(Self { suite, tag, material, mki: Vec::new() })
    }

    /// As an attribute.
    pub(super) fn line(&self) -> String {
        let Self { suite, tag, material, .. } = self;
        format!("a=crypto:{tag} {} inline:{}\r\n", suite.name(), STANDARD.encode(material))
    }

    /// The keys of a section that can be used here, in its order.
    pub(super) fn read(media: &Media<'_>) -> Vec<Self> {
        media.own("crypto").filter_map(Self::parse).collect()
    }

    fn parse(value: &str) -> Option<Self> {
        let mut fields = value.split_ascii_whitespace();
        let tag = fields.next()?.parse().ok().filter(|tag| *tag < 1_000_000_000)?;
        let suite = fields.next()?;
        let suite = Suite::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(suite))?;
        let inline = fields.next()?.strip_prefix("inline:")?;
        // RFC 4568 §6.3: a line with parameters that aren't understood is not used; WSH is advice only.
        if fields.any(|parameter| !parameter.starts_with("WSH=")) || inline.contains(';') {
            return None;
        }
        let mut parts = inline.split('|');
        let key = parts.next()?;
        let decoded = STANDARD.decode(key).or_else(|_| STANDARD_NO_PAD.decode(key)).ok()?;
        let material = decoded.try_into().ok()?;
        let mki = match parts.find_map(|part| part.split_once(':')) {
            Some((value, length)) => {
                let length = length.parse::<usize>().ok().filter(|length| (1..=8).contains(length))?;
                let value = value.parse::<u64>().ok()?.to_be_bytes();
                value[8 - length..].to_vec()
            }
            None => Vec::new(),
        };
        Some(Self { suite, tag, material, mki })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_are_written() {
        let key = Key::random(Suite::Short, 7).unwrap();
        let line = key.line();
        let value = line.trim_end().strip_prefix("a=crypto:").unwrap();
        assert_eq!(Key::parse(value), Some(key.clone()));
        assert_ne!(Key::random(Suite::Short, 7), Some(key.clone()));
        let named = Key::parse(&format!("{value}|2^31|258:2 WSH=64")).unwrap();
        assert_eq!(named.mki, [1, 2]);
        assert!(!format!("{key:?}").contains(&value[30..40]));
    }

    #[test]
    fn lines_that_are_not_understood_are_not_used() {
        let key = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";
        let good = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}");
        assert!(Key::parse(&good).is_some());
        for bad in [
            format!("{good} UNENCRYPTED_SRTP"),
            format!("{good};inline:{key}"),
            format!("1 F8_128_HMAC_SHA1_80 inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", &key[..20]),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("{good}|1:9"),
            String::new(),
        ] {
            assert_eq!(Key::parse(&bad), None, "{bad}");
        }
    }
}
