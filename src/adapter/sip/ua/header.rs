//! Headers read tolerantly: what can't be read is as if it weren't there, and nothing that a peer writes panics.

use rsipstack::sip::{Auth, Headers, HostWithPort, Param, Uri};

/// The value of the first header of that name.
pub(super) fn first<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    all(headers, name).next()
}

/// The values of all headers of that name, in their order.
pub(super) fn all<'a>(headers: &'a Headers, name: &str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |h| h.name().eq_ignore_ascii_case(name)).map(|h| h.value().trim())
}

/// RFC 3261 §7.3.1: a list, in one header or several.
pub(super) fn list(headers: &Headers, name: &str) -> Vec<String> {
    all(headers, name).flat_map(|v| split(v, ',')).filter(|v| !v.is_empty()).map(str::to_owned).collect()
}

/// Whether a list has this token.
pub(super) fn has(headers: &Headers, name: &str, token: &str) -> bool {
    all(headers, name).flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case(token))
}

/// Splits outside of quotes and angle brackets.
pub(super) fn split(value: &str, at: char) -> Vec<&str> {
    let (mut parts, mut start, mut quoted, mut escaped, mut depth) = (Vec::new(), 0, false, false, false);
    for (i, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => depth = true,
            '>' if !quoted => depth = false,
            c if c == at && !quoted && !depth => {
                parts.push(value[start..i].trim());
                start = i + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(value[start..].trim());
    parts
}

/// The parameter of a header's value: of the header, not of a URI in it. Without a value it is empty.
pub(super) fn param<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    split(value, ';').into_iter().skip(1).find_map(|p| {
        let (key, value) = p.split_once('=').unwrap_or((p, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The tag of From or To.
pub(super) fn tag(headers: &Headers, name: &str) -> Option<String> {
    first(headers, name).and_then(|v| param(v, "tag")).filter(|t| !t.is_empty()).map(str::to_owned)
}

/// The text of the URI in a name-addr or addr-spec.
pub(super) fn uri_of(value: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (i, c) in value.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => {
                return value[i + 1..].split('>').next().map(str::trim).filter(|u| !u.is_empty());
            }
            _ => {}
        }
    }
    // RFC 3261 §20.10: without brackets, parameters are the header's.
    value.split(';').next().map(str::trim).filter(|u| !u.is_empty())
}

/// A URI. The user part is taken up to the last `@` (RFC 3261 §19.1.1: it may have `;` and `?` in it), and unescaped, for
/// writing it escapes it again.
pub(super) fn uri(text: &str) -> Option<Uri> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ' || c == '<' || c == '>') {
        return None;
    }
    let (scheme, rest) = text.split_once(':')?;
    let sip = scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips");
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) if sip => (Some(user), host),
        _ => (None, rest),
    };
    let (main, headers) = host.split_once('?').map_or((host, ""), |(m, h)| (m, h));
    let mut parts = main.split(';');
    let mut uri = Uri {
        scheme: Some(scheme.parse().ok()?),
        auth: None,
        host_with_port: HostWithPort::try_from(parts.next()?).ok()?,
        params: Vec::new(),
        headers: Vec::new(),
    };
    for part in parts.filter(|p| !p.is_empty()) {
        uri.params.push(part.parse().unwrap_or_else(|_| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Param::Other(key.into(), Some(value.into()))
        }));
    }
    for pair in headers.split('&').filter(|p| !p.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        uri.headers.push((key.to_owned(), value.to_owned()));
    }
    if let Some(user) = user {
        let (user, password) = user.split_once(':').map_or((user, None), |(u, p)| (u, Some(p)));
        uri.auth = Some(Auth { user: unescape(user), password: password.map(unescape) });
    }
    Some(uri)
}

/// `%41` is `A`. What isn't UTF-8 stays as it is.
pub(super) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let code = (*byte == b'%').then(|| tail.get(..2)).flatten();
        let code = code.and_then(|two| std::str::from_utf8(two).ok()).filter(|t| !t.contains('+'));
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(code) => {
                bytes.push(code);
                rest = &tail[2..];
            }
            None => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// A number that stands first in a header: seconds, RSeq.
pub(super) fn number(headers: &Headers, name: &str) -> Option<u32> {
    let value = first(headers, name)?;
    value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// RFC 3261 §8.1.1.5: a number below 2^31, and a method.
pub(super) fn cseq(headers: &Headers) -> Option<(u32, &str)> {
    let (number, method) = first(headers, "CSeq")?.split_once(char::is_whitespace)?;
    let number = number.parse().ok().filter(|n| *n < 1 << 31)?;
    Some((number, method.trim()))
}

/// RFC 3326: the Reason headers' values.
pub(super) fn reason(headers: &Headers) -> Option<String> {
    let all = all(headers, "Reason").filter(|v| !v.is_empty()).collect::<Vec<_>>();
    (!all.is_empty()).then(|| all.join(", "))
}

/// A message's body, as far as a call is concerned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// None, or one that may be passed over.
    None,
    /// A description.
    Sdp(String),
    /// Something else that has to be understood.
    Foreign,
}

