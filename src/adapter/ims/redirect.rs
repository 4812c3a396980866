//! A call of ours is answered with whom to call instead: somebody else (RFC 3261 §8.1.3.4), or those who help (TS 24.229 §5.1.3.1).

use super::bridge::{Bridge, Side};
use super::emergency::{Alternative, alternative};
use super::led::Cause;
use super::media::Media;
use super::way::Kind;
use crate::adapter::sip::ua::{By, Ending};
use crate::protocol::event::ClientBody;
use crate::service::gateway::Departure;

/// Why a call fails that the network takes for one for help, where none can be made.
const FOR_HELP: &str = "emergency";

impl Bridge {
    /// Calls whom the refusal names, or the next one who was named before. False: nobody is left, and the call ends with it.
    pub(super) async fn led_on(&mut self, ending: &Ending) -> bool {
        let refused = ending.by == By::Far && self.side == Side::Leaving && !self.answered && !self.over;
        let Some(code) = ending.code.filter(|_| refused) else { return false };
        if let (380, Some(help)) = (code, self.for_help(ending)) {
            self.call_for_help(help).await;
            return true;
        }
        let why = if self.rings { Cause::Deflected } else { Cause::Moved };
        let way = self.way.clone();
        let Some(attempt) = &mut self.attempt else { return false };
        if (300..400).contains(&code) {
            let rules = attempt.call.rules.clone();
            attempt.targets.add(&ending.moved, &way, &rules, why);
        }
        // RFC 3261 §21.6: a 6xx speaks for all.
        if code >= 600 || !attempt.lead_on() {
            return false;
        }
        let Some(agent) = attempt.next(&way, &self.media.leg) else { return false };
        tracing::debug!(way = way.name, code, "a call is led on");
        self.agent = agent;
        true
    }

    /// What the network of an account says of a call that it takes for one for help. Of a trunk, whose far side may be anybody's, that
    /// is not believed.
    fn for_help(&self, ending: &Ending) -> Option<Alternative> {
        let Kind::Account(_) = &self.way.kind else { return None };
        let instead = ending.instead.as_ref()?;
        let contact = ending.moved.first().map(String::as_str);
        alternative(&instead.kind, &instead.body, contact).filter(|said| said.emergency)
    }

    async fn call_for_help(&mut self, said: Alternative) {
        tracing::info!(way = self.way.name, "the network takes a call for one for help");
        if self.leads_to_help(said).await.is_none() {
            self.over = true;
            self.say(ClientBody::Failed { reason: FOR_HELP.to_owned() }).await;
        }
    }

    /// Calls where calls for help leave, with the caller's place. None: there is no such way, or it was that.
    async fn leads_to_help(&mut self, said: Alternative) -> Option<()> {
        let attempt = self.attempt.as_ref()?;
        let help = attempt.help.clone()?;
        let to = help.settings.emergency.clone().filter(|to| *to != attempt.call.to)?;
        // What speaks for a caller was made for whom they called.
        let call = Departure { to, passport: String::new(), div: Vec::new(), ..attempt.call.clone() };
        let mut attempt = help.attempt(&call).await.ok()?;
        if let Some(urn) = said.service {
            attempt.urn = urn;
        }
        if help.name != self.way.name {
            self.media = Media::new(&help.ports).ok()?;
            self.media.leg.prefer(&call.advertisement);
        }
        self.agent = attempt.next(&help, &self.media.leg)?;
        (self.way, self.attempt, self.heard) = (help, Some(attempt), false);
        Some(())
    }
}
