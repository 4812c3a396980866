//! Numbers and addresses in their canonical form, and the patterns that destinations are written in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whom a call is for or from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Number {
    /// `+14085551000`.
    E164(String),
    /// `4711@example.com`: private numbering.
    Private {
        /// The digits.
        number: String,
        /// The domain in which they mean something.
        domain: String,
    },
    /// `a@example.com`.
    Address {
        /// Before the `@`.
        local: String,
        /// After it, in lower case.
        domain: String,
    },
}

/// Text that is no number; it says what one looks like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadNumber(&'static str);

impl FromStr for Number {
    type Err = BadNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > 320 {
            return Err(BadNumber("a number or address has at most 320 characters"));
        }
        if let Some(digits) = text.strip_prefix('+') {
            // ITU-T E.164 §6.2.1: at most 15 digits; no country code starts with 0.
            let ok = (2..=15).contains(&digits.len())
                && digits.bytes().all(|b| b.is_ascii_digit())
                && !digits.starts_with('0');
            return if ok {
                Ok(Self::E164(text.to_owned()))
            } else {
                Err(BadNumber("an E.164 number is '+' and 2 to 15 digits, the first not 0: +14085551000"))
            };
        }
        let Some((local, domain)) = text.split_once('@') else {
            return Err(BadNumber("+14085551000, 4711@example.com or a@example.com is expected"));
        };
        if !is_domain(domain) {
            return Err(BadNumber("what follows '@' is to be a domain name: a@example.com"));
        }
        let domain = domain.to_ascii_lowercase();
        // wire §8: an all-digit local part is a private number.
        if !local.is_empty() && local.bytes().all(|b| b.is_ascii_digit()) {
            return if local.len() <= 32 {
                Ok(Self::Private { number: local.to_owned(), domain })
            } else {
                Err(BadNumber("a private number has at most 32 digits"))
            };
        }
        if local.is_empty() || local.len() > 64 || !local.bytes().all(is_local) {
            return Err(BadNumber(
                "what precedes '@' is 1 to 64 letters, digits or any of .!#$%&'*+/=?^_`{|}~-",
            ));
        }
        Ok(Self::Address { local: local.to_owned(), domain })
    }
}

fn is_domain(text: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    text.len() <= 253 && !text.is_empty() && text.split('.').all(label)
}

/// RFC 5322 §3.2.3 atext, and the dot.
fn is_local(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&b)
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::E164(text) => f.write_str(text),
            Self::Private { number, domain } => write!(f, "{number}@{domain}"),
            Self::Address { local, domain } => write!(f, "{local}@{domain}"),
        }
    }
}

impl TryFrom<String> for Number {
    type Error = BadNumber;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.to_string()
    }
}

/// `*`, `+1*`, or a list of such with exclusions: `["*", "!+1900*"]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PatternText", into = "PatternText")]
pub struct Destinations(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    excluded: bool,
    /// Text before and after the one `*`; without a `*`, the whole and nothing.
    head: String,
    tail: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum PatternText {
    One(String),
    Many(Vec<String>),
}

impl Destinations {
    /// Everything.
    pub fn all() -> Self {
        Self(vec![Pattern { excluded: false, head: String::new(), tail: Some(String::new()) }])
    }

    /// Nothing.
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// From patterns as the wire writes them.
    pub fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self, BadNumber> {
        let list = patterns.into_iter().map(|p| Pattern::parse(p.as_ref())).collect::<Result<Vec<_>, _>>()?;
        if list.len() > 1000 {
            return Err(BadNumber("a destination list has at most 1000 patterns"));
        }
        Ok(Self(list))
    }

    /// The patterns that take numbers, without those that exclude some.
    pub fn included(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter(|pattern| !pattern.excluded).map(Pattern::text)
    }

    /// Whether a call to `number` is allowed: some pattern takes it and none excludes it.
    pub fn allow(&self, number: &Number) -> bool {
        let text = number.to_string();
        let hit = |excluded| self.0.iter().any(|p| p.excluded == excluded && p.matches(&text));
        hit(false) && !hit(true)
    }
}

impl Destinations {
    /// Whether some number may be of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let taken =
            |list: &Self| list.0.iter().filter(|pattern| !pattern.excluded).cloned().collect::<Vec<_>>();
        let excluded = |both: &Pattern| {
            let all = self.0.iter().chain(&other.0);
            all.filter(|pattern| pattern.excluded).any(|pattern| pattern.covers(both))
        };
        let theirs = taken(other);
        taken(self)
            .iter()
            .any(|own| theirs.iter().filter_map(|their| own.both(their)).any(|both| !excluded(&both)))
    }
}

impl Pattern {
    /// What is of both; none: nothing is.
    fn both(&self, other: &Self) -> Option<Self> {
        match (&self.tail, &other.tail) {
            (None, _) => other.matches(&self.head).then(|| self.clone()),
            (_, None) => self.matches(&other.head).then(|| other.clone()),
            (Some(one), Some(two)) => {
                let longer =
                    |a: &'_ String, b: &'_ String| if a.len() > b.len() { a.clone() } else { b.clone() };
                let (head, tail) = (longer(&self.head, &other.head), longer(one, two));
                let fits = |p: &Self, own: &str| head.starts_with(&p.head) && tail.ends_with(own);
                (fits(self, one) && fits(other, two)).then_some(Self {
                    excluded: false,
                    head,
                    tail: Some(tail),
                })
            }
        }
    }

