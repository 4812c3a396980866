//! The values of header fields, taken apart (RFC 3261 §25.1): what is quoted or in angle brackets separates nothing.

use rsipstack::sip::{HasHeaders, Scheme, Uri};

/// The most parts of one value that are read.
pub const MAX_PARTS: usize = 64;
/// The longest value that is read, in bytes.
pub const MAX_VALUE: usize = 16 * 1024;

/// The parts of a value between separators, trimmed, without the empty ones.
pub fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    split(text, separator, true)
}

/// The same where angle brackets are characters like others.
pub(super) fn quoted_parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    split(text, separator, false)
}

fn split(text: &str, separator: char, brackets: bool) -> impl Iterator<Item = &str> {
    let text = if text.len() > MAX_VALUE { "" } else { text };
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    let ends = move |c: char| {
        if escaped {
            escaped = false;
            return false;
        }
        match c {
            '\\' if quoted => escaped = true,
            '"' if !inside => quoted = !quoted,
            '<' if brackets && !quoted => inside = true,
            '>' if brackets && !quoted => inside = false,
            _ => return c == separator && !quoted && !inside,
        }
        false
    };
    text.split(ends).map(str::trim).filter(|part| !part.is_empty()).take(MAX_PARTS)
}

/// What a quoted string says; other text as it is.
pub fn unquoted(text: &str) -> String {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('"') else { return text.to_owned() };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    let mut out = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        if c == '\\' && !escaped {
            escaped = true;
        } else {
            escaped = false;
            out.push(c);
        }
    }
    out
}

/// As a quoted string; what may not stand in one (RFC 3261 §25.1, qdtext) is left out.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

/// `name` or `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// As it is written; compared without regard to case.
    pub name: &'a str,
    /// Without quotes.
    pub value: Option<String>,
}

/// `;`-separated parameters.
pub fn params(text: &str) -> Vec<Param<'_>> {
    parts(text, ';').map(param).collect()
}

/// One parameter.
pub fn param(text: &str) -> Param<'_> {
    match text.split_once('=') {
        None => Param { name: text.trim(), value: None },
        Some((name, value)) => Param { name: name.trim(), value: Some(unquoted(value)) },
    }
}

/// The value of the parameter of that name; empty where it has none.
pub fn find<'p>(params: &'p [Param<'_>], name: &str) -> Option<&'p str> {
    let found = params.iter().find(|param| param.name.eq_ignore_ascii_case(name))?;
    Some(found.value.as_deref().unwrap_or_default())
}

/// A name-addr or addr-spec with the header's parameters (RFC 3261 §20.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address<'a> {
    /// The display name.
    pub display: Option<String>,
    /// The URI with its own parameters.
    pub uri: &'a str,
    /// The header's.
    pub params: Vec<Param<'a>>,
}

impl<'a> Address<'a> {
    /// Reads one; none if there is no URI in it.
    pub fn read(text: &'a str) -> Option<Self> {
        if text.len() > MAX_VALUE {
            return None;
        }
        let text = text.trim();
        let open = outside_quotes(text, '<');
        let (display, uri, rest) = match open {
            Some(at) => {
                let (before, after) = (text.get(..at)?, text.get(at + 1..)?);
                let (uri, rest) = after.split_once('>')?;
                (Some(unquoted(before)).filter(|name| !name.is_empty()), uri.trim(), rest)
            }
            // RFC 3261 §20: without brackets, what follows a semicolon is the header's.
            None => {
                let (uri, rest) = text.split_once(';').unwrap_or((text, ""));
                (None, uri.trim(), rest)
            }
        };
        let graphic = !uri.is_empty() && uri.bytes().all(|b| b.is_ascii_graphic() && b != b'<');
        (graphic && uri.contains(':')).then(|| Self { display, uri, params: params(rest) })
    }

    /// All of a header's values.
    pub fn all(text: &'a str) -> impl Iterator<Item = Self> {
        parts(text, ',').filter_map(Self::read)
    }

    /// The value of one of the header's parameters.
    pub fn param(&self, name: &str) -> Option<&str> {
        find(&self.params, name)
    }
}

