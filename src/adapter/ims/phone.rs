//! Numbers as telephony writes them: `tel:` URIs (RFC 3966) and SIP URIs with `user=phone` (RFC 3261 §19.1.6).

use std::fmt::Write as _;

use crate::adapter::sip::value::{Param, find, params, unescaped};
use crate::protocol::number::Number;

/// The longest URI that is read, in bytes.
pub const MAX_URI: usize = 2048;
/// RFC 3323 §4.1.1.3
pub const ANONYMOUS: &str = "sip:anonymous@anonymous.invalid";

/// A URI taken apart as far as who is meant by it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phone {
    /// Who; none: a local number that can't be told from others', or nobody in particular.
    pub number: Option<Number>,
    /// RFC 3966 §5.1.4
    pub context: Option<String>,
    /// RFC 3966 §5.3: the extension.
    pub extension: Option<String>,
    /// RFC 3966 §5.3: the ISDN sub-address.
    pub subaddress: Option<String>,
    /// Whether the URI says that it is nobody (`anonymous.invalid`, `unknown`).
    pub nameless: bool,
}

impl Phone {
    /// Reads a `tel:`, `sip:` or `sips:` URI; none if it is none of these.
    pub fn read(uri: &str, home: &Home) -> Option<Self> {
        if uri.len() > MAX_URI || !uri.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let (scheme, rest) = uri.split_once(':')?;
        if scheme.eq_ignore_ascii_case("tel") {
            return Some(Self::subscriber(rest, None, home));
        }
        if !scheme.eq_ignore_ascii_case("sip") && !scheme.eq_ignore_ascii_case("sips") {
            return None;
        }
        // RFC 3261 §19.1.1: headers after `?`, parameters after the host; the user part may hold semicolons of its own.
        let rest = rest.split_once('?').filter(|(head, _)| head.contains('@')).map_or(rest, |(head, _)| head);
        let (user, after) = match rest.split_once('@') {
            Some((user, after)) => (Some(user), after),
            None => (None, rest),
        };
        let (host, tail) = after.split_once(';').unwrap_or((after, ""));
        let host = host_only(host).to_ascii_lowercase();
        let parameters = params(tail);
        let user = user.map(|user| user.split_once(':').map_or(user, |(name, _)| name));
        let user = user.and_then(unescaped).filter(|user| !user.is_empty());
        let Some(user) = user else { return Some(Self::of(None)) };
        if host == "anonymous.invalid"
            || user.eq_ignore_ascii_case("anonymous")
            || user.eq_ignore_ascii_case("unknown")
        {
            return Some(Self { nameless: true, ..Self::of(None) });
        }
        let phone = find(&parameters, "user").is_some_and(|value| value.eq_ignore_ascii_case("phone"));
        // Many networks leave user=phone away; a plus and digits are a number all the same.
        if phone || user.starts_with('+') {
            let read = Self::subscriber(&user, Some(&host), home);
            if read.number.is_some() || phone {
                return Some(read);
            }
        }
        Some(Self::of(format!("{user}@{host}").parse().ok()))
    }

    fn of(number: Option<Number>) -> Self {
        Self { number, context: None, extension: None, subaddress: None, nameless: false }
    }

    /// RFC 3966 §3: a telephone-subscriber.
    fn subscriber(text: &str, host: Option<&str>, home: &Home) -> Self {
        let (number, rest) = text.split_once(';').unwrap_or((text, ""));
        let parameters: Vec<Param<'_>> = params(rest);
        let get = |name| find(&parameters, name).filter(|text| text.len() <= 64).map(str::to_owned);
        let context = get("phone-context");
        let digits = unescaped(number).and_then(|number| without_separators(&number));
        let number = digits.and_then(|digits| home.whole(&digits, context.as_deref(), host));
        Self { number, extension: get("ext"), subaddress: get("isub"), context, nameless: false }
    }
}

/// The network in which local numbers are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Home {
    /// Its domain: `ims.test`.
    pub domain: String,
    /// The country code with its plus, `+49`, for numbers without one; none: they stay local numbers of the domain.
    pub country: Option<String>,
    /// What stands before national numbers: `0`, or nothing.
    pub trunk_prefix: String,
    /// What stands before international ones: `00`, `011`.
    pub international_prefix: String,
}

