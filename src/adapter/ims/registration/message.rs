//! The messages of a registration: how ours are written, what is read of theirs.

use std::time::Duration;

use rsipstack::sip::headers::make_header;
use rsipstack::sip::{Headers, Method, Request, Response, StatusCode, Uri, Version};

use super::Profile;
use crate::adapter::sip::value::{Address, Param, find, parts, value, values, wire_uri};

/// TS 24.229 §7.2A.8: the multimedia telephony service, as feature tags carry it.
pub const MMTEL: &str = "+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.mmtel\"";
/// The most URIs of one kind that a response may bring.
const MAX_URIS: usize = 32;
/// The longest a binding may last: more than a registrar gives, and no more than timers can count.
const MOST: Duration = Duration::from_secs(30 * 24 * 3600);

/// A request without Via. `None` where the target is no URI.
pub(super) fn request(method: Method, target: &str, fields: &[(&str, String)]) -> Option<Request> {
    let uri = wire_uri(target)?;
    let mut headers = Headers::default();
    headers.push(make_header("Max-Forwards", "70".to_owned()));
    for (name, value) in fields {
        headers.push(make_header(name, value.clone()));
    }
    headers.push(make_header("Content-Length", "0".to_owned()));
    Some(Request { method, uri, version: Version::V2, headers, body: Vec::new() })
}

/// RFC 3261 §8.2.6
pub(super) fn response(to: &Request, code: u16, more: &[(&str, &str)]) -> Response {
    let mut headers = Headers::default();
    for header in to.headers.iter() {
        if ["Via", "From", "To", "Call-ID", "CSeq"].contains(&header.name()) {
            headers.push(header.clone());
        }
    }
    for (name, value) in more {
        headers.push(make_header(name, (*value).to_owned()));
    }
    headers.push(make_header("Content-Length", "0".to_owned()));
    let status_code = StatusCode::from(code);
    Response { status_code, wire_reason: None, version: Version::V2, headers, body: Vec::new() }
}

/// Our Contact.
pub(super) fn contact(profile: &Profile) -> String {
    let mut out = format!("<{}>", profile.contact);
    if let Some(instance) = &profile.instance {
        out.push_str(&format!(";+sip.instance=\"<{instance}>\""));
    }
    // RFC 5626 §4.2: reg-id has a meaning only beside an instance.
    if let (Some(id), Some(_)) = (profile.reg_id, &profile.instance) {
        out.push_str(&format!(";reg-id={id}"));
    }
    if profile.ims {
        out.push_str(&format!(";{MMTEL};audio"));
    }
    out
}

/// What a 200 to REGISTER says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) expires: Duration,
    pub(super) service_route: Vec<String>,
    pub(super) associated: Vec<String>,
    pub(super) gruu: Option<String>,
}

pub(super) fn granted(response: &Response, profile: &Profile, asked: Duration) -> Granted {
    let contacts: Vec<_> = values(response, "Contact").into_iter().flat_map(Address::all).collect();
    let ours = contacts.iter().find(|contact| {
        is_ours(profile, contact.uri, contact.param("+sip.instance"), contact.param("reg-id"))
    });
    // RFC 3261 §10.2.4: what stands at our contact counts; Expires is for contacts without.
    let seconds = ours
        .and_then(|contact| contact.param("expires"))
        .or_else(|| value(response, "Expires"))
        .and_then(|text| text.trim().parse().ok());
    let uris = |name| {
        let all = values(response, name).into_iter().flat_map(Address::all);
        all.map(|address| address.uri.to_owned()).take(MAX_URIS).collect()
    };
    let routes = values(response, "Service-Route").into_iter().flat_map(|text| parts(text, ','));
    Granted {
        expires: seconds.map_or(asked, Duration::from_secs).min(MOST),
        service_route: routes.take(MAX_URIS).map(str::to_owned).collect(),
        associated: uris("P-Associated-URI"),
        gruu: ours.and_then(|contact| contact.param("pub-gruu")).map(str::to_owned),
    }
}

