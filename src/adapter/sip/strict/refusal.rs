//! A refusal made of a request's raw text, as far as it can be read (RFC 3261 §8.2.6, §18.2; RFC 3581 §4).

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};

use rsipstack::sip::StatusCode;

use super::Fault;
use super::grammar::{self, host_port};
use super::head::Head;
use crate::adapter::sip::stack::PRODUCT;

/// A response, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::adapter::sip) struct Refusal {
    pub(in crate::adapter::sip) code: u16,
    pub(in crate::adapter::sip) why: &'static str,
    pub(in crate::adapter::sip) message: Vec<u8>,
    pub(in crate::adapter::sip) to: SocketAddr,
}

/// None: nothing tells where an answer would go.
pub(super) fn refusal(head: &Head<'_>, fault: &Fault, from: SocketAddr, datagram: &[u8]) -> Option<Refusal> {
    let mut vias = head.fields.iter().filter(|field| field.is("Via"));
    let (top, to) = received(&vias.next()?.value, from)?;
    let phrase = StatusCode::from(fault.code);
    let mut out = format!("SIP/2.0 {} {}: {}\r\nVia: {top}\r\n", fault.code, phrase.text(), fault.why);
    let mut line = |name: &str, value: &str| {
        for part in [name, ": ", value, "\r\n"] {
            out.push_str(part);
        }
    };
    vias.for_each(|field| line("Via", &field.value));
    for name in ["From", "To", "Call-ID", "CSeq"] {
        let Some(value) = head.first(name) else { continue };
        if name == "To" && !is_tagged(value) {
            line(name, &format!("{value};tag={}", tag(datagram)));
        } else {
            line(name, value);
        }
    }
    fault.headers.iter().for_each(|(name, value)| line(name, value));
    line("Server", PRODUCT);
    line("Content-Length", "0");
    out.push_str("\r\n");
    Some(Refusal { code: fault.code, why: fault.why, message: out.into_bytes(), to })
}

/// RFC 3261 §8.2.7: who keeps no state says the same tag for the same request.
fn tag(datagram: &[u8]) -> String {
    let mut hash = DefaultHasher::new();
    datagram.hash(&mut hash);
    format!("{:016x}", hash.finish())
}

fn is_tagged(value: &str) -> bool {
    let params = grammar::split(value, ';').unwrap_or_default();
    params
        .iter()
        .skip(1)
        .any(|param| param.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case("tag")))
}

/// The top Via with what the far side has to learn, and where the answer goes.
fn received(value: &str, from: SocketAddr) -> Option<(String, SocketAddr)> {
    let end = value.find(',').unwrap_or(value.len());
    let (top, others) = value.split_at(end);
    let mut parts = top.split(';');
    let head = parts.next()?.trim_end();
    let sent_by = head.splitn(3, '/').nth(2)?.trim().split_once(char::is_whitespace)?.1;
    let sent_by = sent_by.split_whitespace().collect::<String>();
    let (host, port) = host_port(&sent_by);
    let (mut out, mut asked) = (head.to_owned(), false);
    for part in parts {
        let is = |wanted| part.split('=').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(wanted));
        let own = is("rport");
        if own && !asked {
            out.push_str(&format!(";rport={}", from.port()));
        } else if !own && !is("received") {
            out.push(';');
            out.push_str(part);
        }
        asked |= own;
    }
    let differs = host.trim_matches(['[', ']']).parse::<IpAddr>() != Ok(from.ip());
    // RFC 3261 §18.2.1; RFC 3581 §4: with rport, always.
    if differs || asked {
        out.push_str(&format!(";received={}", from.ip()));
    }
    out.push_str(others);
    let port = port.map_or(Some(5_060), |port| port.parse().ok().filter(|port| *port != 0));
    let port = if asked { from.port() } else { port.unwrap_or(from.port()) };
    Some((out, SocketAddr::new(from.ip(), port)))
}
