//! Set-up: routing, ringing on several devices, claims, the answer, and refusals.

use super::leg::{Device, Out};
use super::machine::illegal;
use super::{Call, Leg, NewLeg, Output, Purpose, Refusal};
use crate::protocol::advertisement::Advertisement;
use crate::protocol::directive::common_media;
use crate::protocol::event::{Body, Outcome, Party, Scope, State};
use crate::protocol::id::HandlerKey;
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::protocol::resource::{CallDirection, Intent, TapReason};
use crate::protocol::time::Timestamp;

const ALREADY: Refusal = Refusal::new(Code::AlreadyClaimed, "another device has taken the call");

impl Call {
    pub(super) fn routed(&mut self, now: Timestamp, purpose: Purpose, spec: NewLeg) {
        match purpose {
            Purpose::Place => {
                self.routing = false;
                if self.pair.is_some() || !self.legs[0].live() {
                    return;
                }
                // wire §3: what is found after the call was placed makes it fail, before anyone rings.
                if !self.fits(0, &spec) {
                    return self.fail(now, Code::NoCommonCodec.as_str());
                }
                let caller = &self.legs[0];
                let (first, remote) = (caller.id, caller.own.clone());
                let mut leg =
                    Leg::new(now, spec, CallDirection::Inbound, Party::Callee, remote, caller.caller.clone());
                leg.deadline = Some(now + self.timing.answer);
                self.legs[0].deadline = None;
                self.pair = Some((first, leg.id));
                self.ring(now, leg);
                self.changed = true;
            }
            Purpose::Transfer => self.transfer_routed(now, spec),
        }
    }

    /// Whether a device of a new leg and one of the leg that it is to hear have a codec in common.
    pub(super) fn fits(&self, at: usize, spec: &NewLeg) -> bool {
        let theirs =
            |mine: &Advertisement| spec.devices.iter().any(|t| common_media(mine, &t.device.advertisement));
        self.legs[at].candidates().into_iter().any(theirs)
    }

    /// Adds a leg and lets its devices ring.
    pub(super) fn ring(&mut self, now: Timestamp, leg: Leg) {
        let id = leg.id;
        self.legs.push(leg);
        let at = self.legs.len() - 1;
        self.tell(now, at, Body::Proceeding, None);
        self.outputs.push_back(Output::Tap { leg: id, only: None, reason: TapReason::Incoming });
    }

    /// Who calls whom, with which PASSporT and from which device: what another network has to know. None before a device
    /// has taken the call.
    pub fn departure(&self, to: Number) -> Option<(Number, Number, String, Advertisement)> {
        let leg = self.legs.first()?;
        let device = &leg.branch(leg.handler?)?.device;
        let passport = leg.caller.as_ref()?.passport.clone();
        Some((leg.own.clone(), to, passport, device.advertisement.clone()))
    }

    pub(super) fn not_routed(&mut self, now: Timestamp, purpose: Purpose, code: Code) {
        match purpose {
            Purpose::Place => {
                self.routing = false;
                self.fail(now, code.as_str());
            }
            Purpose::Transfer => self.transfer_failed(now, code.as_str(), "the target can't be reached"),
        }
    }

    /// The call can't be set up.
    fn fail(&mut self, now: Timestamp, reason: &str) {
        for at in 0..self.legs.len() {
            if self.legs[at].live() {
                self.tell(now, at, Body::Failed { reason: reason.to_owned() }, None);
            }
        }
        self.end(now, Party::Server, None, reason, Outcome::Failed);
    }

    /// Whether the leg is one that is being called and not yet answered.
    pub(super) fn called(&self, at: usize) -> Result<(), Refusal> {
        let leg = &self.legs[at];
        match (leg.direction, leg.state) {
            (CallDirection::Inbound, State::Proceeding | State::Alerting) => Ok(()),
            (CallDirection::Inbound, _) => Err(illegal("the call was answered already")),
            (CallDirection::Outbound, _) => Err(illegal("only a called device sends this event")),
        }
    }