fn outside_quotes(text: &str, wanted: char) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.char_indices().find_map(|(at, c)| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == wanted && !quoted => return Some(at),
            _ => {}
        }
        None
    })
}

/// The values of all headers of one name, in their order; compact forms are the parser's matter.
pub fn values<'m>(message: &'m impl HasHeaders, name: &str) -> Vec<&'m str> {
    let named = message.headers().iter().filter(|header| header.name().eq_ignore_ascii_case(name));
    named.map(|header| header.value()).filter(|value| value.len() <= MAX_VALUE).take(MAX_PARTS).collect()
}

/// The first of them.
pub fn value<'m>(message: &'m impl HasHeaders, name: &str) -> Option<&'m str> {
    values(message, name).first().copied()
}

/// A URI as it came: rsipstack's Display escapes the user part once more.
pub fn uri_text(uri: &Uri) -> String {
    let Some(auth) = &uri.auth else { return uri.to_string() };
    let rest = Uri { auth: None, scheme: None, ..uri.clone() };
    let scheme = uri.scheme.as_ref().unwrap_or(&Scheme::Sip);
    let password = auth.password.as_ref().map(|word| format!(":{word}")).unwrap_or_default();
    format!("{scheme}:{}{password}@{rest}", auth.user)
}

/// A URI to be sent: rsipstack's Display escapes the user part, so it goes in without escapes.
pub fn wire_uri(text: &str) -> Option<Uri> {
    let mut uri = Uri::try_from(text).ok()?;
    if let Some(auth) = &mut uri.auth {
        auth.user = unescaped(&auth.user)?;
    }
    Some(uri)
}

/// RFC 3261 §19.1.2; none if that is no text.
pub fn unescaped(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || char::from(bytes.next()?).to_digit(16);
            out.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_quoted_or_bracketed_separates_nothing() {
        let text = r#""A, \"b\", c" <sip:a,b@x;u=1>;p="x;y" , <sip:c@d>,, tel:+1;q=0.5"#;
        let all: Vec<_> = parts(text, ',').collect();
        assert_eq!(all.len(), 3);
        let first = Address::read(all[0]).unwrap();
        assert_eq!(first.display.as_deref(), Some(r#"A, "b", c"#));
        assert_eq!((first.uri, first.param("P")), ("sip:a,b@x;u=1", Some("x;y")));
        let third = Address::read(all[2]).unwrap();
        assert_eq!((third.uri, third.param("q"), third.display.clone()), ("tel:+1", Some("0.5"), None));
        for none in ["", "<>", "<sip:a", "x", "<a b:c>", "\"<sip:a@b>\""] {
            assert_eq!(Address::read(none), None, "{none}");
        }
        assert_eq!(parts(&"a,".repeat(1000), ',').count(), MAX_PARTS);
    }

    #[test]
    fn a_uri_keeps_its_escapes() {
        for text in ["sip:%2B1555@x.example;user=phone", "sip:a:b@c:5060", "tel:+1;x=y", "urn:service:sos"] {
            assert_eq!(uri_text(&text.try_into().unwrap()), text);
        }
        for (text, sent) in [
            ("sip:al%23ice@x.example", "sip:al%23ice@x.example"),
            ("sip:%2B1555@x.example;user=phone", "sip:+1555@x.example;user=phone"),
            ("tel:+1555;x=y", "tel:+1555;x=y"),
            ("urn:service:sos.police", "urn:service:sos.police"),
        ] {
            assert_eq!(wire_uri(text).unwrap().to_string(), sent);
        }
        assert!(wire_uri("sip:a%0d%0ab@x").is_none() && wire_uri("sip:%zz@x").is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_quoting_is_undone(text in "[ -~é\\n]{0,60}") {
            for part in parts(&text, ',') {
                let _ = Address::read(part);
                let _ = params(part);
            }
            let plain: String = text.chars().filter(|c| !c.is_control()).collect();
            prop_assert_eq!(unquoted(&quoted(&text)), plain);
        }
    }
}
