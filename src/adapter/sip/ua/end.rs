//! How a call ends (RFC 3261 §15), and what is still done then.

use std::time::{Duration, Instant};

use rsipstack::sip::{Method, Request};

use super::dispatch::Kind;
use super::timer::Timer;
use super::{By, Ending, Event, Phase, Refused, ServerId, Ua, build, header};

/// How long requests that are out are waited for: a transaction's time, and some.
const LINGER: Duration = Duration::from_secs(40);

impl Ending {
    pub(super) fn new(by: By, why: &'static str) -> Self {
        Self { by, code: None, reason: None, retry_after: None, moved: Vec::new(), instead: None, why }
    }
}

impl Ua {
    /// Tells that it is over, once.
    pub(super) fn over(&mut self, now: Instant, ending: Ending) {
        if matches!(self.phase, Phase::Over | Phase::Gone) {
            return;
        }
        self.phase = Phase::Over;
        self.timers.stop_call();
        self.timers.set(Timer::Gone, now + LINGER);
        // RFC 3261 §15.1.2: requests that are pending are answered.
        for server in std::mem::take(&mut self.servers) {
            let response = self.answer_to(&server.request, 487);
            self.respond(server.id, response);
        }
        self.modify.forget();
        self.tell(Event::Ended(ending));
    }

    /// After each input: requests of branches that are no more are answered; and whether anything is still to come.
    pub(super) fn settle(&mut self, now: Instant) {
        self.answer_orphans();
        if self.phase != Phase::Over || !self.clients.is_empty() || self.unacked.is_some() {
            return;
        }
        match self.placed.as_ref().and_then(|p| p.late_until) {
            Some(until) if until > now => self.timers.set(Timer::Gone, until),
            _ => self.phase = Phase::Gone,
        }
    }

    fn answer_orphans(&mut self) {
        let (kept, orphans) = std::mem::take(&mut self.servers).into_iter().partition(|s| {
            let tag = header::tag(&s.request.headers, "From").unwrap_or_default();
            self.find(&tag).is_some()
        });
        self.servers = kept;
        for server in orphans {
            self.refuse(server.id, &server.request, 481);
        }
    }

    /// Our side ends it.
    pub(super) fn hang_up(&mut self, now: Instant, reason: Option<String>) {
        let ending = Ending { reason: reason.clone(), ..Ending::new(By::Near, "ended by our side") };
        if self.phase == Phase::Early && self.arrived.is_some() {
            self.refuse_invite(480, |response| build::reason(&mut response.headers, reason.as_deref()));
            return self.over(now, Ending { code: Some(480), ..ending });
        }
        if self.phase == Phase::Early {
            self.cancel(reason);
            return self.over(now, Ending { code: Some(487), ..ending });
        }
        self.take_nothing();
        match &mut self.unacked {
            // RFC 3261 §15: no BYE from the called side before the ACK.
            Some(unacked) => unacked.bye = Some(reason),
            None => self.bye(now, reason),
        }
        self.over(now, ending);
    }

    /// The far side, or time, broke it: BYE, with why.
    pub(super) fn fault(&mut self, now: Instant, why: &'static str, cause: u16) {
        if self.phase != Phase::Up {
            return;
        }
        let reason = format!("SIP;cause={cause};text=\"{why}\"");
        self.unacked = None;
        self.timers.stop(Timer::Ack);
        self.take_nothing();
        self.bye(now, Some(reason));
        self.over(now, Ending::new(By::Timer, why));
    }

    /// BYE in the confirmed dialog.
    pub(super) fn bye(&mut self, now: Instant, reason: Option<String>) {
        let Some(dialog) = self.dialogs.first_mut() else { return };
        let (seq, tag) = (dialog.next_seq(), dialog.tag.clone());
        let Some(dialog) = self.find(&tag) else { return };
        let mut request = self.within(dialog, Method::Bye, seq);
        build::reason(&mut request.headers, reason.as_deref());
        self.send(Kind::Bye, &tag, request);
        self.timers.set(Timer::Gone, now + LINGER);
    }

    /// BYE of the far side.
    pub(super) fn on_bye(&mut self, now: Instant, id: ServerId, tag: &str, request: &Request) {
        let response = self.answer_to(request, 200);
        self.respond(id, response);
        let ending = Ending {
            reason: header::reason(&request.headers),
            ..Ending::new(By::Far, "ended by the far side")
        };
        match self.phase {
            Phase::Early if self.arrived.is_some() => {
                // RFC 3261 §15: the caller may end an early dialog; §15.1.2: the INVITE gets 487.
                self.refuse_invite(487, |_| {});
                self.over(now, ending);
            }
            Phase::Early if self.dialogs.len() > 1 => {
                // One branch of several.
                self.dialogs.retain(|d| d.tag != tag);
                self.offer_gone(now, tag);
            }
            Phase::Early => {
                // The BYE overtook the 2xx, which gets its ACK when it comes (RFC 5407 §3.3.2 has the like).
                self.cancel(None);
                self.over(now, ending);
            }
            Phase::Up => {
                // RFC 3261 §15.1.2: no ACK is to be waited for.
                self.unacked = None;
                self.timers.stop(Timer::Ack);
                self.take_nothing();
                self.over(now, ending);
            }
            // BYE crosses BYE; ours, if it waited for ACK, isn't needed.
            Phase::Over | Phase::Gone => {
                self.unacked = None;
                self.timers.stop(Timer::Ack);
            }
        }
    }

    /// An early end that the far side must not be left guessing about: used where a command can't be done otherwise.
    pub(super) fn give_up(&mut self, now: Instant, why: &'static str) -> Result<(), Refused> {
        self.hang_up_with(now, Ending { code: Some(488), ..Ending::new(By::Near, why) });
        Ok(())
    }

    fn hang_up_with(&mut self, now: Instant, ending: Ending) {
        let reason = Some(format!("SIP;cause=488;text=\"{}\"", ending.why));
        if self.phase == Phase::Early {
            self.cancel(reason);
        } else {
            self.take_nothing();
            self.bye(now, reason);
        }
        self.over(now, ending);
    }
}
