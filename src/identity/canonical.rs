//! Identities in the one form in which they are signed and compared (wire.md 7; RFC 8225 5.2).

use std::fmt;

use serde_json::{Value, json};

/// A caller or callee: an E.164 number, a private number of a domain, an address, or another URI.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Digits, no plus.
    Tn(String),
    Private {
        number: String,
        domain: String,
    },
    Address {
        local: String,
        domain: String,
    },
    /// Other schemes (`sip:`); equal only to themselves, letter by letter.
    Other(String),
}

impl Identity {
    /// Reads a number as the wire writes it: `+14085551000`, `4711@example.com`, `a@example.com`.
    pub fn from_number(text: &str) -> Option<Self> {
        match text.strip_prefix('+') {
            Some(digits) => Self::from_tn(digits),
            None => {
                let (local, domain) = text.rsplit_once('@')?;
                Self::at(local, domain)
            }
        }
    }

    /// Reads a PASSporT `tn`: digits only.
    pub fn from_tn(digits: &str) -> Option<Self> {
        // E.164 6.1: at most 15 digits.
        (digits.len() <= 15 && is_digits(digits)).then(|| Self(Kind::Tn(digits.to_owned())))
    }

    /// Reads a PASSporT `uri`.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (scheme, rest) = uri.split_once(':')?;
        if scheme.eq_ignore_ascii_case("mailto") {
            let (local, domain) = rest.rsplit_once('@')?;
            Self::at(&decode(local)?, domain)
        } else if scheme.eq_ignore_ascii_case("tel") {
            match rest.split_once(';') {
                None => Self::from_tn(rest.strip_prefix('+')?),
                Some((number, context)) => {
                    let domain = context.strip_prefix("phone-context=")?;
                    Self::at(number, domain).filter(|found| matches!(found.0, Kind::Private { .. }))
                }
            }
        } else {
            let plain = !rest.is_empty() && uri.len() <= 512 && uri.bytes().all(|b| b.is_ascii_graphic());
            let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
            (plain && named).then(|| Self(Kind::Other(uri.to_owned())))
        }
    }

    /// The wire's form; none for URIs that the wire has no form for.
    pub fn to_number(&self) -> Option<String> {
        match &self.0 {
            Kind::Tn(digits) => Some(format!("+{digits}")),
            Kind::Private { number, domain } => Some(format!("{number}@{domain}")),
            Kind::Address { local, domain } => Some(format!("{local}@{domain}")),
            Kind::Other(_) => None,
        }
    }

    /// The digits, for an E.164 number.
    pub fn tn(&self) -> Option<&str> {
        match &self.0 {
            Kind::Tn(digits) => Some(digits),
            _ => None,
        }
    }

    /// The URI, for anything but an E.164 number.
    pub fn uri(&self) -> Option<String> {
        match &self.0 {
            Kind::Tn(_) => None,
            Kind::Private { number, domain } => Some(format!("tel:{number};phone-context={domain}")),
            Kind::Address { local, domain } => Some(format!("mailto:{}@{domain}", encode(local))),
            Kind::Other(uri) => Some(uri.clone()),
        }
    }

    /// The PASSporT `orig` (or `div`) object: one string (RFC 8225 5.2.1).
    pub(super) fn to_json(&self) -> Value {
        match self.uri() {
            Some(uri) => json!({ "uri": uri }),
            None => json!({ "tn": self.tn() }),
        }
    }

    /// Whether one of `patterns` covers this: an exact number, `+1408555*`, `*@example.com` or `*`.
    pub fn is_covered_by(&self, patterns: &[String]) -> bool {
        patterns.iter().any(|pattern| self.matches(pattern))
    }

    fn matches(&self, pattern: &str) -> bool {
        if pattern == "*" {
            return true;
        }
        match &self.0 {
            Kind::Tn(digits) => {
                let Some(pattern) = pattern.strip_prefix('+') else { return false };
                match pattern.strip_suffix('*') {
                    Some(prefix) => digits.starts_with(prefix),
                    None => digits == pattern,
                }
            }
            Kind::Private { domain, .. } | Kind::Address { domain, .. } => match pattern.strip_prefix("*@") {
                Some(wanted) => domain.eq_ignore_ascii_case(wanted),
                None => Self::from_number(pattern).as_ref() == Some(self),
            },
            Kind::Other(uri) => uri == pattern,
        }
    }

    /// `local@domain`: an all-digit local part is a private number.
    fn at(local: &str, domain: &str) -> Option<Self> {
        let domain = is_domain(domain).then(|| domain.to_ascii_lowercase())?;
        if is_digits(local) && local.len() <= 32 {
            Some(Self(Kind::Private { number: local.to_owned(), domain }))
        } else {
            is_local_part(local).then(|| Self(Kind::Address { local: local.to_owned(), domain }))
        }
    }
}

