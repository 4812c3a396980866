//! What the telephone network says, on our leg.

use super::bridge::{Bridge, Side};
use super::phone::Phone;
use super::way::Attempt;
use crate::adapter::mapping::sip as mapping;
use crate::adapter::sip::ua::{By, Command, Ending, Event};
use crate::call::Input;
use crate::protocol::event::{ClientBody, Outcome, Scope};
use crate::protocol::resource::{Intent, call_path};

impl Bridge {
    pub(super) async fn far_said(&mut self, event: Event) {
        // What a server that is passed by says first is not of this call.
        if let Event::Ended(ending) = &event
            && self.passes_by(ending)
        {
            return self.next_server().await;
        }
        if let Event::Ended(ending) = &event
            && self.led_on(ending).await
        {
            return;
        }
        if !std::mem::replace(&mut self.heard, true)
            && let Some(hop) = self.attempt.as_ref().and_then(|attempt| attempt.newest.as_ref())
        {
            self.way.trust(hop);
        }
        // Before our leg tells of it.
        self.keep().await;
        match event {
            Event::Provisional { code, early_media } => self.far_progresses(code, early_media).await,
            Event::Described(sdp) => self.described(sdp).await,
            Event::Offered(sdp) => self.offered(sdp).await,
            Event::Answered => self.far_answered().await,
            Event::OfferRefused(code) => {
                tracing::debug!(code, "an offer was refused; what was agreed stands");
                self.media.leg.refused();
                if self.media.leg.is_sealed() {
                    // Without new keys there is nothing to hear.
                    return self.end_here("lost").await;
                }
                self.offer_done();
            }
            Event::Refer { to, replaces, .. } => self.refer(&to, replaces).await,
            Event::Referred(_) => {}
            Event::Digit(digit, duration) => self.say(ClientBody::Dtmf { digit, duration }).await,
            Event::Ended(ending) => self.far_ended(ending).await,
        }
    }

    /// RFC 3263 §4.3: whether another server may do better.
    fn passes_by(&self, ending: &Ending) -> bool {
        let more = self.attempt.as_ref().is_some_and(Attempt::has_more);
        let failed = matches!(ending.code, Some(408 | 500 | 502 | 503 | 504));
        more && failed && !self.heard
    }

    /// Calls anew, at the next server.
    pub(super) async fn next_server(&mut self) {
        let Some(attempt) = &mut self.attempt else { return };
        let Some(agent) = attempt.next(&self.way, &self.media.leg) else { return };
        tracing::info!(way = self.way.name, "a server failed; the call goes to the next one");
        std::mem::replace(&mut self.agent, agent).end(Command::End { reason: None });
    }

    async fn far_progresses(&mut self, code: u16, early_media: Option<bool>) {
        if self.answered || self.side == Side::Arriving {
            return;
        }
        if early_media == Some(true) {
            self.say(ClientBody::Progress).await;
        }
        if code == 180 && !std::mem::replace(&mut self.rings, true) {
            self.say(ClientBody::Alerting).await;
        }
    }

    /// An answer to our offer.
    async fn described(&mut self, sdp: String) {
        match self.media.leg.answered(&sdp) {
            Ok(native) => {
                self.media.negotiated(&mut self.end, native).await;
                self.offer_done();
            }
            Err(error) => {
                tracing::debug!(%error, "an answer can't be used");
                // RFC 3261 §13.2.2.4: a call that can't be had is ended.
                self.end_here("no-common-codec").await;
            }
        }
    }

    async fn offered(&mut self, sdp: String) {
        match self.media.leg.offered(&sdp) {
            Ok(described) => {
                self.agent.say(Command::Answer(described.sdp));
                self.media.negotiated(&mut self.end, described.native).await;
            }
            Err(error) => {
                // RFC 3264 §8.4: what was agreed before stands.
                tracing::debug!(%error, "an offer can't be answered");
                self.agent.say(Command::RefuseOffer);
            }
        }
    }

    pub(super) async fn far_answered(&mut self) {
        if self.side == Side::Arriving || std::mem::replace(&mut self.answered, true) {
            return;
        }
        let (leg, device, intent) = (self.end.leg, self.end.device.clone(), Some(Intent::Answer));
        let claim = Input::Claim { leg, device, intent, if_match: None };
        if let Err(problem) = self.end.calls.input(claim).await {
            tracing::debug!(code = problem.code.as_str(), "an answer came too late");
        }
        self.say(ClientBody::Answered).await;
        // Who is handed on to it hears it only now.
        if !self.media.settled {
            self.media.adapt(&mut self.end).await;
        }
    }

    /// RFC 3515, RFC 5589: who the telephone hands on is handed on here.
    async fn refer(&mut self, to: &str, replaces: Option<String>) {
        let target = Phone::read(to, &self.way.home()).and_then(|phone| phone.number);
        let replaced = replaces.as_deref().map(|replaces| self.dialogs.find(replaces));
        let leg = match replaced {
            None => None,
            Some(Some(leg)) => Some(call_path(&self.end.device.tg, leg)),
            Some(None) => {
                // RFC 3891 §3: a dialog that is not ours.
                self.agent.say(Command::ReferProgress(481));
                return;
            }
        };
        let Some(target) = target.filter(|_| self.answered) else {
            self.agent.say(Command::ReferProgress(404));
            return;
        };
        self.transferring = true;
        self.agent.say(Command::ReferProgress(100));
        self.say(ClientBody::Transfer { target: target.to_string(), replaces: leg }).await;
    }

    pub(super) async fn far_lost(&mut self) {
        let ending = Ending {
            by: By::Timer,
            code: None,
            reason: None,
            retry_after: None,
            moved: Vec::new(),
            instead: None,
            why: "its task ended",
        };
        self.far_ended(ending).await;
    }

    async fn far_ended(&mut self, ending: Ending) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        tracing::debug!(code = ending.code, why = ending.why, "a SIP call ended");
        if self.side == Side::Leaving && matches!(ending.code, Some(401 | 407)) {
            tracing::warn!(
                way = self.way.name,
                "calls are refused: user and password, or one of them, are wrong"
            );
        }
        let (cause, _) = mapping::reasons(ending.reason.as_deref());
        let (outcome, reason) = match ending.by {
            // Nobody ended it: the far side is not there any more.
            By::Timer if self.answered => (Outcome::Completed, "lost"),
            _ => mapping::told(ending.code, cause),
        };
        let reason = reason.to_owned();
        self.say(match (self.side, self.answered, outcome) {
            (Side::Arriving, ..) | (_, true, _) => ClientBody::End { reason: Some(reason) },
            (_, _, Outcome::Declined) => ClientBody::Declined { reason, scope: Scope::All },
            (_, _, Outcome::NoAnswer) => ClientBody::NoAnswer { reason },
            _ => ClientBody::Failed { reason },
        })
        .await;
    }
}
