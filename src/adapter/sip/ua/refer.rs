//! Transfer: REFER and its implicit subscription (RFC 3515), both ways.

use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Param, Request, Response, StatusCode, Uri};

use super::dispatch::Kind;
use super::timer::Timer;
use super::{Event, Phase, Refused, ServerId, Ua, build, header};

/// How long a subscription lasts at most.
const LASTS: Duration = Duration::from_secs(180);

/// Transfers under way.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// Ours is.
    ours: bool,
    /// The far side's: the CSeq of its REFER, and whether it wants to be told (RFC 4488).
    theirs: Option<Asked>,
    /// REFERs of the far side so far.
    count: u32,
}

impl Transfers {
    /// There may have been some (RFC 3515 §2.4.6: naming which is never wrong).
    pub(super) fn resume(&mut self) {
        self.count = 1;
    }
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    seq: u32,
    tell: bool,
    first: bool,
}

impl Ua {
    pub(super) fn refer(&mut self, now: Instant, to: &str, by: Option<&str>) -> Result<(), Refused> {
        if self.phase != Phase::Up {
            return Err(Refused::State("the call isn't answered"));
        }
        if self.transfers.ours {
            return Err(Refused::State("a transfer is under way"));
        }
        let Some(dialog) = self.dialogs.first_mut() else { return Err(Refused::State("no dialog")) };
        let (seq, tag) = (dialog.next_seq(), dialog.tag.clone());
        let Some(dialog) = self.find(&tag) else { return Err(Refused::State("no dialog")) };
        let mut request = self.within(dialog, Method::Refer, seq);
        request.headers.push(build::line("Refer-To", bracketed(to)));
        if let Some(by) = by {
            request.headers.push(build::line("Referred-By", bracketed(by)));
        }
        self.transfers.ours = true;
        self.timers.set(Timer::Refer, now + LASTS);
        self.send(Kind::Refer, &tag, request);
        Ok(())
    }

    pub(super) fn refer_answered(&mut self, response: &Response) {
        let code = response.status_code.code();
        let silent = header::has(&response.headers, "Refer-Sub", "false");
        if !self.transfers.ours || (code < 300 && !silent) {
            return;
        }
        // RFC 4488 §4: nothing more will be heard of it.
        self.refer_told(code, true);
    }

    fn refer_told(&mut self, code: u16, last: bool) {
        if last {
            self.transfers.ours = false;
            self.timers.stop(Timer::Refer);
        }
        if self.phase == Phase::Up {
            self.tell(Event::Referred(code));
        }
    }

    /// Its subscription ran out.
    pub(super) fn refer_silent(&mut self) {
        if self.transfers.ours {
            self.refer_told(408, true);
        }
    }

    /// NOTIFY of our REFER.
    pub(super) fn on_notify(&mut self, now: Instant, id: ServerId, request: &Request) {
        let event = header::first(&request.headers, "Event").unwrap_or_default();
        if !event.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("refer") {
            let mut response = self.answer_to(request, 489);
            response.headers.push(build::line("Allow-Events", "refer"));
            return self.respond(id, response);
        }
        if !self.transfers.ours {
            // RFC 6665 §4.1.3
            return self.refuse(id, request, 481);
        }
        self.refuse(id, request, 200);
        let state = header::first(&request.headers, "Subscription-State").unwrap_or_default();
        let over = state.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("terminated");
        match fragment(&request.body) {
            Some(code) if over && code < 200 => self.refer_told(408, true),
            Some(code) => self.refer_told(code, over || code >= 200),
            None if over => self.refer_told(408, true),
            None => {}
        }
        if self.transfers.ours {
            self.timers.set(Timer::Refer, now + LASTS);
        }
    }

