//! What messages must have (RFC 3261 §8.1.1, §8.1.3, §8.2, §18.3).

use std::str::FromStr as _;

use rsipstack::sip::Method;

use super::Fault;
use super::grammar::{self, Why};
use super::head::{Field, Head};

/// What every message has once (RFC 3261 §8.1.1).
const NEEDED: [(&str, Why, Why); 4] = [
    ("To", "no To", "To more than once"),
    ("From", "no From", "From more than once"),
    ("Call-ID", "no Call-ID", "Call-ID more than once"),
    ("CSeq", "no CSeq", "CSeq more than once"),
];

/// What may be there once; requests of RFC 2543 have no Max-Forwards, and over UDP Content-Length may be missing (§18.3).
const ONCE: [(&str, Why); 3] = [
    ("Max-Forwards", "Max-Forwards more than once"),
    ("Content-Length", "Content-Length more than once"),
    ("Content-Type", "Content-Type more than once"),
];

/// A request as it came.
pub(super) fn request(head: &Head<'_>) -> Result<(), Fault> {
    let bad = Fault::bad;
    // RFC 3261 §7.1: one SP between the elements, and no other blanks.
    let mut words = head.start.split(' ');
    let (method, uri, version) = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(method), Some(uri), Some(version), None) => (method, uri, version),
        _ => return Err(bad("the request line isn't method, URI and version with one blank between them")),
    };
    if !grammar::is_token(method) {
        return Err(bad("the request line's method is no token"));
    }
    known_version(version)?;
    if let Some(why) = head.broken {
        return Err(bad(why));
    }
    // RFC 3261 §7.1: methods are case-sensitive.
    if Method::from_str(method).map(|known| known.to_string()).as_deref() != Ok(method) {
        let headers = vec![("Allow", super::super::ua::ALLOW.to_owned())];
        return Err(Fault { code: 501, headers, why: "a method that isn't known" });
    }
    request_uri(uri)?;
    fields(&head.fields, method)?;
    // RFC 3261 §18.3
    length(head).map_err(bad)
}

fn known_version(version: &str) -> Result<(), Fault> {
    if version.eq_ignore_ascii_case("SIP/2.0") {
        return Ok(());
    }
    let number =
        version.get(..4).filter(|name| name.eq_ignore_ascii_case("SIP/")).and_then(|_| version.get(4..));
    let digits = |text: &str| grammar::number(text, u64::MAX).is_some();
    match number.and_then(|number| number.split_once('.')) {
        // RFC 3261 §21.5.6
        Some((major, minor)) if digits(major) && digits(minor) => {
            Err(Fault { code: 505, headers: vec![], why: "a version that isn't SIP/2.0" })
        }
        _ => Err(Fault::bad("the request line doesn't end with SIP/2.0")),
    }
}

fn request_uri(uri: &str) -> Result<(), Fault> {
    grammar::uri(uri).map_err(Fault::bad)?;
    let (name, rest) = uri.split_once(':').unwrap_or_default();
    scheme(name)?;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    // RFC 3261 §19.1.1, table 1
    if grammar::is_sip(name) && host.contains('?') {
        return Err(Fault::bad("a Request-URI with headers in it"));
    }
    Ok(())
}

/// Whether requests for such URIs are taken (RFC 3261 §8.2.2.1).
pub(super) fn scheme(name: &str) -> Result<(), Fault> {
    let known = ["sip", "sips", "tel", "urn"].iter().any(|known| known.eq_ignore_ascii_case(name));
    match known {
        true => Ok(()),
        false => Err(Fault { code: 416, headers: vec![], why: "a Request-URI of a scheme that isn't known" }),
    }
}

/// The fields that every request has.
pub(super) fn fields(fields: &[Field<'_>], method: &str) -> Result<(), Fault> {
    common(fields, Some(method)).map_err(Fault::bad)?;
    let mut contacts = fields.iter().filter(|field| field.is("Contact") && *field.value != *"*");
    contacts.try_for_each(|field| list(&field.value, grammar::address)).map_err(Fault::bad)
}

/// What requests and responses must have.
fn common(fields: &[Field<'_>], method: Option<&str>) -> Result<(), Why> {
    let count = |name: &str| fields.iter().filter(|field| field.is(name)).count();
    for (name, missing, repeated) in NEEDED {
        match count(name) {
            0 => return Err(missing),
            1 => {}
            _ => return Err(repeated),
        }
    }
    if let Some((_, repeated)) = ONCE.into_iter().find(|(name, _)| count(name) > 1) {
        return Err(repeated);
    }
    if count("Via") == 0 {
        return Err("no Via");
    }
    for field in fields {
        let value = field.value.trim();
        if field.is("To") || field.is("From") {
            grammar::address(value)?;
        } else if field.is("Via") {
            list(value, grammar::via)?;
        } else if field.is("Call-ID") && (value.is_empty() || value.contains(char::is_whitespace)) {
            return Err("a Call-ID that is empty or has blanks");
        } else if field.is("CSeq") && grammar::cseq(value)? != method.unwrap_or(grammar::cseq(value)?) {
            // RFC 3261 §8.1.1.5
            return Err("CSeq names another method");
        } else if field.is("Max-Forwards") {
            // RFC 3261 §20.22
            grammar::number(value, 255).ok_or("a Max-Forwards that is no number up to 255")?;
        } else if field.is("Content-Length") {
            grammar::number(value, u32::MAX.into()).ok_or("a Content-Length that is no number")?;
        }
    }
    Ok(())
}

fn list(value: &str, each: fn(&str) -> Result<(), Why>) -> Result<(), Why> {
    grammar::split(value, ',')?.into_iter().try_for_each(each)
}

fn length(head: &Head<'_>) -> Result<(), Why> {
    let said = head.first("Content-Length").and_then(|value| grammar::number(value, u64::MAX));
    match said {
        Some(said) if said > head.body.len() as u64 => Err("Content-Length is more than what came"),
        _ => Ok(()),
    }
}

/// A response as it came; none is answered, so that what is wrong is only told to the log.
pub(super) fn response(head: &Head<'_>) -> Result<(), Why> {
    if let Some(why) = head.broken {
        return Err(why);
    }
    let mut words = head.start.splitn(3, ' ');
    let (Some(version), Some(code)) = (words.next(), words.next()) else {
        return Err("a status line without a code");
    };
    if !version.eq_ignore_ascii_case("SIP/2.0") {
        return Err("a response of another version");
    }
    // RFC 3261 §7.2: three digits; the phrase may be anything, or nothing.
    if code.len() != 3 || grammar::number(code, 699).is_none_or(|code| code < 100) {
        return Err("a status code that is none");
    }
    common(&head.fields, None)?;
    let method = head.first("CSeq").and_then(|cseq| grammar::cseq(cseq).ok());
    if method.is_none_or(|method| Method::from_str(method).is_err()) {
        return Err("a response to a method that isn't known");
    }
    // RFC 3261 §8.1.3.3: it is somebody else's.
    let vias = head.fields.iter().filter(|field| field.is("Via"));
    if vias.map(|field| grammar::split(&field.value, ',').map_or(2, |values| values.len())).sum::<usize>() > 1
    {
        return Err("a response with more than one Via");
    }
    length(head)
}
