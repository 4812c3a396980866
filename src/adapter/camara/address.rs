//! CAMARA's `Address`: what it looks like, and whom it means.

use super::phone::PhoneNumber;
use crate::protocol::number::Number;

/// webrtc-call-handling.yaml, Address: `maxLength`.
const MAX: usize = 256;
/// webrtc-call-handling.yaml, Address: who withholds their number (RFC 3323).
const ANONYMOUS: &str = "sip:anonymous@anonymous.invalid";

/// webrtc-call-handling.yaml, Address: `pattern`, to which the tests hold the reader below.
pub(crate) const PATTERN: &str = r"^(tel:\+[1-9][0-9]{4,14}|tel:[0-9*#]{1,15};phone-context=(?:\+[1-9][0-9]{0,14}|[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?)+)|sip:[A-Za-z0-9_.!%+\-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}|sip:[0-9*#]{1,15};phone-context=(?:\+[1-9][0-9]{0,14}|[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?)+)@[A-Za-z0-9.-]+\.[A-Za-z]{2,};user=phone|urn:service:sos(?:\.[a-z0-9](?:[a-z0-9\-]{0,30}[a-z0-9])?)*|sip:anonymous@anonymous\.invalid)$";

/// An address, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    text: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// `tel:+14085551000`
    Global(PhoneNumber),
    /// Digits that mean something in a context: a domain, or the number that they continue.
    Local {
        digits: String,
        context: String,
    },
    /// `sip:user@host`
    Sip {
        user: String,
        host: String,
    },
    /// `urn:service:sos`, and the services below it.
    Emergency,
    Anonymous,
}

/// Text that is no address; it says what one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "at most 256 characters as in tel:+14085551000, tel:4711;phone-context=example.com, sip:alice@example.com, \
     sip:4711;phone-context=example.com@example.com;user=phone or urn:service:sos are expected"
)]
pub(super) struct BadAddress;

impl std::str::FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        let kind = Some(text).filter(|text| text.len() <= MAX).and_then(kind).ok_or(BadAddress)?;
        Ok(Self { text: text.to_owned(), kind })
    }
}

impl Address {
    /// As it was written.
    pub(super) fn into_text(self) -> String {
        self.text
    }

    /// Whether it withholds whose it is.
    pub(super) fn is_anonymous(&self) -> bool {
        self.kind == Kind::Anonymous
    }

    /// Whether it is an emergency service's (RFC 5031).
    pub(super) fn is_emergency(&self) -> bool {
        self.kind == Kind::Emergency
    }

    /// Whether it is this number, in whatever way it is written.
    pub(super) fn is(&self, number: &PhoneNumber) -> bool {
        matches!(self.number(), Some(Number::E164(own)) if own == number.as_str())
    }

    /// Whom calls to it are for; none: it can't be routed.
    pub(super) fn number(&self) -> Option<Number> {
        match &self.kind {
            Kind::Global(number) => number.as_str().parse().ok(),
            // RFC 3966 §5.1.5: a context is a domain, or the beginning of a global number.
            Kind::Local { digits, context } if context.starts_with('+') => {
                format!("{context}{digits}").parse().ok()
            }
            Kind::Local { digits, context } => format!("{digits}@{context}").parse().ok(),
            Kind::Sip { user, host } => {
                let user = unescaped(user)?;
                // A global number is the same at every host.
                match user.parse::<PhoneNumber>() {
                    Ok(number) => number.as_str().parse().ok(),
                    Err(_) => format!("{user}@{host}").parse().ok(),
                }
            }
            Kind::Emergency | Kind::Anonymous => None,
        }
    }
}