impl Home {
    fn whole(&self, digits: &str, context: Option<&str>, host: Option<&str>) -> Option<Number> {
        if digits.starts_with('+') {
            return digits.parse().ok();
        }
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        match context {
            // RFC 3966 §5.1.5: a context with a plus stands before the digits.
            Some(context) if context.starts_with('+') => {
                let context = without_separators(context)?;
                format!("{context}{digits}").parse().ok()
            }
            Some(context) => format!("{digits}@{context}").parse().ok(),
            None => self.national(digits).or_else(|| {
                let domain = host.filter(|host| !host.is_empty()).unwrap_or(&self.domain);
                format!("{digits}@{domain}").parse().ok()
            }),
        }
    }

    fn national(&self, digits: &str) -> Option<Number> {
        let country = self.country.as_deref()?;
        if !self.international_prefix.is_empty()
            && let Some(rest) = digits.strip_prefix(&self.international_prefix)
        {
            return format!("+{rest}").parse().ok();
        }
        // Shorter ones are services of the network: 112, 911, 2345.
        let rest = digits.strip_prefix(&self.trunk_prefix)?;
        (rest.len() >= 7).then(|| format!("{country}{rest}").parse().ok())?
    }
}

/// RFC 3966 §5.1.1: visual separators count for nothing.
fn without_separators(text: &str) -> Option<String> {
    let plain: String = text.chars().filter(|c| !matches!(c, '-' | '.' | '(' | ')')).collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    let dialable = |b: u8| b.is_ascii_hexdigit() || b"*#".contains(&b);
    (!digits.is_empty() && digits.len() <= 64 && digits.bytes().all(dialable)).then_some(plain)
}

fn host_only(host: &str) -> &str {
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    }
}