    /// Whether all that the other takes is taken by this one.
    fn covers(&self, other: &Self) -> bool {
        match (&self.tail, &other.tail) {
            (_, None) => self.matches(&other.head),
            (None, Some(_)) => false,
            (Some(own), Some(tail)) => other.head.starts_with(&self.head) && tail.ends_with(own.as_str()),
        }
    }

    fn parse(text: &str) -> Result<Self, BadNumber> {
        let (excluded, body) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if body.is_empty() || body.len() > 320 || body.matches('*').count() > 1 {
            return Err(BadNumber(
                "a destination is a number with at most one '*': \"*\", \"+1*\", \"!+1900*\"",
            ));
        }
        let body = body.to_ascii_lowercase();
        Ok(match body.split_once('*') {
            Some((head, tail)) => Self { excluded, head: head.into(), tail: Some(tail.into()) },
            None => Self { excluded, head: body, tail: None },
        })
    }

    fn matches(&self, number: &str) -> bool {
        let number = number.to_ascii_lowercase();
        match &self.tail {
            None => number == self.head,
            Some(tail) => {
                number.len() >= self.head.len() + tail.len()
                    && number.starts_with(&self.head)
                    && number.ends_with(tail.as_str())
            }
        }
    }

    fn text(&self) -> String {
        let bang = if self.excluded { "!" } else { "" };
        match &self.tail {
            Some(tail) => format!("{bang}{}*{tail}", self.head),
            None => format!("{bang}{}", self.head),
        }
    }
}

impl TryFrom<PatternText> for Destinations {
    type Error = BadNumber;

    fn try_from(text: PatternText) -> Result<Self, Self::Error> {
        match text {
            PatternText::One(one) => Self::new([one]),
            PatternText::Many(many) => Self::new(many),
        }
    }
}

impl From<Destinations> for PatternText {
    fn from(list: Destinations) -> Self {
        match list.0.as_slice() {
            [one] => Self::One(one.text()),
            many => Self::Many(many.iter().map(Pattern::text).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_form_reads_and_prints_canonically() {
        for (text, canonical) in [
            ("+14085551000", "+14085551000"),
            ("4711@Example.COM", "4711@example.com"),
            ("Alice@Example.com", "Alice@example.com"),
        ] {
            assert_eq!(text.parse::<Number>().unwrap().to_string(), canonical);
        }
    }

    #[test]
    fn lists_overlap_where_some_number_is_of_both() {
        for (one, other, overlap) in [
            (&["+1408*"][..], &["+1*"][..], true),
            (&["+1408*"], &["+1650*"], false),
            (&["*"], &["+49*"], true),
            (&["+14085550001"], &["+1408*"], true),
            (&["+14085550001"], &["+14085550001"], true),
            (&["+14085550001"], &["+14085550002"], false),
            (&["*@a.example"], &["bob@*"], true),
            (&["*@a.example"], &["*@b.example"], false),
            (&["+1*", "!+1408*"], &["+1408*"], false),
            (&["+1*", "!+1408*"], &["+140*"], true),
            (&["+1*", "!+14085550001"], &["+14085550001"], false),
            (&[], &["*"], false),
        ] {
            let list = |patterns: &[&str]| Destinations::new(patterns).unwrap();
            assert_eq!(list(one).overlaps(&list(other)), overlap, "{one:?} {other:?}");
            assert_eq!(list(other).overlaps(&list(one)), overlap, "{other:?} {one:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for bad in [
            "",
            "+",
            "+0123456",
            "+1234567890123456",
            "+1408 555",
            "14085551000",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@-b.com",
            "a@b..c",
            "+14085551000@example.com extra",
            "\u{0661}@example.com",
        ] {
            assert!(bad.parse::<Number>().is_err(), "{bad}");
        }
    }

    #[test]
    fn destinations_include_then_exclude() {
        let list = Destinations::new(["*", "!+1900*"]).unwrap();
        assert!(list.allow(&"+14085551000".parse().unwrap()));
        assert!(!list.allow(&"+19005551000".parse().unwrap()));
        let us = Destinations::new(["+1*"]).unwrap();
        assert!(us.allow(&"+14085551000".parse().unwrap()));
        assert!(!us.allow(&"+442071838750".parse().unwrap()));
        let domain = Destinations::new(["*@example.com"]).unwrap();
        assert!(domain.allow(&"a@EXAMPLE.com".parse().unwrap()));
        assert!(!domain.allow(&"a@example.org".parse().unwrap()));
    }

    #[test]
    fn destinations_are_a_string_or_a_list() {
        let one: Destinations = serde_json::from_str("\"+1*\"").unwrap();
        assert_eq!(serde_json::to_string(&one).unwrap(), "\"+1*\"");
        let many: Destinations = serde_json::from_str(r#"["*","!+1900*"]"#).unwrap();
        assert_eq!(serde_json::to_string(&many).unwrap(), r#"["*","!+1900*"]"#);
        assert!(serde_json::from_str::<Destinations>("\"**\"").is_err());
        assert!(serde_json::from_str::<Destinations>("7").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused_without_panic(text in ".{0,400}") {
            if let Ok(number) = text.parse::<Number>() {
                prop_assert_eq!(number.to_string().parse::<Number>().unwrap(), number);
            }
            if let Ok(list) = Destinations::new([&text]) {
                let _ = list.allow(&Number::E164("+14085551000".into()));
            }
        }
    }
}