    /// A device that takes part without having been tapped.
    pub(super) fn admit_ringing(&mut self, at: usize, key: HandlerKey) {
        if let Some(branch) = self.legs[at].branch_mut(key) {
            branch.reached = true;
        }
    }

    pub(super) fn alerting(&mut self, now: Timestamp, at: usize, key: HandlerKey) -> Result<(), Refusal> {
        self.called(at)?;
        self.admit_ringing(at, key);
        if self.legs[at].state == State::Proceeding {
            self.legs[at].state = State::Alerting;
            self.tell(now, at, Body::Alerting, None);
            if let Some(peer) = self.peer(self.legs[at].id)
                && self.legs[peer].state == State::Proceeding
            {
                self.legs[peer].state = State::Alerting;
                self.tell(now, peer, Body::Alerting, None);
            }
        }
        Ok(())
    }

    pub(super) fn progress(&mut self, now: Timestamp, at: usize, key: HandlerKey) -> Result<(), Refusal> {
        self.called(at)?;
        self.admit_ringing(at, key);
        // wire §4: the first wins; s2c says that early media may come, from one branch.
        if self.legs[at].progress.is_none() {
            self.legs[at].progress = Some(key);
            self.changed = true;
            if let Some(peer) = self.peer(self.legs[at].id) {
                self.tell(now, peer, Body::Progress, None);
            }
        }
        Ok(())
    }

    /// `POST {call}` with a handler.
    pub(super) fn claim(
        &mut self,
        now: Timestamp,
        at: usize,
        device: Device,
        intent: Option<Intent>,
        if_match: Option<Vec<u64>>,
    ) -> Result<(), Refusal> {
        let leg = &self.legs[at];
        if !leg.live() {
            return Err(Refusal::new(Code::CallEnded, "the call has ended"));
        }
        if if_match.is_some_and(|versions| !versions.contains(&leg.version)) {
            return Err(Refusal::new(Code::PreconditionFailed, "the call has changed; read it again"));
        }
        let key = device.key;
        match (leg.state, leg.direction) {
            (State::Answered, _) => self.pull(now, at, device, intent),
            _ if matches!(intent, Some(Intent::Pull | Intent::Recover)) => {
                Err(illegal("only an answered call can be pulled or recovered"))
            }
            (_, CallDirection::Outbound) => match leg.handler {
                Some(carrier) if carrier == key => Ok(()),
                Some(_) => Err(ALREADY),
                None => self.take_outbound(at, device),
            },
            (_, CallDirection::Inbound) => {
                if leg.claimed_by(now).is_some_and(|by| by != key) {
                    return Err(ALREADY);
                }
                self.check_media(at, &device)?;
                let until = now + self.timing.claim;
                let leg = &mut self.legs[at];
                leg.admit(device);
                leg.claim = Some((key, until));
                leg.version += 1;
                self.changed = true;
                Ok(())
            }
        }
    }

    /// Third-party control: the device that takes the call places it.
    fn take_outbound(&mut self, at: usize, device: Device) -> Result<(), Refusal> {
        let leg = &mut self.legs[at];
        leg.handler = Some(device.key);
        leg.version += 1;
        leg.admit(device);
        self.changed = true;
        self.routing = true;
        let destination = self.destination.clone();
        self.route(destination, Purpose::Place);
        Ok(())
    }

    fn pull(
        &mut self,
        now: Timestamp,
        at: usize,
        device: Device,
        intent: Option<Intent>,
    ) -> Result<(), Refusal> {
        let leg = &self.legs[at];
        let mine = leg.handler == Some(device.key);
        let fresh = leg.answered.is_some_and(|t| now < t + self.timing.guard);
        match intent {
            _ if mine => {}
            Some(Intent::Answer | Intent::Recover) => return Err(ALREADY),
            // wire §2: without intent, 409 for 2 s after the answer, a pull after that.
            None if fresh => return Err(ALREADY),
            None | Some(Intent::Pull) => {}
        }
        self.check_media(at, &device)?;
        let key = device.key;
        let leg = &mut self.legs[at];
        leg.admit(device);
        leg.version += 1;
        self.changed = true;
        if !mine {
            leg.handler = Some(key);
            self.tell(now, at, Body::HandlerChanged, Some(key));
            self.tell_directives(now);
        }
        Ok(())
    }

