//! The TNAuthList of RFC 8226 §9: which telephone numbers a certificate speaks for.

use super::der::{Der, SEQUENCE};

const IA5_STRING: u8 = 0x16;
/// RFC 8226 §9 has explicit tags.
const SPC: u8 = 0xa0;
const RANGE: u8 = 0xa1;
const ONE: u8 = 0xa2;
/// Entries of one certificate; a whole office fits, a flood does not.
const MAX_ENTRIES: usize = 1_000;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TnEntry {
    /// A service provider code: which numbers are its is nothing that a certificate says.
    Spc(String),
    /// A number, and how many there are from it on.
    Range(String, u64),
    /// A number, digits only.
    One(String),
}

/// A list of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TnAuthList(pub Vec<TnEntry>);

/// E.164 §6.2.1: how many digits a number has.
const LENGTHS: std::ops::RangeInclusive<usize> = 2..=15;

impl TnAuthList {
    /// The E.164 numbers among those that a token names, exact or by patterns: `+14085551000`, `+1408*`, `*`. None, if there are
    /// none or too many for one certificate.
    pub fn from_patterns(patterns: &[String]) -> Option<Self> {
        let mut entries = Vec::new();
        for pattern in patterns {
            let all = if pattern == "*" { "+*" } else { pattern };
            let Some(digits) = all.strip_prefix('+') else { continue };
            let prefix = digits.strip_suffix('*').unwrap_or(digits);
            if prefix.len() > *LENGTHS.end() || !prefix.bytes().all(|b| b.is_ascii_digit()) {
                continue;
            }
            if prefix == digits {
                entries.push(TnEntry::One(digits.to_owned()));
                continue;
            }
            // RFC 8226 §9: a range has numbers of one length, so a prefix is a range for each length.
            for length in LENGTHS.filter(|length| *length >= prefix.len()) {
                let free = length - prefix.len();
                entries.push(match (free, u32::try_from(free)) {
                    (1.., Ok(free)) => TnEntry::Range(format!("{prefix:0<length$}"), 10_u64.pow(free)),
                    _ => TnEntry::One(prefix.to_owned()),
                });
            }
        }
        (1..=MAX_ENTRIES).contains(&entries.len()).then_some(Self(entries))
    }

    /// Whether a number, digits only, is in it.
    pub fn covers(&self, tn: &str) -> bool {
        self.0.iter().any(|entry| match entry {
            TnEntry::Spc(_) => false,
            TnEntry::One(own) => own == tn,
            TnEntry::Range(start, count) => {
                let (Ok(from), Ok(at)) = (start.parse::<u64>(), tn.parse::<u64>()) else { return false };
                start.len() == tn.len() && at.checked_sub(from).is_some_and(|above| above < *count)
            }
        })
    }

    /// The extension's value.
    pub fn to_der(&self) -> Vec<u8> {
        let entries = self.0.iter().flat_map(|entry| match entry {
            TnEntry::Spc(code) => put(SPC, &put(IA5_STRING, code.as_bytes())),
            TnEntry::One(tn) => put(ONE, &put(IA5_STRING, tn.as_bytes())),
            TnEntry::Range(start, count) => {
                let inner = [put(IA5_STRING, start.as_bytes()), integer(*count)].concat();
                put(RANGE, &put(SEQUENCE, &inner))
            }
        });
        put(SEQUENCE, &entries.collect::<Vec<u8>>())
    }
}