/// Whether a contact is the one that we registered: by instance where both have one, else by address.
pub(super) fn is_ours(profile: &Profile, uri: &str, instance: Option<&str>, reg_id: Option<&str>) -> bool {
    match (&profile.instance, instance.map(|it| it.trim_matches(['<', '>']))) {
        (Some(ours), Some(theirs)) if !theirs.is_empty() => {
            let flow = match (profile.reg_id, reg_id.and_then(|id| id.parse::<u32>().ok())) {
                (Some(ours), Some(theirs)) => ours == theirs,
                _ => true,
            };
            ours.eq_ignore_ascii_case(theirs) && flow
        }
        _ => same(&profile.contact, uri),
    }
}

/// Whether two URIs lead to the same user at the same place; parameters don't count, as proxies add some.
pub(super) fn same(one: &str, other: &str) -> bool {
    let key = |text: &str| {
        let uri = Uri::try_from(text).ok()?;
        let user = uri.auth.as_ref().map(|auth| auth.user.replace("%2B", "+").replace("%2b", "+"));
        let scheme = uri.scheme.as_ref()?.to_string().to_ascii_lowercase();
        let port = uri.host_with_port.port.map_or(if scheme == "sips" { 5061 } else { 5060 }, |port| port.0);
        Some((scheme, user, uri.host_with_port.host.to_string().to_ascii_lowercase(), port))
    };
    matches!((key(one), key(other)), (Some(one), Some(other)) if one == other)
}

/// Seconds in a header such as Retry-After (RFC 3261 §20.33: a comment and parameters may follow) or Min-Expires.
pub(super) fn seconds(response: &Response, name: &str) -> Option<Duration> {
    let text = value(response, name)?.split(['(', ';']).next()?.trim();
    Some(Duration::from_secs(text.parse::<u32>().ok()?.into()))
}

/// RFC 7615 §3: the nonce to answer next.
pub(super) fn next_nonce(response: &Response) -> Option<String> {
    let text = value(response, "Authentication-Info")?;
    let all: Vec<Param<'_>> = parts(text, ',').map(crate::adapter::sip::value::param).collect();
    find(&all, "nextnonce").filter(|nonce| !nonce.is_empty()).map(str::to_owned)
}

/// What a refusal means, in words for who runs the server.
pub(super) fn why(code: u16) -> &'static str {
    match code {
        400 => "the registrar can't read our request",
        401 | 407 => "the password or the SIM's keys are wrong",
        403 => {
            "the operator does not let this account register: wrong password, a barred account, or another access"
        }
        404 | 604 => "the registrar doesn't know this account",
        408 => "no answer came: a wrong address, a firewall, or the proxy is down",
        420 | 421 | 494 => {
            "the operator demands an extension that isn't known here, such as IPsec (sec-agree)"
        }
        423 => "the registrar demands an ever longer time",
        439 => "the first hop knows no outbound (RFC 5626)",
        480 => "the registrar can't be reached for now",
        500 | 502 | 504 => "the operator's network has a fault",
        503 => "the operator's network is overloaded or can't be reached",
        300..=399 => "the registrar sends us elsewhere, and that isn't followed",
        _ => "the registrar refuses",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_the_same_by_user_host_and_port() {
        for (one, other) in [
            ("sip:ript@127.0.0.109:5070", "sip:ript@127.0.0.109:5070;alias=127.0.0.109~5070~1"),
            ("sip:a@Example.com", "sip:a@example.com:5060;transport=tcp"),
            ("sip:%2B1555@x", "sip:+1555@x"),
            ("tel:+1555", "tel:+1555"),
        ] {
            assert!(same(one, other), "{one}");
        }
        for (one, other) in [
            ("sip:a@x", "sip:b@x"),
            ("sip:A@x", "sip:a@x"),
            ("sip:a@x:5070", "sip:a@x"),
            ("sips:a@x", "sip:a@x"),
            ("", ""),
            ("sip:", "sip:"),
        ] {
            assert!(!same(one, other), "{one} {other}");
        }
    }
}
