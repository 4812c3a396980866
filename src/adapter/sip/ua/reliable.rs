//! Provisional responses that are acknowledged (RFC 3262), both ways.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Request, Response};

use super::dispatch::{CLIENTS, Kind};
use super::header::{self, Body};
use super::offer::{Bearer, Carrier, Clash};
use super::timer::{PATIENCE, T1, Timer};
use super::{By, Ending, Phase, ServerId, Ua, build};

/// Responses that wait until the one before them was acknowledged.
pub(super) const WAITING: usize = 4;

/// Our reliable responses to one INVITE.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The RSeq of the newest; 0: none yet.
    rseq: u32,
    out: Option<Out>,
    waiting: VecDeque<(u16, Option<String>)>,
}

/// The one that isn't acknowledged.
#[derive(Debug)]
struct Out {
    response: Response,
    sdp: bool,
    wait: Duration,
}

impl Sent {
    /// Whether no more can wait.
    pub(super) fn full(&self) -> bool {
        self.waiting.len() >= WAITING
    }

    /// RFC 3262 §3: whether the 2xx must wait: a description isn't acknowledged.
    pub(super) fn holds_back(&self) -> bool {
        self.out.as_ref().is_some_and(|o| o.sdp) || self.waiting.iter().any(|(_, sdp)| sdp.is_some())
    }
}

impl Ua {
    /// A provisional response to our first INVITE, or of a re-INVITE: its description, and its PRACK. False: it is to be passed
    /// over.
    pub(super) fn take_provisional(
        &mut self,
        now: Instant,
        tag: &str,
        seq: u32,
        response: &Response,
    ) -> bool {
        let sdp = match header::body(&response.headers, &response.body) {
            Body::Sdp(sdp) => Some(sdp),
            Body::None | Body::Foreign => None,
        };
        let rseq = header::number(&response.headers, "RSeq");
        let reliable = rseq.filter(|_| header::has(&response.headers, "Require", "100rel"));
        let busy = self.clients.len() >= CLIENTS;
        let Some(dialog) = self.find_mut(tag) else { return false };
        dialog.learn(&response.headers);
        let Some(rseq) = reliable else {
            if let Some(sdp) = sdp
                && dialog.talk.early(&sdp)
            {
                self.describe(tag, sdp);
            }
            return true;
        };
        // RFC 3262 §4: in order; a gap is filled by the retransmission. One with an offer of theirs comes first.
        let next = dialog.rseq.is_none_or(|last| last.checked_add(1) == Some(rseq));
        let held = matches!(dialog.talk.theirs(), Some(Bearer::Reliable { .. }));
        if !next || held || busy {
            return false;
        }
        dialog.rseq = Some(rseq);
        if dialog.talk.blank()
            && let Some(offer) = sdp
        {
            // RFC 3262 §5: PRACK has the answer.
            let _ = dialog.talk.offered(offer, Bearer::Reliable { rseq, seq });
            self.offered(now, tag);
            return true;
        }
        let answer = match sdp {
            Some(sdp) => dialog.talk.answered(Carrier::Invite, Some(sdp)),
            None => None,
        };
        self.prack(tag, rseq, seq, None);
        if let Some(answer) = answer {
            self.describe(tag, answer);
        }
        true
    }

    /// RFC 3262 §7.2
    pub(super) fn prack(&mut self, tag: &str, rseq: u32, seq: u32, sdp: Option<&str>) {
        let Some(dialog) = self.find_mut(tag) else { return };
        let next = dialog.next_seq();
        let Some(dialog) = self.find(tag) else { return };
        let mut request = self.within(dialog, Method::PRack, next);
        request.headers.push(build::line("RAck", format!("{rseq} {seq} INVITE")));
        request.body = build::with_body(&mut request.headers, "application/sdp", sdp);
        self.send(Kind::Prack, tag, request);
    }

    /// Sends a reliable response, or lets it wait for the one that is out.
    pub(super) fn send_reliable(&mut self, now: Instant, code: u16, sdp: Option<String>) {
        let first = 1 + u32::try_from(self.random.next() % 0xffff).unwrap_or(0);
        let Some(arrived) = &mut self.arrived else { return };
        if arrived.sent.out.is_some() {
            arrived.sent.waiting.push_back((code, sdp));
            return;
        }
        // RFC 3262 §3: the first is random, below 2^31.
        arrived.sent.rseq = if arrived.sent.rseq == 0 { first } else { arrived.sent.rseq.saturating_add(1) };
        let (rseq, id) = (arrived.sent.rseq, arrived.id);
        let mut response = self.provisional_response(code, sdp.as_deref());
        response.headers.push(build::line("Require", "100rel"));
        response.headers.push(build::line("RSeq", rseq.to_string()));
        if let Some(arrived) = &mut self.arrived {
            arrived.sent.out = Some(Out { response: response.clone(), sdp: sdp.is_some(), wait: T1 });
        }
        self.timers.set(Timer::Resend, now + T1);
        self.timers.set(Timer::Unheard, now + PATIENCE);
        self.respond(id, response);
    }