    /// REFER of the far side.
    pub(super) fn on_refer(&mut self, id: ServerId, tag: &str, request: &Request) {
        if self.phase != Phase::Up {
            return self.refuse(id, request, 403);
        }
        let targets = header::list(&request.headers, "Refer-To");
        // RFC 3515 §2.4.2: exactly one.
        let [target] = targets.as_slice() else { return self.refuse(id, request, 400) };
        let Some(uri) = header::uri_of(target).and_then(header::uri) else {
            return self.refuse(id, request, 400);
        };
        let method = uri.params.iter().find_map(|p| match p {
            Param::Method(method) => Some(*method),
            _ => None,
        });
        if method.is_some_and(|m| m != Method::Invite) {
            return self.refuse(id, request, 501);
        }
        if self.transfers.theirs.is_some() {
            return self.refuse(id, request, 491);
        }
        // RFC 4488 §4
        let tell = !header::has(&request.headers, "Refer-Sub", "false");
        let seq = header::cseq(&request.headers).map_or(0, |(n, _)| n);
        self.transfers.count = self.transfers.count.saturating_add(1);
        self.transfers.theirs = Some(Asked { seq, tell, first: self.transfers.count == 1 });
        let mut response = self.full(request, 202, None);
        if !tell {
            response.headers.push(build::line("Refer-Sub", "false"));
        }
        self.respond(id, response);
        // RFC 3515 §2.4.4: at once.
        self.notify(tag, 100);
        let replaces = uri.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Replaces"));
        let replaces = replaces.map(|(_, value)| header::unescape(value));
        let params = uri.params.into_iter().filter(|p| !matches!(p, Param::Method(_)));
        let bare = Uri { params: params.collect(), headers: Vec::new(), ..uri };
        self.tell(Event::Refer {
            to: bare.to_string(),
            replaces,
            by: header::first(&request.headers, "Referred-By").map(str::to_owned),
        });
    }

    pub(super) fn refer_progress(&mut self, code: u16) -> Result<(), Refused> {
        if self.transfers.theirs.is_none() {
            return Err(Refused::State("the far side asked for no transfer"));
        }
        if !(100..700).contains(&code) {
            return Err(Refused::State("not a status code"));
        }
        let Some(tag) = self.dialogs.first().map(|d| d.tag.clone()) else { return Ok(()) };
        self.notify(&tag, code);
        Ok(())
    }

    fn notify(&mut self, tag: &str, code: u16) {
        let Some(asked) = self.transfers.theirs else { return };
        if code >= 200 {
            self.transfers.theirs = None;
        }
        if !asked.tell {
            return;
        }
        let Some(dialog) = self.find_mut(tag) else { return };
        let seq = dialog.next_seq();
        let Some(dialog) = self.find(tag) else { return };
        let mut request = self.within(dialog, Method::Notify, seq);
        // RFC 3515 §2.4.6: from the second REFER on, which one.
        let event = if asked.first { "refer".to_owned() } else { format!("refer;id={}", asked.seq) };
        request.headers.push(build::line("Event", event));
        let state = if code >= 200 {
            "terminated;reason=noresource".to_owned()
        } else {
            format!("active;expires={}", LASTS.as_secs())
        };
        request.headers.push(build::line("Subscription-State", state));
        let body = format!("SIP/2.0 {code} {}\r\n", StatusCode::from(code).text());
        request.body = build::with_body(&mut request.headers, "message/sipfrag;version=2.0", Some(&body));
        self.send(Kind::Notify, tag, request);
    }

    /// RFC 6665 §4.2.2: a subscriber that knows nothing of it is told no more.
    pub(super) fn notify_answered(&mut self, response: &Response) {
        if response.status_code.code() == 481 {
            self.transfers.theirs = None;
        }
    }
}

fn bracketed(uri: &str) -> String {
    if uri.contains('<') { uri.to_owned() } else { format!("<{uri}>") }
}

/// RFC 3420: the status line's code.
fn fragment(body: &[u8]) -> Option<u16> {
    let line = body.split(|b| *b == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let code = line.strip_prefix("SIP/2.0 ")?.split_whitespace().next()?.parse().ok()?;
    (100..700).contains(&code).then_some(code)
}
