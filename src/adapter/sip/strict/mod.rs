//! What the parser forgives and the standard doesn't is refused before it begins anything; what the parser drops without a
//! word, and the standard wants answered, is answered here.
//!
//! | for | look in |
//! |---|---|
//! | a datagram's lines | `head` |
//! | the syntax of values | `grammar` |
//! | what messages must have | `rules` |
//! | a refusal made of raw text | `refusal` |
//! | unusual but valid text as the parser reads it | `plain` |

mod grammar;
mod head;
mod plain;
mod refusal;
mod rules;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::net::SocketAddr;

use rsipstack::sip::{Method, Request, SipMessage};
use rsipstack::transaction::key::{TransactionKey, TransactionRole};

use self::head::{Field, Head};
pub(super) use self::refusal::Refusal;
use super::ua;

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The status that says so.
    pub(super) code: u16,
    /// Headers that the status needs.
    pub(super) headers: Vec<(&'static str, String)>,
    /// For the log, and for who sent it.
    pub(super) why: &'static str,
}

impl Fault {
    fn bad(why: &'static str) -> Self {
        Self { code: 400, headers: vec![], why }
    }
}

/// What is to become of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on as it is.
    Pass,
    /// The same message, in the form that the parser reads, goes on.
    Plain(Vec<u8>),
    /// It is dropped.
    Drop(&'static str),
    /// It is answered, and goes no further.
    Refuse(Refusal),
}

/// RFC 3261's rules on messages as they come.
pub(super) fn check_raw(datagram: &[u8], from: SocketAddr) -> Verdict {
    // RFC 5626 §3.5.1: keep-alives.
    if datagram.iter().all(u8::is_ascii_whitespace) {
        return Verdict::Pass;
    }
    let (text, body) = head::divide(datagram);
    let head = Head::read(&text, matches!(text, Cow::Borrowed(_)), body);
    if head.start.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/")) {
        return match rules::response(&head) {
            Ok(()) => plain::plain(&head).map_or(Verdict::Pass, Verdict::Plain),
            Err(why) => Verdict::Drop(why),
        };
    }
    let fault = match rules::request(&head) {
        Ok(()) => {
            let plain = plain::plain(&head);
            match legible(plain.as_deref().unwrap_or(datagram)) {
                Ok(()) => return plain.map_or(Verdict::Pass, Verdict::Plain),
                Err(why) => Fault::bad(why),
            }
        }
        Err(fault) => fault,
    };
    // RFC 3261 §17.1.1.3: nothing answers ACK.
    if head.start.starts_with("ACK ") {
        return Verdict::Drop(fault.why);
    }
    refusal::refusal(&head, &fault, from, datagram)
        .map_or(Verdict::Drop("nowhere to answer to"), Verdict::Refuse)
}

/// Whether parser and transactions take it: else they would drop it without an answer.
fn legible(message: &[u8]) -> Result<(), &'static str> {
    let request = match SipMessage::try_from(message) {
        Ok(SipMessage::Request(request)) => request,
        _ => return Err("the request line or a header can't be read"),
    };
    let key = TransactionKey::from_request(&request, TransactionRole::Server);
    key.map(drop).map_err(|_| "Via, From, Call-ID or CSeq can't be read")
}

/// The same for what came by a stream, where only what was parsed is there; and what needs a parsed request.
pub(super) fn check(request: &Request) -> Result<(), Fault> {
    let method = request.method.to_string();
    let fields = request.headers.iter().map(|header| Field::new(header.name(), header.value()));
    rules::fields(&fields.collect::<Vec<_>>(), &method)?;
    if let Some(scheme) = &request.uri.scheme {
        rules::scheme(&scheme.to_string())?;
    }
    // RFC 3261 §8.2.2.3; what is in a dialog and INVITE: the user agent says so.
    let begins = super::reply::to_tag(request).is_none();
    if begins
        && !matches!(request.method, Method::Invite | Method::Ack | Method::Cancel)
        && let Some(unknown) = ua::unsupported(&request.headers)
    {
        let headers = vec![("Unsupported", unknown)];
        return Err(Fault { code: 420, headers, why: "Require names what isn't known" });
    }
    Ok(())
}