/// Whether every number that `wanted` takes is covered by one of `patterns`.
pub fn covers_pattern(patterns: &[String], wanted: &str) -> bool {
    let covers = |own: &str| {
        if own == "*" || own.eq_ignore_ascii_case(wanted) {
            return true;
        }
        match (own.strip_prefix('+'), wanted.strip_prefix('+')) {
            (Some(own), Some(wanted)) => {
                // `+1*5` is covered as `+1*` is.
                let head = wanted.split('*').next().unwrap_or_default();
                own.strip_suffix('*').is_some_and(|prefix| head.starts_with(prefix))
            }
            (None, None) => match (own.strip_prefix("*@"), wanted.split_once('@')) {
                (Some(own), Some((_, domain))) => own.eq_ignore_ascii_case(domain),
                _ => false,
            },
            _ => false,
        }
    };
    patterns.iter().any(|own| covers(own))
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.to_number(), &self.0) {
            (Some(number), _) => f.write_str(&number),
            (None, Kind::Other(uri)) => f.write_str(uri),
            (None, _) => Ok(()),
        }
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Labels of letters, digits and inner hyphens (RFC 1123 2.1).
fn is_domain(text: &str) -> bool {
    text.len() <= 253
        && text.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// A dot-atom (RFC 5322 3.2.3); quoted and internationalised local parts are not taken.
fn is_local_part(text: &str) -> bool {
    text.len() <= 64
        && text.split('.').all(|atom| {
            !atom.is_empty()
                && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        })
}

/// Percent-encodes what RFC 6068 2 does not let stand in a `mailto` local part.
fn encode(local: &str) -> String {
    let mut out = String::with_capacity(local.len());
    for byte in local.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$'*+".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn decode(local: &str) -> Option<String> {
    let mut out = Vec::with_capacity(local.len());
    let mut bytes = local.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_canonical_forms_map_both_ways() {
        for (number, tn, uri) in [
            ("+14085551000", Some("14085551000"), None),
            ("4711@example.com", None, Some("tel:4711;phone-context=example.com")),
            ("a@example.com", None, Some("mailto:a@example.com")),
            ("A.b+c@example.com", None, Some("mailto:A.b+c@example.com")),
            ("50%/x@example.com", None, Some("mailto:50%25%2Fx@example.com")),
        ] {
            let identity = Identity::from_number(number).unwrap();
            assert_eq!(identity.tn(), tn, "{number}");
            assert_eq!(identity.uri().as_deref(), uri, "{number}");
            assert_eq!(identity.to_number().as_deref(), Some(number));
            let back = tn.map_or_else(|| Identity::from_uri(uri.unwrap()), Identity::from_tn);
            assert_eq!(back, Some(identity), "{number}");
        }
    }

    #[test]
    fn other_spellings_become_the_canonical_one() {
        let same = |a: Option<Identity>, b: &str| assert_eq!(a, Identity::from_number(b), "{b}");
        same(Identity::from_number("a@EXAMPLE.com"), "a@example.com");
        same(Identity::from_uri("MAILTO:a@EXAMPLE.com"), "a@example.com");
        same(Identity::from_uri("mailto:4711@example.com"), "4711@example.com");
        same(Identity::from_uri("tel:+14085551000"), "+14085551000");
        assert_ne!(Identity::from_number("A@example.com"), Identity::from_number("a@example.com"));
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in
            ["", "+", "+1 408", "+1408555100012345", "a@", "@b", "a b@c.d", "a@-b.c", "a@b..c", "é@b.c"]
        {
            assert_eq!(Identity::from_number(text), None, "{text}");
        }
        for tn in ["", "+14085551000", "1408-555", "१२३"] {
            assert_eq!(Identity::from_tn(tn), None, "{tn}");
        }
        for uri in ["a", ":a", "tel:4711", "tel:4711;phone-context=+1", "tel:a;phone-context=b.c"] {
            assert_eq!(Identity::from_uri(uri), None, "{uri}");
        }
        for uri in ["tel:4711;phone-context=b.c;x=y", "mailto:a", "mailto:%zz@b.c", "mailto:%@b.c", "x y:z"] {
            assert_eq!(Identity::from_uri(uri), None, "{uri}");
        }
    }

    #[test]
    fn patterns_cover_by_prefix_domain_or_exactly() {
        let covers = |pattern: &str, number: &str| {
            Identity::from_number(number).unwrap().is_covered_by(&[pattern.to_owned()])
        };
        assert!(covers("+1408555*", "+14085551000"));
        assert!(covers("+*", "+14085551000"));
        assert!(covers("*", "a@example.com"));
        assert!(covers("*@Example.com", "4711@example.com"));
        assert!(covers("a@Example.com", "a@example.com"));
        assert!(!covers("+1408556*", "+14085551000"));
        assert!(!covers("+1408555100", "+14085551000"));
        assert!(!covers("14085551000", "+14085551000"));
        assert!(!covers("1408*", "1408@example.com"));
        assert!(!covers("a*", "a@example.com"));
        assert!(!covers("*@example.com", "a@x.example.com"));
        assert!(!covers("+*", "a@example.com"));
        assert!(!covers("", "+14085551000"));
    }

    #[test]
    fn a_pattern_is_covered_by_one_that_is_as_wide() {
        let covers = |own: &str, wanted: &str| covers_pattern(&[own.to_owned()], wanted);
        for (own, wanted) in [
            ("*", "*"),
            ("*", "+1*"),
            ("+1408*", "+1408555*"),
            ("+1408*", "+1408*"),
            ("+1408*", "+14085551000"),
            ("+1408*", "+1408*00"),
            ("+14085551000", "+14085551000"),
            ("*@example.com", "a@Example.com"),
            ("*@example.com", "*@example.com"),
            ("a@example.com", "A@example.com"),
        ] {
            assert!(covers(own, wanted), "{own} covers {wanted}");
        }
        for (own, wanted) in [
            ("+1408*", "*"),
            ("+1408*", "+140*"),
            ("+1408*", "+1*00"),
            ("+14085551000", "+1408555100*"),
            ("+14085551000", "+14085551001"),
            ("*@example.com", "*"),
            ("*@example.com", "*@x.example.com"),
            ("a@example.com", "*@example.com"),
            ("+1*", "a@example.com"),
            ("", "+1"),
        ] {
            assert!(!covers(own, wanted), "{own} covers no {wanted}");
        }
    }
}
