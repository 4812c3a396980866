//! A call's user agent in virtual time: against a script of raw messages, and two against each other.

mod auth;
mod callee;
mod caller;
mod ends;
mod hostile;
mod kept;
mod modify;
mod pair;
mod refer;
mod reliable;
mod session;
mod within;

use std::time::{Duration, Instant};

use rsipstack::sip::{Request, Response};

use super::header::first;
use super::*;

pub(super) const OFFER: &str = "v=0\r\no=a 1 1 IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP 0\r\n";
pub(super) const ANSWER: &str = "v=0\r\no=b 1 1 IN IP4 192.0.2.2\r\nm=audio 5000 RTP/AVP 0\r\n";
pub(super) const OTHER: &str = "v=0\r\no=c 1 2 IN IP4 192.0.2.3\r\nm=audio 6000 RTP/AVP 0\r\n";

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn profile() -> Profile {
    Profile {
        target: "sip:+15550002@ims.test;user=phone".into(),
        from: "<sip:+15550001@ims.test>".into(),
        to: "<sip:+15550002@ims.test>".into(),
        contact: "<sip:gw@192.0.2.1:5060>".into(),
        route: vec!["<sip:pcscf.test;lr>".into()],
        headers: vec![("P-Preferred-Identity".into(), "<sip:+15550001@ims.test>".into())],
        reliable: Reliable::Supported,
        session_expires: None,
        min_se: Duration::from_secs(90),
        credentials: None,
        product: "ript".into(),
        seed: 42,
    }
}

/// A user agent, and what it did; the test plays the far side.
pub(super) struct Desk {
    pub(super) now: Instant,
    pub(super) ua: Ua,
    pub(super) events: Vec<Event>,
    pub(super) requests: Vec<(ClientId, Request)>,
    pub(super) responses: Vec<(ServerId, Response)>,
    pub(super) acks: Vec<Request>,
    pub(super) cancels: Vec<(ClientId, Option<String>)>,
    /// The far side's tag in requests.
    pub(super) tag: &'static str,
    server: ServerId,
}

impl Desk {
    fn new(now: Instant, ua: Ua, tag: &'static str) -> Self {
        let mut desk = Self {
            now,
            ua,
            events: vec![],
            requests: vec![],
            responses: vec![],
            acks: vec![],
            cancels: vec![],
            tag,
            server: 100,
        };
        desk.drain();
        desk
    }

    /// A call of ours.
    pub(super) fn caller(profile: Profile, offer: Option<&str>) -> Self {
        let now = crate::clock::instant();
        Self::new(now, Ua::place(now, profile, offer.map(str::to_owned)), "far")
    }

    /// A call that comes in, with these header lines and this offer; its transaction is 1.
    pub(super) fn callee(profile: Profile, lines: &str, offer: &str) -> Self {
        let now = crate::clock::instant();
        let ua = Ua::arrive(now, profile, 1, invite(lines, offer)).unwrap_or_else(|r| panic!("{r}"));
        Self::new(now, ua, "far")
    }

    /// Ours, answered with [`ANSWER`] by the branch `far`.
    pub(super) fn answered(profile: Profile) -> Self {
        let mut desk = Self::caller(profile, Some(OFFER));
        desk.reply(0, 200, "far", CONTACT, ANSWER);
        assert_eq!(desk.told(), [Event::Described(ANSWER.into()), Event::Answered]);
        desk.acks.clear();
        desk.requests.clear();
        desk
    }

    /// One that came in, answered and acknowledged.
    pub(super) fn accepted(profile: Profile) -> Self {
        let mut desk = Self::callee(profile, "", OFFER);
        desk.act(Command::Accept { sdp: ANSWER.into() }).unwrap();
        desk.request("ACK", 1, "", "");
        assert_eq!(desk.told(), [Event::Offered(OFFER.into()), Event::Answered]);
        desk.responses.clear();
        desk
    }

    pub(super) fn feed(&mut self, input: Input) -> Result<(), Refused> {
        let done = self.ua.handle(self.now, input);
        self.drain();
        done
    }

