//! An INVITE that came in (RFC 3261 §13.3): progress, answer, refusal, CANCEL, and the ACK.

use std::time::{Duration, Instant};

use rsipstack::sip::{Headers, Request, Response};

use super::dialog::Dialog;
use super::header::{self, Body};
use super::offer::{Bearer, Carrier, Negotiation};
use super::reliable::Sent;
use super::timer::{PATIENCE, Random, Timer};
use super::{By, Ending, Event, Phase, Profile, Refused, Reliable, ServerId, Ua, build, uac};

/// RFC 3261 §13.3.1.1: how often a proxy is told that it still rings; with reliable responses (RFC 3262 §3): how often.
const STILL_RINGING: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(150)];

/// The INVITE that came in first.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) id: ServerId,
    pub(super) invite: Request,
    pub(super) seq: u32,
    /// Provisional responses are to be reliable; `required`: all of them.
    reliable: bool,
    required: bool,
    pub(super) sent: Sent,
    /// The last provisional response's code.
    last: Option<u16>,
    /// The answer that an unreliable response had.
    early: Option<String>,
    /// Accepted: the 200 waits for a PRACK.
    pub(super) accepted: Option<String>,
    /// A final response went.
    done: bool,
}

/// A 2xx of ours whose ACK hasn't come.
#[derive(Debug)]
pub(super) struct Unacked {
    seq: u32,
    tag: String,
    /// It had our offer: ACK has the answer.
    offer: bool,
    /// Of the first INVITE.
    first: bool,
    /// RFC 3261 §15: our BYE waits for the ACK.
    pub(super) bye: Option<Option<String>>,
}

pub(super) fn arrive(
    now: Instant,
    profile: Profile,
    id: ServerId,
    invite: Request,
) -> Result<Ua, Box<Response>> {
    let random = Random::new(profile.seed);
    let call_id = header::first(&invite.headers, "Call-ID").unwrap_or_default().to_owned();
    let local = header::first(&invite.headers, "To").unwrap_or_default().to_owned();
    let mut ua = uac::blank(profile, call_id, &local, random);
    let (sdp, seq) = acceptable(&ua, &invite).map_err(Box::new)?;
    let Some(dialog) = Dialog::of_request(&invite, seq, Negotiation::arrived(sdp.clone())) else {
        return Err(Box::new(ua.answer_to(&invite, 400)));
    };
    // RFC 3262 §3: where it is required, and where it is supported and wanted.
    let supported = header::has(&invite.headers, "Supported", "100rel");
    let required = header::has(&invite.headers, "Require", "100rel");
    let reliable = required || (supported && ua.profile.reliable != Reliable::No);
    let tag = dialog.tag.clone();
    let expires = header::number(&invite.headers, "Expires");
    ua.dialogs.push(dialog);
    ua.arrived = Some(Arrived {
        id,
        invite,
        seq,
        reliable,
        required,
        sent: Sent::default(),
        last: None,
        early: None,
        accepted: None,
        done: false,
    });
    if let Some(seconds) = expires {
        ua.timers.set(Timer::Expires, now + Duration::from_secs(seconds.into()));
    }
    if sdp.is_some() {
        ua.offered(now, &tag);
    }
    Ok(ua)
}

