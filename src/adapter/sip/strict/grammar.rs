//! The syntax of the values that every message has (RFC 3261 §25.1).

/// What is wrong, in words.
pub(super) type Why = &'static str;

/// RFC 3261 §25.1: token
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b))
}

/// Where a character is that isn't quoted.
fn unquoted(text: &str, wanted: char) -> Result<Option<usize>, Why> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c == wanted && !quoted => return Ok(Some(at)),
            _ => {}
        }
    }
    if quoted { Err("a quoted string doesn't end") } else { Ok(None) }
}

/// The parts of a value outside of quotes and angle brackets, empty ones too.
pub(super) fn split(text: &str, separator: char) -> Result<Vec<&str>, Why> {
    let (mut parts, mut begins) = (Vec::new(), 0);
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !inside => quoted = !quoted,
            '<' if !quoted => inside = true,
            '>' if !quoted => inside = false,
            c if c == separator && !quoted && !inside => {
                parts.push(text[begins..at].trim());
                begins = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if quoted {
        return Err("a quoted string doesn't end");
    }
    if inside {
        return Err("an address without its >");
    }
    parts.push(text[begins..].trim());
    Ok(parts)
}

/// name-addr or addr-spec with the field's parameters.
pub(super) fn address(text: &str) -> Result<(), Why> {
    let text = text.trim();
    match unquoted(text, '<')? {
        Some(open) => {
            let (inner, rest) = text[open + 1..].split_once('>').ok_or("an address without its >")?;
            display(text[..open].trim())?;
            uri(inner)?;
            params(rest)
        }
        None => {
            let end = text.find(';').unwrap_or(text.len());
            let inner = text[..end].trim_end();
            // RFC 3261 §20: such a URI stands in angle brackets.
            if inner.contains(['?', ',']) {
                return Err("a URI with ? or , and no <> around it");
            }
            uri(inner)?;
            params(&text[end..])
        }
    }
}

fn display(text: &str) -> Result<(), Why> {
    let Some(inner) = text.strip_prefix('"') else {
        // What isn't ASCII is forgiven: many a phone writes names so.
        let token = |word: &str| word.split(|c: char| !c.is_ascii()).all(|w| w.is_empty() || is_token(w));
        return match text.split_whitespace().all(token) {
            true => Ok(()),
            false => Err("a display name that has to be quoted"),
        };
    };
    let mut escaped = false;
    let end = inner.char_indices().find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    match end {
        Some((at, _)) if at + 1 == inner.len() => Ok(()),
        Some(_) => Err("something between a display name and its address"),
        None => Err("a quoted string doesn't end"),
    }
}

/// A URI of any scheme. (Its own parts: only what is ambiguous.)
pub(super) fn uri(text: &str) -> Result<(), Why> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"".contains(c)) {
        return Err("a URI with blanks, quotes or brackets in it");
    }
    let (name, rest) = text.split_once(':').ok_or("a URI without a scheme")?;
    if !is_scheme(name) || rest.is_empty() {
        return Err("a URI without a scheme, or with nothing behind it");
    }
    if is_sip(name)
        && !rest
            .split('%')
            .skip(1)
            .all(|code| code.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2)
    {
        return Err("a % in a URI that escapes nothing");
    }
    Ok(())
}

/// RFC 3986 §3.1
fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

pub(super) fn is_sip(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("sip") || scheme.eq_ignore_ascii_case("sips")
}

/// `;name`, `;name=value`, each with something in it.
fn params(text: &str) -> Result<(), Why> {
    let text = text.trim();
    let Some(list) = text.strip_prefix(';') else {
        return if text.is_empty() {
            Ok(())
        } else {
            Err("something behind an address that is no parameter")
        };
    };
    for part in split(list, ';')? {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (part, None),
        };
        if !is_token(name) {
            return Err("an empty parameter, or one whose name is no token");
        }
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !",;<>\"".contains(c);
        let quoted = |v: &str| v.len() > 1 && v.starts_with('"') && v.ends_with('"');
        if value.is_some_and(|v| v.is_empty() || !(quoted(v) || v.chars().all(plain))) {
            return Err("a parameter with a wrong value");
        }
    }
    Ok(())
}

/// One value of Via.
pub(super) fn via(text: &str) -> Result<(), Why> {
    let end = text.find(';').unwrap_or(text.len());
    let mut parts = text[..end].splitn(3, '/').map(str::trim);
    let (Some(protocol), Some(version), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("a Via without protocol, version and transport");
    };
    let (transport, sent_by) = rest.split_once(char::is_whitespace).ok_or("a Via without an address")?;
    let sent_by = sent_by.split_whitespace().collect::<String>();
    if ![protocol, version, transport].into_iter().all(is_token) {
        return Err("a Via whose protocol, version or transport is no token");
    }
    let (host, port) = host_port(&sent_by);
    let named = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    if host.is_empty() || !host.chars().all(named) || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err("a Via whose address is none");
    }
    params(&text[end..])
}

/// A host, and its port's text; an IPv6 address has brackets.
pub(super) fn host_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

/// Digits alone, of a number up to this one.
pub(super) fn number(text: &str, most: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= most)
}

/// A sequence number and a method.
pub(super) fn cseq(text: &str) -> Result<&str, Why> {
    let mut words = text.split_whitespace();
    let (Some(seq), Some(method), None) = (words.next(), words.next(), words.next()) else {
        return Err("a CSeq that is no number and method");
    };
    // RFC 3261 §8.1.1.5
    number(seq, (1 << 31) - 1).ok_or("a CSeq whose number isn't below 2^31")?;
    if is_token(method) { Ok(method) } else { Err("a CSeq whose method is no token") }
}