    fn drain(&mut self) {
        while let Some(output) = self.ua.poll() {
            match output {
                Output::Request(id, request) => self.requests.push((id, request)),
                Output::Cancel(id, reason) => self.cancels.push((id, reason)),
                Output::Ack(request) => self.acks.push(request),
                Output::Respond(id, response) => self.responses.push((id, response)),
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    pub(super) fn act(&mut self, command: Command) -> Result<(), Refused> {
        self.feed(Input::Do(command))
    }

    /// The far side answers the request that was sent as `id`; a tag of "" is none.
    pub(super) fn reply(&mut self, id: ClientId, code: u16, tag: &str, lines: &str, body: &str) {
        let request = self.requests.iter().find(|(i, _)| *i == id).map(|(_, r)| r.clone());
        let request = request.unwrap_or_else(|| panic!("no request {id}"));
        let response = reply_to(&request, code, tag, lines, body);
        self.feed(Input::Response(id, response)).unwrap();
    }

    /// Answers the newest request.
    pub(super) fn reply_last(&mut self, code: u16, lines: &str, body: &str) {
        let id = self.requests.last().map(|(i, _)| *i).unwrap();
        self.reply(id, code, self.tag, lines, body);
    }

    /// The far side's request in the dialog; its transaction's id.
    pub(super) fn request(&mut self, method: &str, seq: u32, lines: &str, body: &str) -> ServerId {
        self.server += 1;
        let text = format!(
            "{method} sip:gw@192.0.2.1:5060 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK{}\r\n\
             From: <sip:far@x>;tag={}\r\nTo: <sip:near@y>;tag={}\r\nCall-ID: {}\r\nCSeq: {seq} {method}\r\n{lines}{}",
            self.server,
            self.tag,
            self.ua.local_tag(),
            self.ua.call_id(),
            tail(body, lines),
        );
        let request = Request::try_from(text.as_str()).unwrap_or_else(|e| panic!("{e}: {text}"));
        self.feed(Input::Request(self.server, request)).unwrap();
        self.server
    }

    /// Time passes, and timers fire when they are due.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.ua.next_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.feed(Input::Tick).unwrap();
        }
        self.now = end;
        self.feed(Input::Tick).unwrap();
    }

    /// The events since the last look.
    pub(super) fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// The code of the newest response to this transaction.
    pub(super) fn code(&self, id: ServerId) -> Option<u16> {
        self.responses.iter().rev().find(|(i, _)| *i == id).map(|(_, r)| r.status_code.code())
    }

    pub(super) fn response(&self, id: ServerId) -> &Response {
        let found = self.responses.iter().rev().find(|(i, _)| *i == id);
        &found.unwrap_or_else(|| panic!("no response of {id}")).1
    }

    /// The newest request.
    pub(super) fn last(&self) -> &Request {
        &self.requests.last().expect("no request").1
    }

    /// How it ended.
    pub(super) fn ending(&mut self) -> Ending {
        match self.told().pop() {
            Some(Event::Ended(ending)) => ending,
            other => panic!("not ended: {other:?}"),
        }
    }
}

pub(super) const CONTACT: &str = "Contact: <sip:far@192.0.2.9:5070>\r\nAllow: INVITE, UPDATE, PRACK\r\n";

fn tail(body: &str, lines: &str) -> String {
    let kind = if body.is_empty() || lines.contains("Content-Type") {
        ""
    } else {
        "Content-Type: application/sdp\r\n"
    };
    format!("{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// A response to a request, as it comes off the wire.
pub(super) fn reply_to(request: &Request, code: u16, tag: &str, lines: &str, body: &str) -> Response {
    let header = |name| first(&request.headers, name).unwrap_or_default();
    let to = header("To");
    let tag = if tag.is_empty() || to.contains(";tag=") { String::new() } else { format!(";tag={tag}") };
    let text = format!(
        "SIP/2.0 {code} X\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: {}\r\nTo: {to}{tag}\r\n\
         Call-ID: {}\r\nCSeq: {}\r\n{lines}{}",
        header("From"),
        header("Call-ID"),
        header("CSeq"),
        tail(body, lines),
    );
    Response::try_from(text.as_str()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// An INVITE as it comes off the wire.
pub(super) fn invite(lines: &str, offer: &str) -> Request {
    let text = format!(
        "INVITE sip:gw@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bKi\r\n\
         Record-Route: <sip:p2.test;lr>\r\nRecord-Route: <sip:p1.test;lr>\r\n\
         From: \"Far\" <sip:far@x>;tag=far\r\nTo: <sip:near@y>\r\nCall-ID: c1\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:far@192.0.2.9:5070>\r\nAllow: INVITE, UPDATE, PRACK\r\n{lines}{}",
        tail(offer, lines),
    );
    Request::try_from(text.as_str()).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// A header of a message.
pub(super) fn of<'a>(headers: &'a rsipstack::sip::Headers, name: &str) -> &'a str {
    first(headers, name).unwrap_or_else(|| panic!("no {name}"))
}

pub(super) fn sdp(body: &[u8]) -> String {
    String::from_utf8(body.to_vec()).unwrap()
}