/// Reads the extension's value; an entry that can't be read spoils the whole.
pub fn parse(der: &[u8]) -> Option<TnAuthList> {
    let mut outer = Der::new(der);
    let mut list = outer.sequence()?;
    let mut entries = Vec::new();
    while !list.is_empty() {
        if entries.len() == MAX_ENTRIES {
            return None;
        }
        let element = list.element()?;
        let inside = Der::new(element).take(*element.first()?)?;
        let mut inner = Der::new(inside);
        entries.push(match *element.first()? {
            SPC => TnEntry::Spc(text(inner.take(IA5_STRING)?, |b| b.is_ascii_graphic())?),
            ONE => TnEntry::One(number(inner.take(IA5_STRING)?)?),
            RANGE => {
                let mut range = inner.sequence()?;
                let start = number(range.take(IA5_STRING)?)?;
                let count = range.unsigned().filter(|count| count.len() <= 8 && range.is_empty())?;
                TnEntry::Range(start, count.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
            }
            _ => return None,
        });
        if !inner.is_empty() {
            return None;
        }
    }
    (outer.is_empty() && !entries.is_empty()).then_some(TnAuthList(entries))
}

/// RFC 8226 §9: 1 to 15 of the keys of a telephone.
fn number(bytes: &[u8]) -> Option<String> {
    text(bytes, |b| b.is_ascii_digit() || b"#*".contains(b)).filter(|tn| tn.len() <= 15)
}

fn text(bytes: &[u8], fits: impl Fn(&u8) -> bool) -> Option<String> {
    let good = !bytes.is_empty() && bytes.iter().all(fits);
    good.then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn put(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = contents.len();
    let mut out = vec![tag];
    match len {
        0..=0x7f => out.push(len as u8),
        0x80..=0xff => out.extend([0x81, len as u8]),
        _ => out.extend([0x83, (len >> 16) as u8, (len >> 8) as u8, len as u8]),
    }
    out.extend_from_slice(contents);
    out
}

fn integer(value: u64) -> Vec<u8> {
    let bytes: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
    // X.690 §8.3: a top bit would make it negative.
    let sign = bytes.first().is_none_or(|top| top & 0x80 != 0);
    put(0x02, &[if sign { vec![0] } else { vec![] }, bytes].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::identity::canonical::Identity;

    #[test]
    fn a_tokens_numbers_are_written_as_numbers_and_ranges() {
        let list = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|text| (*text).to_owned()).collect();
            TnAuthList::from_patterns(&patterns)
        };
        let one = |tn: &str| TnEntry::One(tn.into());
        let range = |from: &str, count| TnEntry::Range(from.into(), count);
        assert_eq!(list(&["+14085551000", "a@b.c"]), Some(TnAuthList(vec![one("14085551000")])));
        let prefix = list(&["+1408555123400*"]).unwrap();
        let ranges = [one("1408555123400"), range("14085551234000", 10), range("140855512340000", 100)];
        assert_eq!(prefix.0, ranges);
        assert_eq!(list(&["*"]), list(&["+*"]));
        for nothing in [&[][..], &["a@b.c", "*@b.c", "4711@b.c", "14085551000", "+1x*", "+1*2"]] {
            assert_eq!(list(nothing), None, "{nothing:?}");
        }
        let crowd: Vec<String> = (0..=MAX_ENTRIES).map(|n| format!("+1408{n}")).collect();
        assert_eq!(TnAuthList::from_patterns(&crowd), None);
        // What a token allows is what the list covers.
        for pattern in ["+1*", "+1408*", "*", "+442071838750", "+*"] {
            let list = list(&[pattern]).unwrap();
            assert_eq!(parse(&list.to_der()), Some(list.clone()), "{pattern}");
            for tn in ["14085551000", "1408", "442071838750", "442071838751", "19", "123456789012345"] {
                let allowed = Identity::from_tn(tn).unwrap().is_covered_by(&[pattern.to_owned()]);
                assert_eq!(list.covers(tn), allowed, "{pattern} {tn}");
            }
        }
    }

    #[test]
    fn the_list_is_read_as_the_rfc_writes_it() {
        // SEQUENCE { [2] IA5String "14085551000", [1] SEQUENCE { IA5String "12155551200", INTEGER 128 }, [0] "1234" }
        let der = [
            b"\x30\x2b\xa2\x0d\x16\x0b14085551000".as_slice(),
            b"\xa1\x13\x30\x11\x16\x0b12155551200\x02\x02\x00\x80",
            b"\xa0\x06\x16\x041234",
        ]
        .concat();
        let der = [&[0x30, (der.len() - 2) as u8], &der[2..]].concat();
        let list = parse(&der).unwrap();
        assert_eq!(list.to_der(), der);
        for (tn, covered) in [
            ("14085551000", true),
            ("14085551001", false),
            ("12155551200", true),
            ("12155551327", true),
            ("12155551328", false),
            ("12155551199", false),
            ("1234", false),
            ("012155551200", false),
        ] {
            assert_eq!(list.covers(tn), covered, "{tn}");
        }
    }

    #[test]
    fn what_is_no_list_is_none() {
        for der in [
            b"".as_slice(),
            b"\x30\x00",
            b"\x30\x05\xa2\x03\x16\x011\x00",
            b"\x30\x05\xa2\x03\x16\x01x",
            b"\x30\x04\xa2\x02\x16\x00",
            b"\x30\x05\xa3\x03\x16\x011",
            b"\x30\x85\xff\xff\xff\xff\xff",
        ] {
            assert_eq!(parse(der), None, "{der:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(list) = parse(&bytes) {
                prop_assert_eq!(parse(&list.to_der()), Some(list));
            }
        }

        #[test]
        fn what_is_written_is_read(entries in prop::collection::vec(
            prop_oneof![
                "[0-9]{1,15}".prop_map(TnEntry::One),
                ("[0-9]{1,15}", any::<u64>()).prop_map(|(start, count)| TnEntry::Range(start, count)),
                "[A-Z0-9]{1,8}".prop_map(TnEntry::Spc),
            ], 1..40)
        ) {
            let list = TnAuthList(entries);
            prop_assert_eq!(parse(&list.to_der()), Some(list));
        }
    }
}