/// webrtc-call-handling.yaml, Address: the alternatives of its `pattern`, one by one.
fn kind(text: &str) -> Option<Kind> {
    if text == ANONYMOUS {
        return Some(Kind::Anonymous);
    }
    if let Some(rest) = text.strip_prefix("tel:") {
        return rest.parse().map(Kind::Global).ok().or_else(|| local(rest));
    }
    if let Some(rest) = text.strip_prefix("sip:") {
        let phone = rest.strip_suffix(";user=phone");
        let (user, host) = phone.unwrap_or(rest).split_once('@')?;
        if !is_host(host) {
            return None;
        }
        let fits = !user.is_empty() && of(user, b"_.!%+-");
        let sip = || fits.then(|| Kind::Sip { user: user.to_owned(), host: host.to_owned() });
        return if phone.is_some() { local(user) } else { sip() };
    }
    let services = text.strip_prefix("urn:service:sos")?;
    let fits = |label: &str| is_label(label) && label.len() <= 32 && !label.contains(char::is_uppercase);
    (services.is_empty() || services.strip_prefix('.')?.split('.').all(fits)).then_some(Kind::Emergency)
}

/// `[0-9*#]{1,15};phone-context=…`
fn local(text: &str) -> Option<Kind> {
    let (digits, context) = text.split_once(";phone-context=")?;
    let prefix = |rest: &str| {
        (1..=15).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit()) && !rest.starts_with('0')
    };
    let domain = |text: &str| text.contains('.') && text.split('.').all(is_label);
    let fits = (1..=15).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit() || b"*#".contains(&b))
        && context.strip_prefix('+').map_or_else(|| domain(context), prefix);
    fits.then(|| Kind::Local { digits: digits.to_owned(), context: context.to_owned() })
}

/// `[A-Za-z0-9](?:[A-Za-z0-9\-]*[A-Za-z0-9])?`
fn is_label(text: &str) -> bool {
    !text.is_empty() && of(text, b"-") && !text.starts_with('-') && !text.ends_with('-')
}

/// `[A-Za-z0-9.-]+\.[A-Za-z]{2,}`
fn is_host(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(head, top)| {
        !head.is_empty() && of(head, b".-") && top.len() >= 2 && top.bytes().all(|b| b.is_ascii_alphabetic())
    })
}

/// Letters, digits, and these.
fn of(text: &str, others: &[u8]) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
}

