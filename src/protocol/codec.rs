//! Codecs: the fixed payload types of `ript-chunk/1` and names compared as IANA compares media subtypes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// The longest name of a codec or parameter, as in RFC 6838 section 4.2.
pub const MAX_NAME: usize = 127;

/// What a source makes and a sink renders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
}

/// The number by which a chunk names its codec: a fixed registry, never dynamic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PayloadType(pub u32);

impl PayloadType {
    /// opus; also what a chunk without a payload type carries.
    pub const OPUS: Self = Self(1);
    /// G.711 µ-law.
    pub const PCMU: Self = Self(2);
    /// G.711 A-law.
    pub const PCMA: Self = Self(3);
    /// G.722.
    pub const G722: Self = Self(4);
    /// Comfort noise, RFC 3389.
    pub const CN: Self = Self(5);
    /// Digits, RFC 4733, at 8000 Hz.
    pub const TELEPHONE_EVENT: Self = Self(6);
    /// AMR, octet-aligned.
    pub const AMR: Self = Self(7);
    /// AMR-WB, octet-aligned.
    pub const AMR_WB: Self = Self(8);
    /// EVS.
    pub const EVS: Self = Self(9);
    /// G.729.
    pub const G729: Self = Self(10);
    /// VP8.
    pub const VP8: Self = Self(16);
    /// VP9.
    pub const VP9: Self = Self(17);
    /// H.264, Annex B access units.
    pub const H264: Self = Self(18);
    /// H.265, Annex B access units.
    pub const H265: Self = Self(19);
    /// AV1, temporal units.
    pub const AV1: Self = Self(20);

    /// The codec with this number, if the registry has one.
    #[must_use]
    pub fn codec(self) -> Option<&'static Codec> {
        Codec::by_payload_type(self)
    }
}

impl fmt::Display for PayloadType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One line of the payload type registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codec {
    /// The media subtype as IANA writes it.
    pub name: &'static str,
    /// Audio or video.
    pub kind: MediaKind,
    /// Its number in a chunk.
    pub payload_type: PayloadType,
    /// Accompanies another codec of the same stream and makes no stream by itself.
    pub rides_along: bool,
}

impl Codec {
    /// The whole registry, in the order of payload types.
    pub const ALL: &'static [Self] = &[
        audio("opus", PayloadType::OPUS),
        audio("PCMU", PayloadType::PCMU),
        audio("PCMA", PayloadType::PCMA),
        audio("G722", PayloadType::G722),
        rider("CN", PayloadType::CN),
        rider("telephone-event", PayloadType::TELEPHONE_EVENT),
        audio("AMR", PayloadType::AMR),
        audio("AMR-WB", PayloadType::AMR_WB),
        audio("EVS", PayloadType::EVS),
        audio("G729", PayloadType::G729),
        video("VP8", PayloadType::VP8),
        video("VP9", PayloadType::VP9),
        video("H264", PayloadType::H264),
        video("H265", PayloadType::H265),
        video("AV1", PayloadType::AV1),
    ];

    /// The codec of this name, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|codec| codec.name.eq_ignore_ascii_case(name))
    }

    /// The codec of this payload type.
    #[must_use]
    pub fn by_payload_type(payload_type: PayloadType) -> Option<&'static Self> {
        Self::ALL.iter().find(|codec| codec.payload_type == payload_type)
    }
}

const fn audio(name: &'static str, payload_type: PayloadType) -> Codec {
    Codec { name, kind: MediaKind::Audio, payload_type, rides_along: false }
}

const fn rider(name: &'static str, payload_type: PayloadType) -> Codec {
    Codec { name, kind: MediaKind::Audio, payload_type, rides_along: true }
}

const fn video(name: &'static str, payload_type: PayloadType) -> Codec {
    Codec { name, kind: MediaKind::Video, payload_type, rides_along: false }
}

/// A codec's name: compared without case, printed as IANA writes it, or as written where the registry lacks it.
#[derive(Debug, Clone)]
pub struct CodecName(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Known(&'static Codec),
    Other(Box<str>),
}

impl CodecName {
    /// The canonical spelling.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(codec) => codec.name,
            Repr::Other(name) => name,
        }
    }

    /// The registry's line, if it has this name.
    #[must_use]
    pub fn codec(&self) -> Option<&'static Codec> {
        match &self.0 {
            Repr::Known(codec) => Some(codec),
            Repr::Other(_) => None,
        }
    }

    /// Audio or video, if the name is known.
    #[must_use]
    pub fn kind(&self) -> Option<MediaKind> {
        self.codec().map(|codec| codec.kind)
    }

    /// The number in a chunk, if the name is known.
    #[must_use]
    pub fn payload_type(&self) -> Option<PayloadType> {
        self.codec().map(|codec| codec.payload_type)
    }

    /// Whether it only accompanies other codecs (`telephone-event`, `CN`).
    #[must_use]
    pub fn rides_along(&self) -> bool {
        self.codec().is_some_and(|codec| codec.rides_along)
    }
}

