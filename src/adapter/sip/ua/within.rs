//! Requests in the dialog (RFC 3261 §12.2.2): which are taken, and what the others get.

use std::time::Instant;

use rsipstack::sip::{Method, Request};

use super::header::{self, Body};
use super::{Event, Phase, ServerId, Ua, build, dispatch, uas};

/// The longest body of INFO that is looked at.
const INFO: usize = 256;

impl Ua {
    pub(super) fn on_request(&mut self, now: Instant, id: ServerId, request: Request) {
        match request.method {
            Method::Ack => return self.on_ack(now, &request),
            Method::Cancel => return self.on_cancel(now, &request),
            _ => {}
        }
        let tag = header::tag(&request.headers, "From").unwrap_or_default();
        let Some(seq) = header::cseq(&request.headers).filter(|(_, m)| *m == request.method.to_string())
        else {
            return self.refuse(id, &request, 400);
        };
        let seq = seq.0;
        let gone = self.phase == Phase::Gone;
        let Some(dialog) = self.find_mut(&tag).filter(|_| !gone) else {
            return self.refuse(id, &request, 481);
        };
        // RFC 3261 §12.2.2: out of order.
        if dialog.remote_seq.is_some_and(|last| seq <= last) {
            return self.refuse(id, &request, 500);
        }
        dialog.remote_seq = Some(seq);
        self.probes = false;
        if let Some(unknown) = uas::unsupported(&request.headers) {
            let response = uas::bad_extension(self.answer_to(&request, 420), &unknown);
            return self.respond(id, response);
        }
        if self.phase == Phase::Over && request.method != Method::Bye {
            return self.refuse(id, &request, 481);
        }
        match request.method {
            Method::Bye => self.on_bye(now, id, &tag, &request),
            Method::PRack => self.on_prack(now, id, &tag, request),
            Method::Update => self.on_update(now, id, &tag, request),
            Method::Invite => self.on_reinvite(now, id, &tag, request),
            Method::Info => self.on_info(id, &request),
            Method::Options => self.on_options(id, &request),
            Method::Refer => self.on_refer(id, &tag, &request),
            Method::Notify => self.on_notify(now, id, &request),
            Method::Subscribe => {
                // RFC 6665 §4.2.1.1
                let mut response = self.answer_to(&request, 489);
                response.headers.push(build::line("Allow-Events", "refer"));
                self.respond(id, response);
            }
            method => {
                debug_assert!(!dispatch::allowed(method), "{method} is taken above");
                // RFC 3261 §8.2.1
                let mut response = self.answer_to(&request, 405);
                response.headers.push(build::line("Allow", build::ALLOW));
                self.respond(id, response);
            }
        }
    }

    /// A refusal without more.
    pub(super) fn refuse(&mut self, id: ServerId, request: &Request, code: u16) {
        let response = self.answer_to(request, code);
        self.respond(id, response);
    }

    /// RFC 3261 §14.2: 500, and when to come again.
    pub(super) fn refuse_for_now(&mut self, id: ServerId, request: &Request) {
        let mut response = self.answer_to(request, 500);
        let seconds = self.random.next() % 11;
        response.headers.push(build::line("Retry-After", seconds.to_string()));
        self.respond(id, response);
    }

    /// RFC 3261 §8.2.3
    pub(super) fn refuse_foreign(&mut self, id: ServerId, request: &Request) {
        let response = uas::foreign(self.answer_to(request, 415));
        self.respond(id, response);
    }

    /// RFC 3261 §11.2
    fn on_options(&mut self, id: ServerId, request: &Request) {
        let mut response = self.full(request, 200, None);
        response.headers.push(build::line("Accept", build::ACCEPT));
        response.headers.push(build::line("Accept-Encoding", "identity"));
        self.respond(id, response);
    }

    fn on_info(&mut self, id: ServerId, request: &Request) {
        if header::first(&request.headers, "Info-Package").is_some() {
            // RFC 6086 §4.2.2: none was announced.
            let mut response = self.answer_to(request, 469);
            response.headers.push(build::line("Recv-Info", ""));
            return self.respond(id, response);
        }
        let kind = header::first(&request.headers, "Content-Type").unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let text = String::from_utf8_lossy(&request.body[..request.body.len().min(INFO)]);
        let digit = match kind.as_str() {
            "application/dtmf-relay" => relay(&text),
            "application/dtmf" => text.trim().chars().next().filter(|c| is_digit(*c)).map(|c| (c, 160)),
            _ => match header::body(&request.headers, &request.body) {
                Body::None => return self.refuse(id, request, 200),
                Body::Sdp(_) | Body::Foreign => return self.refuse_foreign(id, request),
            },
        };
        match digit {
            Some((digit, duration)) => {
                self.refuse(id, request, 200);
                self.tell(Event::Digit(digit, duration));
            }
            None => self.refuse(id, request, 400),
        }
    }
}

/// `Signal=5`, `Duration=160`: a line each.
fn relay(body: &str) -> Option<(char, u32)> {
    let value = |name: &str| {
        body.lines().filter_map(|l| l.split_once('=')).find(|(n, _)| n.trim().eq_ignore_ascii_case(name))
    };
    let (_, signal) = value("Signal")?;
    let digit = match signal.trim() {
        "10" => '*',
        "11" => '#',
        text => text.chars().next().filter(|c| is_digit(*c) && text.chars().count() == 1)?,
    };
    let duration = value("Duration").and_then(|(_, d)| d.trim().parse().ok()).unwrap_or(160);
    Some((digit.to_ascii_uppercase(), duration))
}

fn is_digit(c: char) -> bool {
    matches!(c, '0'..='9' | '*' | '#' | 'A'..='D' | 'a'..='d')
}