/// RFC 3261 §19.1.4: an escaped character is the character.
fn unescaped(user: &str) -> Option<String> {
    let mut pieces = user.split('%');
    let mut bytes = pieces.next()?.as_bytes().to_vec();
    for piece in pieces {
        let (hex, rest) = piece.split_at_checked(2)?;
        let hex = Some(hex).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use regex_automata::dfa::regex::Regex;

    use super::*;

    fn read(text: &str) -> Result<Address, BadAddress> {
        text.parse()
    }

    #[test]
    fn each_form_means_whom_it_names_or_nobody() {
        for (text, number) in [
            ("tel:+17085852753", Some("+17085852753")),
            ("tel:+12345", Some("+12345")),
            ("tel:4711;phone-context=Example.com", Some("4711@example.com")),
            ("tel:5551000;phone-context=+1408", Some("+14085551000")),
            ("tel:5551000;phone-context=+123456789", None),
            ("tel:*21#;phone-context=+1", None),
            ("tel:*21#;phone-context=example.com", Some("*21#@example.com")),
            ("sip:alice@Example.com", Some("alice@example.com")),
            ("sip:%61lice@example.com", Some("alice@example.com")),
            ("sip:4711@example.com", Some("4711@example.com")),
            ("sip:+14085551000@example.com", Some("+14085551000")),
            ("sip:%2B14085551000@example.com", Some("+14085551000")),
            ("sip:+1x@example.com", None),
            ("sip:a%40b@example.com", None),
            ("sip:a%0@example.com", None),
            ("sip:a%+1@example.com", None),
            ("sip:a%ff@example.com", None),
            ("sip:a@..example.com", None),
            ("sip:4711;phone-context=example.com@host.org;user=phone", Some("4711@example.com")),
            ("sip:5551000;phone-context=+1408@host.org;user=phone", Some("+14085551000")),
            ("urn:service:sos", None),
            ("urn:service:sos.fire.a-b", None),
            ("sip:anonymous@anonymous.invalid", None),
        ] {
            let address = read(text).unwrap();
            assert_eq!(address.number().map(|number| number.to_string()).as_deref(), number, "{text}");
            assert_eq!(address.is_anonymous(), text.contains("anonymous"), "{text}");
            assert_eq!(address.is_emergency(), text.contains("sos"), "{text}");
            assert_eq!(address.into_text(), text);
        }
        let own: PhoneNumber = "+14085551000".parse().unwrap();
        for same in ["tel:+14085551000", "sip:+14085551000@x.org", "tel:1000;phone-context=+1408555"] {
            assert!(read(same).unwrap().is(&own), "{same}");
        }
        for other in ["tel:+14085551001", "sip:14085551000@x.org", "sip:anonymous@anonymous.invalid"] {
            assert!(!read(other).unwrap().is(&own), "{other}");
        }
    }

    #[test]
    fn the_longest_has_256_characters() {
        let longest = format!("sip:{}@example.com", "a".repeat(240));
        assert_eq!(longest.len(), 256);
        assert!(read(&longest).is_ok());
        assert_eq!(read(&format!("{longest}m")), Err(BadAddress));
    }

    /// The file's own pattern is the judge.
    fn judge(text: &str) {
        static JUDGE: LazyLock<Regex> = LazyLock::new(|| Regex::new(PATTERN).unwrap());
        let fits = text.len() <= MAX && JUDGE.is_match(text);
        assert_eq!(read(text).is_ok(), fits, "{text:?}");
        let _ = read(text).map(|address| address.number());
    }

    #[test]
    fn what_fits_the_pattern_is_taken_and_nothing_else() {
        for text in [
            "",
            "tel:",
            "tel:+0123456",
            "tel:+1234",
            "tel:+1234567890123456",
            "tel:14085551000",
            "Tel:+14085551000",
            "tel:+14085551000 ",
            "tel:+14085551000\n",
            "tel:;phone-context=a.b",
            "tel:1;phone-context=",
            "tel:1;phone-context=a",
            "tel:1;phone-context=a.",
            "tel:1;phone-context=-a.b",
            "tel:1;phone-context=a-.b",
            "tel:1;phone-context=a.b-c",
            "tel:1;phone-context=+",
            "tel:1;phone-context=+0",
            "tel:1;phone-context=+1",
            "tel:1;phone-context=+1234567890123456",
            "tel:1234567890123456;phone-context=+1",
            "tel:1;phone-context=a.b;x=y",
            "tel:+14085551000;phone-context=a.b",
            "sip:@a.bc",
            "sip:a@",
            "sip:a@b",
            "sip:a@b.c",
            "sip:a@.bc",
            "sip:a@b.c1",
            "sip:a@-.--.cd",
            "sip:a b@c.de",
            "sip:a@b@c.de",
            "sips:a@b.cd",
            "sip:a@b.cd;user=phone",
            "sip:1@b.cd;user=phone",
            "sip:1;phone-context=a.b@c.de",
            "sip:é@b.cd",
            "sip:1;phone-context=a.b@c.de;user=phone",
            "sip:1;phone-context=a.b@c;user=phone",
            "sip:*#@b.cd",
            "sip:1;phone-context=+1@c.de;user=phone;user=phone",
            "urn:service:sos.",
            "urn:service:sos..a",
            "urn:service:sos.A",
            "urn:service:sos.-a",
            "urn:service:sos.a-",
            "urn:service:sosx",
            "urn:service:so",
            "sip:anonymous@anonymous.invalid",
            "sip:anonymous@anonymous.invalid ",
            "+14085551000",
            "alice@example.com",
        ] {
            judge(text);
        }
        for length in 30..36 {
            judge(&format!("urn:service:sos.{}", "a".repeat(length)));
        }
    }

    proptest! {
        #[test]
        fn generated_addresses_agree_with_the_pattern(
            good in PATTERN.trim_matches(['^', '$']),
            bad in ".{0,60}",
            near in "(tel|sip|urn:service:sos)[:.@+*#;a-cA-C0-2_%!-]{0,24}((;phone-context=|@)[.@+;a-cA0-2-]{0,12}){0,3}(;user=phone)?",
            cut in 0..300usize,
        ) {
            let shorter: String = good.chars().take(cut).collect();
            for text in [good, bad, near, shorter] {
                judge(&text);
            }
        }
    }
}
