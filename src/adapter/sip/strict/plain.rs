//! Valid text that the parser would not read, written as it reads it: folded lines, blanks between the parts of Via, short names.

use std::borrow::Cow;

use super::head::{Field, Head};

/// The message anew; none: it is plain as it is.
pub(super) fn plain(head: &Head<'_>) -> Option<Vec<u8>> {
    let values: Vec<_> = head.fields.iter().map(squeezed).collect();
    // RFC 3261 §18.3: without Content-Length, the body of a datagram is all of the rest.
    let endless = !head.body.is_empty() && head.first("Content-Length").is_none();
    let start = versioned(head.start);
    let changed = values.iter().zip(&head.fields).any(|(value, field)| **value != *field.value);
    if !(head.odd || endless || changed || *start != *head.start) {
        return None;
    }
    let mut out = start.into_owned();
    out.push_str("\r\n");
    for (field, value) in head.fields.iter().zip(&values) {
        for part in [field.name, ": ", value, "\r\n"] {
            out.push_str(part);
        }
    }
    if endless {
        out.push_str(&format!("Content-Length: {}\r\n", head.body.len()));
    }
    out.push_str("\r\n");
    let mut out = out.into_bytes();
    out.extend_from_slice(head.body);
    Some(out)
}

/// RFC 3261 §7.1: the version may be written small.
fn versioned(start: &str) -> Cow<'_, str> {
    match start.split_once(' ') {
        Some((version, rest)) if version.eq_ignore_ascii_case("SIP/2.0") && version != "SIP/2.0" => {
            format!("SIP/2.0 {rest}").into()
        }
        _ => match start.rsplit_once(' ') {
            Some((rest, version)) if version.eq_ignore_ascii_case("SIP/2.0") && version != "SIP/2.0" => {
                format!("{rest} SIP/2.0").into()
            }
            _ => start.into(),
        },
    }
}

fn squeezed<'a>(field: &'a Field<'_>) -> Cow<'a, str> {
    let value = &*field.value;
    if field.is("Via") {
        without_blanks(value, "/;=,:")
    } else if field.is("From") || field.is("To") {
        without_blanks(value, ";=")
    } else if field.is("CSeq") {
        match value.split_once(char::is_whitespace) {
            Some((seq, method)) if method != method.trim() => format!("{seq} {}", method.trim()).into(),
            _ => value.into(),
        }
    } else {
        value.into()
    }
}

/// Without the blanks round these separators, and without more than one elsewhere; what is quoted or in brackets stays.
fn without_blanks<'a>(value: &'a str, separators: &str) -> Cow<'a, str> {
    let mut out = String::with_capacity(value.len());
    let (mut quoted, mut escaped, mut inside, mut blank) = (false, false, false, false);
    for c in value.chars() {
        if !quoted && !inside && c.is_whitespace() {
            blank = true;
            continue;
        }
        let closes = |c: char| separators.contains(c);
        if blank && !closes(c) && !out.is_empty() && !out.ends_with(closes) {
            out.push(' ');
        }
        blank = false;
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if !inside => quoted = !quoted,
            '<' if !quoted => inside = true,
            '>' if !quoted => inside = false,
            _ => {}
        }
        out.push(c);
    }
    if out == value { value.into() } else { out.into() }
}