    /// RFC 3262 §3: at T1, then at twice the wait before.
    pub(super) fn resend(&mut self, now: Instant) {
        let Some(arrived) = &mut self.arrived else { return };
        let id = arrived.id;
        let Some(out) = &mut arrived.sent.out else { return };
        out.wait = out.wait.saturating_mul(2);
        let (response, wait) = (out.response.clone(), out.wait);
        self.timers.set(Timer::Resend, now + wait);
        self.respond(id, response);
    }

    /// RFC 3262 §3: 64 × T1 without PRACK: a 5xx.
    pub(super) fn unheard(&mut self, now: Instant) {
        self.refuse_invite(504, |_| {});
        self.over(
            now,
            Ending { code: Some(504), ..Ending::new(By::Timer, "a reliable response was not acknowledged") },
        );
    }

    /// The final response goes: nothing is sent again; a PRACK that is on its way still has its answer (RFC 3262 §3).
    pub(super) fn forget_reliable(&mut self) {
        if let Some(arrived) = &mut self.arrived {
            arrived.sent.waiting.clear();
        }
        self.timers.stop(Timer::Resend);
        self.timers.stop(Timer::Unheard);
    }

    /// PRACK of ours.
    pub(super) fn on_prack(&mut self, now: Instant, id: ServerId, tag: &str, request: Request) {
        let known = self.arrived.as_ref().and_then(|arrived| {
            let out = arrived.sent.out.as_ref()?;
            let (rseq, seq) = rack(header::first(&request.headers, "RAck")?)?;
            (rseq == arrived.sent.rseq && seq == arrived.seq).then_some(out.sdp)
        });
        let Some(sdp) = known else {
            // RFC 3262 §3
            return self.refuse(id, &request, 481);
        };
        let body = match header::body(&request.headers, &request.body) {
            Body::Foreign => return self.refuse_foreign(id, &request),
            Body::Sdp(sdp) => Some(sdp),
            Body::None => None,
        };
        let Some(dialog) = self.find_mut(tag) else { return };
        let our_offer = sdp && dialog.talk.ours() == Some(Carrier::Response);
        let (mut waits, mut refused) = (false, false);
        match body {
            // RFC 3262 §5: the answer has to be here; without it our response is as good as not acknowledged.
            None if our_offer => return self.refuse(id, &request, 400),
            None => {}
            Some(answer) if our_offer => {
                if let Some(answer) = dialog.talk.answered(Carrier::Response, Some(answer)) {
                    self.describe(tag, answer);
                }
            }
            Some(offer) => match dialog.talk.offered(offer, Bearer::Request(id)) {
                Ok(()) => waits = true,
                Err(clash) => {
                    self.refuse_clash(id, &request, clash);
                    refused = true;
                }
            },
        }
        if waits {
            self.wait_for_answer(now, id, tag, request);
        } else if !refused {
            let answer = self.answer_to(&request, 200);
            self.respond(id, answer);
        }
        self.acknowledged(now);
    }

    fn acknowledged(&mut self, now: Instant) {
        self.timers.stop(Timer::Resend);
        self.timers.stop(Timer::Unheard);
        let Some(arrived) = &mut self.arrived else { return };
        arrived.sent.out = None;
        if self.phase != Phase::Early {
            return;
        }
        if let (Some(sdp), false) = (arrived.accepted.clone(), arrived.sent.holds_back()) {
            return self.accept_now(now, &sdp);
        }
        if let Some((code, sdp)) = arrived.sent.waiting.pop_front() {
            self.send_reliable(now, code, sdp);
        }
    }

    pub(super) fn refuse_clash(&mut self, id: ServerId, request: &Request, clash: Clash) {
        match clash {
            Clash::Glare => self.refuse(id, request, 491),
            Clash::Second => self.refuse_for_now(id, request),
        }
    }
}

/// RFC 3262 §7.2
fn rack(value: &str) -> Option<(u32, u32)> {
    let mut words = value.split_whitespace();
    let (rseq, seq) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (words.next()? == "INVITE").then_some((rseq, seq))
}