/// What an INVITE must have: its offer and CSeq, or the response that says what is wrong (RFC 3261 §8.2).
fn acceptable(ua: &Ua, invite: &Request) -> Result<(Option<String>, u32), Response> {
    let headers = &invite.headers;
    let seq = header::cseq(headers).filter(|(_, method)| *method == "INVITE");
    let (Some((seq, _)), false, true, true) = (
        seq,
        ua.call_id.is_empty(),
        header::first(headers, "From").is_some(),
        header::first(headers, "To").is_some(),
    ) else {
        return Err(ua.answer_to(invite, 400));
    };
    if header::tag(headers, "To").is_some() {
        // RFC 3261 §12.2.2: in a dialog that isn't.
        return Err(ua.answer_to(invite, 481));
    }
    if let Some(unknown) = unsupported(headers) {
        return Err(bad_extension(ua.answer_to(invite, 420), &unknown));
    }
    let reliable = header::has(headers, "Supported", "100rel") || header::has(headers, "Require", "100rel");
    if ua.profile.reliable == Reliable::Required && !reliable {
        // RFC 3261 §21.4.16
        let mut response = ua.answer_to(invite, 421);
        response.headers.push(build::line("Require", "100rel"));
        return Err(response);
    }
    // RFC 3261 §20.1: an answer must be of a kind that is taken; without Accept, SDP is.
    let accepts = header::all(headers, "Accept").collect::<Vec<_>>();
    if !accepts.is_empty() && !accepts.iter().any(|kinds| takes_sdp(kinds)) {
        return Err(ua.answer_to(invite, 406));
    }
    ua.session.long_enough(headers).map_err(|min| ua.too_brief(invite, min))?;
    match header::body(headers, &invite.body) {
        Body::Foreign => Err(foreign(ua.answer_to(invite, 415))),
        Body::Sdp(sdp) => Ok((Some(sdp), seq)),
        Body::None => Ok((None, seq)),
    }
}

fn takes_sdp(kinds: &str) -> bool {
    header::split(kinds, ',').into_iter().any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default().replace(' ', "").to_ascii_lowercase();
        matches!(kind.as_str(), "application/sdp" | "application/*" | "*/*")
    })
}

