//! What the parser forgives and the standard doesn't is refused before it begins anything; what the parser drops without a
//! word, and the standard wants answered, is answered here.
//!
//! | for | look in |
//! |---|---|
//! | a message's lines | `head` |
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

use self::head::Head;
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

/// What is to become of a message.
#[derive(Debug)]
pub(super) enum Read {
    /// It goes on; with the form in which the parser reads it, where it came in another.
    Message(Box<SipMessage>, Option<Vec<u8>>),
    /// RFC 5626 §3.5.1: a keep-alive.
    Blank,
    /// It is dropped.
    Drop(&'static str),
    /// It is answered, and goes no further.
    Refuse(Refusal),
}

/// RFC 3261's rules on messages as they come.
pub(super) fn read(message: &[u8], from: SocketAddr) -> Read {
    if message.iter().all(u8::is_ascii_whitespace) {
        return Read::Blank;
    }
    let (text, body) = head::divide(message);
    let head = Head::read(&text, matches!(text, Cow::Borrowed(_)), body);
    let is_response = head.start.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("SIP/"));
    let fault =
        match if is_response { rules::response(&head).map_err(Fault::bad) } else { rules::request(&head) } {
            Ok(()) => {
                let plain = plain::plain(&head);
                match legible(plain.as_deref().unwrap_or(message)) {
                    Ok(message) => return Read::Message(Box::new(message), plain),
                    Err(why) => Fault::bad(why),
                }
            }
            Err(fault) => fault,
        };
    refused(&head, &fault, from, message).map_or(Read::Drop(fault.why), Read::Refuse)
}

/// A refusal of what isn't whole, as far as it can be read; none: nothing is to be answered.
pub(super) fn refuse(message: &[u8], why: &'static str, from: SocketAddr) -> Option<Refusal> {
    let (text, body) = head::divide(message);
    let head = Head::read(&text, matches!(text, Cow::Borrowed(_)), body);
    refused(&head, &Fault::bad(why), from, message)
}

fn refused(head: &Head<'_>, fault: &Fault, from: SocketAddr, message: &[u8]) -> Option<Refusal> {
    // RFC 3261 §17.1.1.3: nothing answers ACK.
    let unanswered = ["SIP/", "ACK "]
        .iter()
        .any(|start| head.start.get(..4).is_some_and(|begins| begins.eq_ignore_ascii_case(start)));
    if unanswered { None } else { refusal::refusal(head, fault, from, message) }
}

/// Whether parser and transactions take it: else they would drop it without an answer.
fn legible(message: &[u8]) -> Result<SipMessage, &'static str> {
    let message = SipMessage::try_from(message).map_err(|_| "the first line or a header can't be read")?;
    if let SipMessage::Request(request) = &message {
        let key = TransactionKey::from_request(request, TransactionRole::Server);
        key.map_err(|_| "Via, From, Call-ID or CSeq can't be read")?;
    }
    Ok(message)
}

/// RFC 3261 §8.2.2.3; what is in a dialog and INVITE: the user agent says so.
pub(super) fn check(request: &Request) -> Result<(), Fault> {
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