/// What RFC 3261 §25.1 lets stand in a user part.
fn escaped(user: &str) -> String {
    user.bytes().fold(String::with_capacity(user.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// `sip:+14085551000@ims.test;user=phone`, `sip:4711@example.com;user=phone`, `sip:a@example.com`.
pub fn sip_uri(number: &Number, domain: &str) -> String {
    match number {
        Number::E164(digits) => format!("sip:{digits}@{domain};user=phone"),
        // RFC 3966 §5.1.4: local, with the domain in which it is one.
        Number::Private { number, domain } => {
            format!("sip:{number};phone-context={domain}@{domain};user=phone")
        }
        Number::Address { local, domain } => format!("sip:{}@{domain}", escaped(local)),
    }
}

/// `tel:+14085551000`, `tel:4711;phone-context=example.com`; none for addresses.
pub fn tel_uri(number: &Number) -> Option<String> {
    match number {
        Number::E164(digits) => Some(format!("tel:{digits}")),
        Number::Private { number, domain } => Some(format!("tel:{number};phone-context={domain}")),
        Number::Address { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn home() -> Home {
        Home { domain: "ims.test".into(), ..Home::default() }
    }

    fn german() -> Home {
        Home {
            domain: "ims.test".into(),
            country: Some("+49".into()),
            trunk_prefix: "0".into(),
            international_prefix: "00".into(),
        }
    }

    #[test]
    fn numbers_are_read_from_both_kinds_of_uri() {
        for (uri, number) in [
            ("tel:+1-555-(000)-1", "+15550001"),
            ("TEL:+1.555.0001;isub=12;ext=9", "+15550001"),
            ("tel:4711;phone-context=Example.com", "4711@example.com"),
            ("tel:0001;phone-context=+1-555", "+15550001"),
            ("tel:112", "112@ims.test"),
            ("tel:%2B15550001", "+15550001"),
            ("sip:+15550001@ims.test;user=phone", "+15550001"),
            ("sip:+15550001@ims.test", "+15550001"),
            ("sips:+1-555-0001;isub=7@ims.test:5061;transport=tls;user=PHONE", "+15550001"),
            ("sip:%2B15550001@ims.test;user=phone", "+15550001"),
            ("sip:+15550001:secret@ims.test", "+15550001"),
            ("sip:4711@ims.test;user=phone", "4711@ims.test"),
            ("sip:4711;phone-context=example.com@ims.test;user=phone", "4711@example.com"),
            ("sip:4711@ims.test", "4711@ims.test"),
            ("sip:alice@IMS.test;transport=udp?Subject=x@y", "alice@ims.test"),
            ("sip:a%2Fb@ims.test", "a/b@ims.test"),
        ] {
            let read = Phone::read(uri, &home()).unwrap();
            assert_eq!(read.number.map(|it| it.to_string()).as_deref(), Some(number), "{uri}");
            assert!(!read.nameless);
        }
        let whole = Phone::read("tel:+15550001;isub=12;ext=9", &home()).unwrap();
        assert_eq!((whole.subaddress.as_deref(), whole.extension.as_deref()), (Some("12"), Some("9")));
    }

    #[test]
    fn national_numbers_get_their_country_and_services_stay_local() {
        for (uri, number) in [
            ("tel:03012345678", "+493012345678"),
            ("sip:03012345678@ims.test;user=phone", "+493012345678"),
            ("tel:0015550001", "+15550001"),
            ("tel:112", "112@ims.test"),
            ("tel:0800", "0800@ims.test"),
        ] {
            let read = Phone::read(uri, &german()).unwrap();
            assert_eq!(read.number.map(|it| it.to_string()).as_deref(), Some(number), "{uri}");
        }
    }

    #[test]
    fn who_is_nobody_is_nobody_and_what_is_no_number_gives_none() {
        for uri in [ANONYMOUS, "sip:x@anonymous.invalid", "sip:anonymous@ims.test", "sip:Unknown@1.2.3.4"] {
            let read = Phone::read(uri, &home()).unwrap();
            assert!(read.nameless && read.number.is_none(), "{uri}");
        }
        for uri in [
            "sip:ims.test",
            "sip:@ims.test",
            "sip:+abc@ims.test",
            "tel:*100#",
            "tel:",
            "tel:+",
            "tel:+0123",
            "sip:%zz@x",
            "tel:12;phone-context=-",
        ] {
            let read = Phone::read(uri, &home()).unwrap();
            assert!(!read.nameless && read.number.is_none(), "{uri} {read:?}");
        }
        for uri in [
            "",
            "urn:service:sos",
            "mailto:a@b",
            "+15550001",
            "sip:a b@c",
            &format!("sip:{}@x", "a".repeat(3000)),
        ] {
            assert_eq!(Phone::read(uri, &home()), None, "{uri}");
        }
    }

    #[test]
    fn numbers_are_written_and_come_back() {
        for (number, sip, tel) in [
            ("+15550001", "sip:+15550001@ims.test;user=phone", Some("tel:+15550001")),
            (
                "4711@ims.test",
                "sip:4711;phone-context=ims.test@ims.test;user=phone",
                Some("tel:4711;phone-context=ims.test"),
            ),
            (
                "4711@b.example",
                "sip:4711;phone-context=b.example@b.example;user=phone",
                Some("tel:4711;phone-context=b.example"),
            ),
            ("al#ice@b.example", "sip:al%23ice@b.example", None),
        ] {
            let number: Number = number.parse().unwrap();
            assert_eq!(sip_uri(&number, "ims.test"), sip);
            assert_eq!(tel_uri(&number).as_deref(), tel);
            for uri in [Some(sip), tel].into_iter().flatten() {
                assert_eq!(Phone::read(uri, &german()).unwrap().number.as_ref(), Some(&number), "{uri}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_uri_is_read_without_panic(text in "(tel:|sip:|sips:|)[ -~é]{0,60}") {
            for home in [home(), german()] {
                if let Some(read) = Phone::read(&text, &home) {
                    prop_assert!(read.number.is_none() || !read.nameless);
                }
            }
        }

        #[test]
        fn whatever_is_a_number_comes_back(text in "(\\+[1-9][0-9]{1,14}|[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,20}@[a-z0-9]{1,9}\\.test)") {
            let Ok(number) = text.parse::<Number>() else { return Ok(()) };
            let nobody = text.starts_with("anonymous@") || text.starts_with("unknown@");
            let plus = matches!(&number, Number::Address { local, .. } if local.starts_with('+'));
            if !nobody && !plus {
                let read = Phone::read(&sip_uri(&number, "ims.test"), &home()).unwrap();
                prop_assert_eq!(read.number, Some(number));
            }
        }
    }
}