    /// Whether a device and the other side have a codec in common.
    fn check_media(&self, at: usize, device: &Device) -> Result<(), Refusal> {
        let Some(peer) = self.peer(self.legs[at].id) else { return Ok(()) };
        let others = self.legs[peer].candidates();
        if others.is_empty() || others.iter().any(|other| common_media(&device.advertisement, other)) {
            Ok(())
        } else {
            Err(Refusal::new(Code::NoCommonCodec, "this handler and the other side share no codec"))
        }
    }

    pub(super) fn answered(&mut self, now: Timestamp, at: usize, key: HandlerKey) -> Result<(), Refusal> {
        self.called(at)?;
        if self.legs[at].claimed_by(now) != Some(key) {
            return Err(illegal("claim the call first: POST its URI with this handler"));
        }
        let id = self.legs[at].id;
        let leg = &mut self.legs[at];
        leg.claim = None;
        leg.handler = Some(key);
        leg.deadline = None;
        self.establish(now, at, Some(key));
        if self.transfer.as_ref().is_some_and(|t| t.target == Some(id)) {
            self.transfer_done(now, at);
        } else if let Some(peer) = self.peer(id) {
            self.establish(now, peer, None);
        }
        self.tell_directives(now);
        Ok(())
    }

    pub(super) fn establish(&mut self, now: Timestamp, at: usize, handler: Option<HandlerKey>) {
        let leg = &mut self.legs[at];
        if leg.state == State::Answered {
            return;
        }
        leg.state = State::Answered;
        leg.answered = Some(now);
        // Past the answer a leg that never opened a byway has to, like any other.
        if leg.byways.is_empty() && leg.silent_since.is_none() {
            leg.silent_since = Some(now);
        }
        self.tell(now, at, Body::Answered, handler);
    }

    /// A device is out: it declined, failed, or gave up.
    pub(super) fn out(
        &mut self,
        now: Timestamp,
        at: usize,
        key: HandlerKey,
        how: Out,
        scope: Scope,
    ) -> Result<(), Refusal> {
        self.called(at)?;
        let leg = &mut self.legs[at];
        if leg.claim.is_some_and(|(by, _)| by == key) {
            leg.claim = None;
        }
        if let Some(branch) = leg.branch_mut(key) {
            branch.out = Some(how.clone());
        }
        self.changed = true;
        let leg = &self.legs[at];
        // wire §4: all that were tapped over an open push channel, or have an events byway on this call.
        let rings_on =
            leg.branches.iter().any(|b| b.out.is_none() && (b.reached || leg.listens(b.device.key)));
        if scope == Scope::All || !rings_on {
            self.refused(now, at, &how);
        }
        Ok(())
    }

    /// A called leg is out.
    pub(super) fn refused(&mut self, now: Timestamp, at: usize, how: &Out) {
        let id = self.legs[at].id;
        if self.transfer.as_ref().is_some_and(|t| t.target == Some(id)) {
            self.transfer_target_out(now, how);
            return;
        }
        let (body, by, reason, outcome) = how.outcome();
        for leg in 0..self.legs.len() {
            if self.legs[leg].live() {
                self.tell(now, leg, body.clone(), None);
            }
        }
        self.end(now, by, None, &reason, outcome);
    }
}

impl Out {
    pub(super) fn outcome(&self) -> (Body, Party, String, Outcome) {
        match self {
            Self::Declined(reason) => {
                let body = Body::Declined { reason: reason.clone() };
                (body, Party::Callee, reason.clone(), Outcome::Declined)
            }
            Self::Failed(reason) => {
                let body = Body::Failed { reason: reason.clone() };
                (body, Party::Server, reason.clone(), Outcome::Failed)
            }
            Self::NoAnswer(reason) => {
                let body = Body::NoAnswer { reason: reason.clone() };
                (body, Party::Server, reason.clone(), Outcome::NoAnswer)
            }
        }
    }
}