/// RFC 3261 §8.2.2.3: what Require names and we don't have.
pub(in crate::adapter::sip) fn unsupported(headers: &Headers) -> Option<String> {
    let known = |tag: &String| build::UNDERSTOOD.iter().any(|k| k.eq_ignore_ascii_case(tag));
    let unknown = header::list(headers, "Require").into_iter().filter(|t| !known(t)).collect::<Vec<_>>();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

pub(super) fn bad_extension(mut response: Response, unknown: &str) -> Response {
    response.headers.push(build::line("Unsupported", unknown));
    response
}

/// RFC 3261 §8.2.3: what we read instead.
pub(super) fn foreign(mut response: Response) -> Response {
    response.headers.push(build::line("Accept", build::ACCEPT));
    response.headers.push(build::line("Accept-Encoding", "identity"));
    response
}

impl Ua {
    /// The INVITE, while it waits for a final response.
    fn unanswered(&mut self) -> Result<&mut Arrived, Refused> {
        let early = self.phase == Phase::Early;
        let arrived = self.arrived.as_mut().filter(|a| early && !a.done);
        arrived.ok_or(Refused::State("no call that came in waits for an answer"))
    }

    /// 180 or 183.
    pub(super) fn progress(
        &mut self,
        now: Instant,
        code: u16,
        answer: Option<String>,
    ) -> Result<(), Refused> {
        let arrived = self.unanswered()?;
        if arrived.accepted.is_some() {
            return Err(Refused::State("the call was accepted"));
        }
        let reliable = arrived.reliable;
        if reliable && arrived.sent.full() {
            return Err(Refused::State("earlier progress isn't acknowledged"));
        }
        arrived.last = Some(code);
        let Some(dialog) = self.dialogs.first_mut() else { return Err(Refused::State("no dialog")) };
        let tag = dialog.tag.clone();
        let mut sdp = None;
        if let Some(answer) = answer {
            if dialog.talk.theirs() == Some(Bearer::Invite) {
                if reliable {
                    dialog.talk.answer(&answer);
                    self.offer_gone(now, &tag);
                } else if let Some(arrived) = &mut self.arrived {
                    arrived.early = Some(answer.clone());
                }
                sdp = Some(answer);
            } else if reliable && dialog.talk.blank() {
                // RFC 3262 §5: our offer, answered by PRACK. An unreliable response may have none (RFC 3261 §13.2.1).
                dialog.talk.offer(&answer, Carrier::Response);
                sdp = Some(answer);
            }
        }
        self.send_progress(now, code, sdp);
        Ok(())
    }

    /// Sends a provisional response, reliably where that is used and may be.
    fn send_progress(&mut self, now: Instant, code: u16, sdp: Option<String>) {
        self.rings(now);
        // RFC 3261 §13.2.1: the first reliable response to an INVITE without an offer has one; without it, it can't be reliable.
        let bare = sdp.is_none() && self.dialogs.first().is_some_and(|d| d.talk.blank());
        let Some(arrived) = &self.arrived else { return };
        if arrived.reliable && (arrived.required || !bare) {
            return self.send_reliable(now, code, sdp);
        }
        let (id, sdp) = (arrived.id, arrived.early.clone());
        let response = self.provisional_response(code, sdp.as_deref());
        self.respond(id, response);
    }

    fn rings(&mut self, now: Instant) {
        let reliable = self.arrived.as_ref().is_some_and(|a| a.reliable);
        self.timers.set(Timer::StillRinging, now + STILL_RINGING[usize::from(reliable)]);
    }

    /// RFC 3261 §13.3.1.1
    pub(super) fn still_ringing(&mut self, now: Instant) {
        let Ok(arrived) = self.unanswered() else { return };
        let code = arrived.last.unwrap_or(180);
        if arrived.accepted.is_none() && !arrived.sent.full() {
            self.send_progress(now, code, None);
        }
    }

    /// A 1xx that makes the early dialog.
    pub(super) fn provisional_response(&self, code: u16, sdp: Option<&str>) -> Response {
        let Some(arrived) = &self.arrived else { return Response::default() };
        let mut response = self.full(&arrived.invite, code, sdp);
        for (name, value) in &self.profile.headers {
            response.headers.push(build::line(name, value.as_str()));
        }
        response
    }

    /// 200, at once or when a description is acknowledged.
    pub(super) fn accept(&mut self, now: Instant, sdp: String) -> Result<(), Refused> {
        let arrived = self.unanswered()?;
        if arrived.accepted.is_some() {
            return Err(Refused::State("the call was accepted"));
        }
        arrived.accepted = Some(sdp.clone());
        if !arrived.sent.holds_back() {
            self.accept_now(now, &sdp);
        }
        Ok(())
    }

    pub(super) fn accept_now(&mut self, now: Instant, sdp: &str) {
        let Some(arrived) = &mut self.arrived else { return };
        arrived.done = true;
        let (id, seq, invite) = (arrived.id, arrived.seq, arrived.invite.clone());
        self.forget_reliable();
        let Some(dialog) = self.dialogs.first_mut() else { return };
        let tag = dialog.tag.clone();
        let (mut body, mut offer) = (None, false);
        if dialog.talk.theirs() == Some(Bearer::Invite) {
            dialog.talk.answer(sdp);
            body = Some(sdp);
            self.offer_gone(now, &tag);
        } else if dialog.talk.blank() {
            offer = dialog.talk.offer(sdp, Carrier::Response);
            body = Some(sdp);
        }
        let mut response = self.full(&invite, 200, body);
        self.session_answer(now, &invite.headers, &mut response.headers);
        for (name, value) in &self.profile.headers {
            response.headers.push(build::line(name, value.as_str()));
        }
        self.phase = Phase::Up;
        self.timers.stop(Timer::StillRinging);
        self.timers.stop(Timer::Expires);
        self.await_ack(now, &tag, seq, offer, true);
        self.respond(id, response);
    }

    /// RFC 3261 §13.3.1.4: a 2xx went; its ACK is waited for.
    pub(super) fn await_ack(&mut self, now: Instant, tag: &str, seq: u32, offer: bool, first: bool) {
        self.unacked = Some(Unacked { seq, tag: tag.to_owned(), offer, first, bye: None });
        self.timers.set(Timer::Ack, now + PATIENCE);
    }

    /// Whether the first INVITE's 2xx isn't acknowledged.
    pub(super) fn awaits_ack(&self) -> bool {
        self.unacked.is_some()
    }

    pub(super) fn on_ack(&mut self, now: Instant, request: &Request) {
        let tag = header::tag(&request.headers, "From").unwrap_or_default();
        let seq = header::cseq(&request.headers).map(|(n, _)| n);
        let Some(unacked) = self.unacked.take_if(|u| Some(u.seq) == seq && u.tag == tag) else { return };
        let answer = match header::body(&request.headers, &request.body) {
            Body::Sdp(sdp) => Some(sdp),
            Body::None | Body::Foreign => None,
        };
        self.acked(now, unacked, answer);
    }

    /// A request that can only follow the ACK, which was lost or overtaken (RFC 5407 §3.1.4).
    pub(super) fn acked_by_request(&mut self, now: Instant) {
        if let Some(unacked) = self.unacked.take_if(|u| !u.offer) {
            self.acked(now, unacked, None);
        }
    }

    fn acked(&mut self, now: Instant, unacked: Unacked, answer: Option<String>) {
        self.timers.stop(Timer::Ack);
        if let Some(reason) = unacked.bye {
            return self.bye(now, reason);
        }
        if self.phase != Phase::Up {
            return;
        }
        if unacked.offer {
            let answer = self.find_mut(&unacked.tag).and_then(|d| d.talk.answered(Carrier::Response, answer));
            match answer {
                Some(answer) => self.describe_anew(&unacked.tag, answer),
                None => return self.fault(now, "the ACK has no answer", 488),
            }
        }
        if unacked.first {
            self.tell(Event::Answered);
        }
        self.offer_queued();
    }

    /// RFC 3261 §13.3.1.4: no ACK: the session is ended.
    pub(super) fn no_ack(&mut self, now: Instant) {
        let Some(unacked) = self.unacked.take() else { return };
        match unacked.bye {
            Some(reason) => self.bye(now, reason),
            None => self.fault(now, "no ACK came", 408),
        }
    }

    /// A refusal by our side.
    pub(super) fn reject(
        &mut self,
        now: Instant,
        code: u16,
        retry_after: Option<u32>,
        reason: Option<String>,
    ) -> Result<(), Refused> {
        self.unanswered()?;
        if !(300..700).contains(&code) {
            return Err(Refused::Code(code));
        }
        self.refuse_invite(code, |response| {
            if let Some(seconds) = retry_after {
                response.headers.push(build::line("Retry-After", seconds.to_string()));
            }
            build::reason(&mut response.headers, reason.as_deref());
        });
        self.over(now, Ending { code: Some(code), reason, ..Ending::new(By::Near, "refused") });
        Ok(())
    }

    /// The final response of the first INVITE, if it has none.
    pub(super) fn refuse_invite(&mut self, code: u16, more: impl FnOnce(&mut Response)) {
        self.forget_reliable();
        let Some(arrived) = self.arrived.as_mut().filter(|a| !a.done) else { return };
        arrived.done = true;
        let id = arrived.id;
        let Some(arrived) = &self.arrived else { return };
        let mut response = self.answer_to(&arrived.invite, code);
        more(&mut response);
        self.respond(id, response);
    }

    /// RFC 3261 §9.2: CANCEL, which was answered; the INVITE gets 487.
    pub(super) fn on_cancel(&mut self, now: Instant, request: &Request) {
        let seq = header::cseq(&request.headers).map(|(n, _)| n);
        if self.arrived.as_ref().is_some_and(|a| !a.done && Some(a.seq) == seq) {
            let reason = header::reason(&request.headers);
            self.refuse_invite(487, |_| {});
            self.over(now, Ending { code: Some(487), reason, ..Ending::new(By::Far, "cancelled") });
        } else if let Some(seq) = seq {
            self.cancel_modify(now, seq);
        }
    }

    /// RFC 3261 §13.3.1: the INVITE's own time is over.
    pub(super) fn expired(&mut self, now: Instant) {
        if self.unanswered().is_ok() {
            self.refuse_invite(487, |_| {});
            self.over(now, Ending { code: Some(487), ..Ending::new(By::Far, "the INVITE expired") });
        }
    }
}