impl From<&'static Codec> for CodecName {
    fn from(codec: &'static Codec) -> Self {
        Self(Repr::Known(codec))
    }
}

/// A name that no codec can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a codec name starts with a letter and has at most 127 letters, digits or !#$&-^_.+")]
pub struct BadCodecName;

impl FromStr for CodecName {
    type Err = BadCodecName;

    fn from_str(name: &str) -> Result<Self, BadCodecName> {
        if !is_name(name) {
            return Err(BadCodecName);
        }
        Ok(Self(Codec::by_name(name).map_or_else(|| Repr::Other(name.into()), Repr::Known)))
    }
}

impl fmt::Display for CodecName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq for CodecName {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Repr::Known(a), Repr::Known(b)) => a.payload_type == b.payload_type,
            (Repr::Other(a), Repr::Other(b)) => a.eq_ignore_ascii_case(b),
            _ => false,
        }
    }
}

impl Eq for CodecName {}

impl Hash for CodecName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.as_str().bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

/// Whether this is a name: RFC 6838's `restricted-name`, and no digit in front, so that an id never looks like one.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(is_name_byte)
}

/// Whether a name may go on with this byte.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn name(text: &str) -> CodecName {
        text.parse().unwrap()
    }

    #[test]
    fn the_registry_has_the_numbers_of_the_wire_page() {
        let lines: Vec<_> = Codec::ALL.iter().map(|c| (c.payload_type.0, c.name)).collect();
        assert_eq!(
            lines,
            [
                (1, "opus"),
                (2, "PCMU"),
                (3, "PCMA"),
                (4, "G722"),
                (5, "CN"),
                (6, "telephone-event"),
                (7, "AMR"),
                (8, "AMR-WB"),
                (9, "EVS"),
                (10, "G729"),
                (16, "VP8"),
                (17, "VP9"),
                (18, "H264"),
                (19, "H265"),
                (20, "AV1"),
            ]
        );
        for codec in Codec::ALL {
            assert_eq!(codec.payload_type.codec(), Some(codec));
            assert_eq!(codec.kind == MediaKind::Video, codec.payload_type.0 >= 16);
        }
        assert_eq!(PayloadType(0).codec(), None);
        assert_eq!(PayloadType(11).codec(), None);
    }

    #[test]
    fn only_digits_and_comfort_noise_ride_along() {
        let riders: Vec<_> = Codec::ALL.iter().filter(|c| c.rides_along).map(|c| c.name).collect();
        assert_eq!(riders, ["CN", "telephone-event"]);
    }

    #[test]
    fn names_compare_and_hash_without_case_and_print_as_iana_writes_them() {
        assert_eq!(name("OPUS").to_string(), "opus");
        assert_eq!(name("pcmu").to_string(), "PCMU");
        assert_eq!(name("Telephone-Event").to_string(), "telephone-event");
        assert_eq!(name("iLBC").to_string(), "iLBC");
        assert_eq!(name("iLBC"), name("ILBC"));
        assert_ne!(name("iLBC"), name("opus"));
        let set = HashSet::from([name("ilbc"), name("iLBC"), name("AMR-wb"), name("amr-WB")]);
        assert_eq!(set.len(), 2);
    }

    #[test]
    fn an_unknown_name_has_no_kind_and_no_number() {
        assert_eq!(name("lyra").kind(), None);
        assert_eq!(name("lyra").payload_type(), None);
        assert!(!name("lyra").rides_along());
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "3gpp-tt", "-a", "a b", "a;", "a,b", "a=1", "opüs", "op\0us", &"a".repeat(128)] {
            assert_eq!(CodecName::from_str(bad), Err(BadCodecName), "{bad:?}");
        }
        assert_eq!(name(&"a".repeat(127)).as_str().len(), 127);
        assert_eq!(name("AMR-WB+").to_string(), "AMR-WB+");
    }
}