/// Reads a body: SDP, or SDP in a part of a multipart (RFC 5621 §3).
pub(super) fn body(headers: &Headers, body: &[u8]) -> Body {
    if body.is_empty() {
        return Body::None;
    }
    let kind = first(headers, "Content-Type").unwrap_or_default();
    let plain = first(headers, "Content-Encoding").is_none_or(|e| e.eq_ignore_ascii_case("identity"));
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    // RFC 3261 §20.11
    let optional = first(headers, "Content-Disposition")
        .and_then(|d| param(d, "handling"))
        .is_some_and(|h| h.eq_ignore_ascii_case("optional"));
    match media.as_str() {
        "application/sdp" if plain => Body::Sdp(String::from_utf8_lossy(body).into_owned()),
        media if media.starts_with("multipart/") && plain => {
            let boundary = param(kind, "boundary").map(|b| b.trim_matches('"')).filter(|b| !b.is_empty());
            boundary.and_then(|b| part(&String::from_utf8_lossy(body), b)).map_or(Body::Foreign, Body::Sdp)
        }
        _ if optional => Body::None,
        _ => Body::Foreign,
    }
}

/// The first part that is SDP.
fn part(body: &str, boundary: &str) -> Option<String> {
    let mark = format!("--{boundary}");
    body.split(mark.as_str()).skip(1).find_map(|part| {
        let part = part.strip_prefix("\r\n").or_else(|| part.strip_prefix('\n'))?;
        let (head, content) = part.split_once("\r\n\r\n").or_else(|| part.split_once("\n\n"))?;
        let sdp = head.lines().filter_map(|l| l.split_once(':')).any(|(name, value)| {
            let (name, value) = (name.trim(), value.trim().to_ascii_lowercase());
            (name.eq_ignore_ascii_case("content-type") || name == "c") && value.starts_with("application/sdp")
        });
        sdp.then(|| format!("{}\r\n", content.trim_end()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rsipstack::sip::headers::make_header;

    use super::*;

    fn headers(lines: &[(&str, &str)]) -> Headers {
        Headers::from(lines.iter().map(|(n, v)| make_header(n, (*v).into())).collect::<Vec<_>>())
    }

    #[test]
    fn a_tag_is_the_headers_and_not_the_uris() {
        for (value, tag_is) in [
            ("<sip:a@b;tag=no>;tag=yes", Some("yes")),
            ("\"a <;tag=no\" <sip:a@b>;x=1;TAG = yes", Some("yes")),
            ("sip:a@b;tag=yes", Some("yes")),
            ("<sip:a@b>", None),
            ("<sip:a@b>;tag=", None),
            ("\"\\\"<sip:x>;tag=no\" <sip:a@b>", None),
        ] {
            assert_eq!(tag(&headers(&[("From", value)]), "From").as_deref(), tag_is, "{value}");
        }
    }

    #[test]
    fn a_list_is_split_outside_of_quotes_and_brackets() {
        let routes =
            headers(&[("Record-Route", "<sip:a;x=1,2>, \"q,q\" <sip:b>"), ("Record-Route", "<sip:c>")]);
        assert_eq!(list(&routes, "record-route"), ["<sip:a;x=1,2>", "\"q,q\" <sip:b>", "<sip:c>"]);
    }

    #[test]
    fn a_uri_is_written_as_it_was_read() {
        for text in [
            "sip:+15550001;phone-context=x@host;user=phone",
            "sip:a%23b@host:5070;transport=TCP;lr",
            "sip:user:pass@[2001:db8::1]:5060",
            "tel:+15550001;phone-context=example.com",
            "urn:service:sos",
            "sips:host;transport=quic",
        ] {
            assert_eq!(uri(text).map(|u| u.to_string()).as_deref(), Some(text));
        }
        assert_eq!(uri("sip:a b@c"), None);
        assert_eq!(uri("nothing"), None);
    }

    #[test]
    fn cseq_is_below_two_to_the_31() {
        for (value, read) in [
            ("1 INVITE", Some((1, "INVITE"))),
            ("2147483647  BYE", Some((2_147_483_647, "BYE"))),
            ("2147483648 BYE", None),
            ("99999999999999 BYE", None),
            ("-1 BYE", None),
            ("1", None),
        ] {
            assert_eq!(cseq(&headers(&[("CSeq", value)])), read, "{value}");
        }
    }

    #[test]
    fn sdp_is_found_alone_and_in_a_multipart() {
        let sdp = "v=0\r\no=- 1 1 IN IP4 x\r\n";
        let alone = headers(&[("Content-Type", "application/SDP;charset=utf-8")]);
        assert_eq!(body(&alone, sdp.as_bytes()), Body::Sdp(sdp.into()));
        let mixed = format!(
            "pre\r\n--b1\r\nContent-Type: application/pidf+xml\r\n\r\n<x/>\r\n--b1\r\nContent-Type: application/sdp\r\n\r\n{sdp}\r\n--b1--\r\n"
        );
        let kind = headers(&[("Content-Type", "multipart/mixed;boundary=\"b1\"")]);
        assert_eq!(body(&kind, mixed.as_bytes()), Body::Sdp(sdp.into()));
        assert_eq!(body(&headers(&[("Content-Type", "text/plain")]), b"x"), Body::Foreign);
        let optional = [("Content-Type", "text/plain"), ("Content-Disposition", "render;handling=optional")];
        assert_eq!(body(&headers(&optional), b"x"), Body::None);
        let packed = [("Content-Type", "application/sdp"), ("Content-Encoding", "gzip")];
        assert_eq!(body(&headers(&packed), b"x"), Body::Foreign);
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_panics(text in "\\PC{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let all = headers(&[("From", &text), ("CSeq", &text), ("RSeq", &text), ("Reason", &text), ("Content-Type", &text)]);
            let _ = (tag(&all, "From"), cseq(&all), number(&all, "RSeq"), reason(&all), uri(&text), uri_of(&text));
            let _ = (unescape(&text), split(&text, ';'), param(&text, "x"), body(&all, &bytes));
            let _ = part(&text, "b");
        }
    }
}
