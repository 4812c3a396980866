//! The machine itself: what it is made of, and where each input goes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::leg::{ByWay, Ending};
use super::{Accepted, Caller, Input, Leg, LegView, MediaPlan, NewLeg, Output, Purpose, Refusal, Timing, To};
use crate::protocol::event::{Body, ClientBody, Event, Outcome, Party, State};
use crate::protocol::id::{CallId, HandlerKey, LegId};
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::protocol::resource::{CallDirection, TapReason};
use crate::protocol::time::Timestamp;

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Its name within the server.
    pub id: CallId,
    pub(super) timing: Timing,
    pub(super) legs: Vec<Leg>,
    /// The two legs that hear each other, or will.
    pub(super) pair: Option<(LegId, LegId)>,
    pub(super) transfer: Option<Transfer>,
    /// What it is waiting to be told where to find.
    pub(super) destination: Number,
    pub(super) routing: bool,
    #[serde(skip)]
    pub(super) outputs: VecDeque<Output>,
    #[serde(skip)]
    pub(super) changed: bool,
    #[serde(skip)]
    pub(super) plan: MediaPlan,
}

/// A leg is being handed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Transfer {
    /// Who hands on.
    pub(super) by: LegId,
    pub(super) by_handler: HandlerKey,
    /// Who stays.
    pub(super) keep: LegId,
    /// Who is to join, once found.
    pub(super) target: Option<LegId>,
    /// The server's word for who stays, for the target.
    #[serde(default)]
    pub(super) vouched: Option<Caller>,
    /// The server's word for the target, for who stays.
    #[serde(default)]
    pub(super) target_vouched: Option<Caller>,
    pub(super) to: Number,
    pub(super) ref_seq: Option<u64>,
}

/// A refusal for what the state does not allow.
pub(super) const fn illegal(detail: &'static str) -> Refusal {
    Refusal::new(Code::IllegalEvent, detail)
}

impl Call {
    /// A call that somebody places; it goes on with [`Input::Routed`], at once, or, where no device carries
    /// it yet, when one takes it.
    pub fn place(
        now: Timestamp,
        id: CallId,
        timing: Timing,
        leg: NewLeg,
        to: Number,
        caller: Caller,
    ) -> Self {
        let third_party = leg.handler.is_none();
        let mut first = Leg::new(now, leg, CallDirection::Outbound, Party::Caller, to.clone(), Some(caller));
        first.deadline = Some(now + timing.answer);
        let mut call = Self {
            id,
            timing,
            legs: vec![first],
            pair: None,
            transfer: None,
            destination: to,
            routing: !third_party,
            outputs: VecDeque::new(),
            changed: true,
            plan: MediaPlan::default(),
        };
        call.tell(now, 0, Body::Proceeding, None);
        if third_party {
            call.outputs.push_back(Output::Tap {
                leg: call.legs[0].id,
                only: None,
                reason: TapReason::Outgoing,
            });
        }
        call
    }

    /// Takes in what happened. A refusal changes nothing.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Result<Option<Accepted>, Refusal> {
        let done = self.dispatch(now, input);
        let plan = self.media_plan();
        if plan != self.plan {
            self.plan = plan.clone();
            self.outputs.push_back(Output::Media(plan));
        }
        done
    }

    fn dispatch(&mut self, now: Timestamp, input: Input) -> Result<Option<Accepted>, Refusal> {
        match input {
            Input::Event { leg, handler, seq, body } => {
                return self.client_event(now, leg, handler, seq, &body).map(Some);
            }
            Input::Claim { leg, device, intent, if_match } => {
                let at = self.index(leg)?;
                self.claim(now, at, device, intent, if_match)?;
            }
            Input::Tap { leg, handler } => {
                let at = self.live(leg)?;
                self.tap(at, handler);
            }
            Input::Routed { purpose, leg } => self.routed(now, purpose, leg),
            Input::Vouched { target, kept } => self.vouched(target, kept),
            Input::NotRouted { purpose, code } => self.not_routed(now, purpose, code),
            Input::Opened { leg, byway, kind, after } => {
                let at = self.index(leg)?;
                self.opened(now, at, byway, kind, after);
            }
            Input::Closed { leg, byway } => {
                let at = self.index(leg)?;
                let leg = &mut self.legs[at];
                leg.byways.remove(&byway);
                if leg.byways.is_empty() && leg.live() {
                    leg.silent_since = Some(now);
                }
            }
            Input::Reached { leg, device } => {
                let at = self.live(leg)?;
                let key = device.device.key;
                self.legs[at].admit(device.device);
                if let Some(branch) = self.legs[at].branch_mut(key) {
                    branch.reached |= device.reached;
                }
            }
            Input::Changed { device } => self.device_changed(now, device),
            Input::MediaDigit { leg, digit, duration } => {
                if let Some(peer) = self.peer(leg) {
                    self.tell(now, peer, Body::Dtmf { digit, duration }, None);
                }
            }
            Input::MediaPanic { leg } => {
                let at = self.live(leg)?;
                let panic = self.legs[at].whisper(now, To::All, Body::MediaPanic);
                self.outputs.push_back(panic);
            }
            Input::Migrate => {
                for at in 0..self.legs.len() {
                    if self.legs[at].live() {
                        self.tell(now, at, Body::Migrate { uri: None }, None);
                    }
                }
            }
            Input::Restored => self.restored(now),
            Input::Release { by, user } => self.release(now, by, &user)?,
            Input::Adopt { leg } => self.adopt(now, *leg),
            Input::NotReleased { code } => {
                self.transfer_failed(now, code.as_str(), "the other call would not")
            }
            Input::Replace { leg, with, told } => self.replace(now, leg, *with, told)?,
            Input::Tick => self.tick(now),
        }
        Ok(None)
    }

    /// The next thing to be done.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether what the store holds is out of date; asking resets it.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Its legs.
    pub fn legs(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter()
    }

    /// Whether all is over.
    pub fn over(&self) -> bool {
        self.legs.iter().all(|l| !l.live())
    }

    /// A leg as one of its user's devices may read it.
    pub fn view(&self, leg: LegId, asker: Option<HandlerKey>) -> Option<LegView> {
        let at = self.index(leg).ok()?;
        Some(self.legs[at].view(asker, self.directive_values(at)))
    }

    /// A transient event for a leg, as `accepted` and `error` are.
    pub fn transient(&self, now: Timestamp, leg: LegId, to: To, body: Body) -> Option<Event> {
        let at = self.index(leg).ok()?;
        match self.legs[at].whisper(now, to, body) {
            Output::Send { event, .. } => Some(*event),
            _ => None,
        }
    }

    pub(super) fn index(&self, leg: LegId) -> Result<usize, Refusal> {
        self.legs
            .iter()
            .position(|l| l.id == leg)
            .ok_or(Refusal::new(Code::NotFound, "this leg is no longer part of the call"))
    }

    pub(super) fn live(&self, leg: LegId) -> Result<usize, Refusal> {
        let at = self.index(leg)?;
        if self.legs[at].live() {
            Ok(at)
        } else {
            Err(Refusal::new(Code::CallEnded, "the call has ended; its description says how"))
        }
    }

    /// Who hears a leg.
    pub(super) fn peer(&self, leg: LegId) -> Option<usize> {
        let (a, b) = self.pair?;
        let other = if leg == a {
            b
        } else if leg == b {
            a
        } else {
            return None;
        };
        self.index(other).ok().filter(|at| self.legs[*at].live())
    }

    pub(super) fn tell(&mut self, now: Timestamp, at: usize, body: Body, handler: Option<HandlerKey>) {
        let output = self.legs[at].tell(now, body, handler);
        self.outputs.push_back(output);
        self.changed = true;
    }

    /// New directives, to both legs of the pair.
    pub(super) fn tell_directives(&mut self, now: Timestamp) {
        let Some((a, b)) = self.pair else { return };
        for at in [self.index(a), self.index(b)].into_iter().flatten() {
            if self.legs[at].live() {
                let (client_directives, server_directives) = self.directive_values(at);
                self.tell(now, at, Body::Directives { client_directives, server_directives }, None);
            }
        }
    }

    fn opened(&mut self, now: Timestamp, at: usize, byway: u64, kind: ByWay, after: Option<u64>) {
        let directives = self.directive_values(at);
        let leg = &mut self.legs[at];
        if leg.live() {
            leg.byways.insert(byway, kind);
            self.changed |= leg.silent_since.take().is_some();
        }
        let leg = &self.legs[at];
        if let ByWay::Reverse(asker) = kind {
            for event in leg.greeting(now, asker, after, directives) {
                self.outputs.push_back(Output::Send {
                    leg: leg.id,
                    to: To::Byway(byway),
                    event: Box::new(event),
                });
            }
            if !leg.live() {
                self.outputs.push_back(Output::Close { leg: leg.id });
            }
        }
    }

    fn client_event(
        &mut self,
        now: Timestamp,
        leg: LegId,
        handler: HandlerKey,
        seq: Option<u64>,
        body: &ClientBody,
    ) -> Result<Accepted, Refusal> {
        let at = self.live(leg)?;
        let newest = self.legs[at].accepted.get(&handler).copied();
        // wire §4: (handler, seq) seen again is ignored, so a retry is safe; gaps are legal.
        if let (Some(seq), Some(newest)) = (seq, newest)
            && seq <= newest
        {
            return Ok(Accepted { seq: newest });
        }
        // The drafts' clients number nothing: each of their events is the next.
        let seq = seq.unwrap_or(newest.map_or(1, |n| n.saturating_add(1)));
        self.apply(now, at, handler, seq, body)?;
        if self.legs[at].byways.is_empty() && self.legs[at].silent_since.is_some() {
            self.legs[at].silent_since = Some(now);
        }
        if self.legs[at].accepted.len() < super::leg::MAX_BRANCHES
            || self.legs[at].accepted.contains_key(&handler)
        {
            self.legs[at].accepted.insert(handler, seq);
        }
        self.changed |= !matches!(body, ClientBody::Ping { .. } | ClientBody::Quality { .. });
        Ok(Accepted { seq })
    }

    fn apply(
        &mut self,
        now: Timestamp,
        at: usize,
        handler: HandlerKey,
        seq: u64,
        body: &ClientBody,
    ) -> Result<(), Refusal> {
        match body {
            ClientBody::Proceeding => self.called(at).map(|()| self.admit_ringing(at, handler)),
            ClientBody::Alerting => self.alerting(now, at, handler),
            ClientBody::Progress => self.progress(now, at, handler),
            ClientBody::Answered => self.answered(now, at, handler),
            ClientBody::Declined { reason, scope } => {
                self.out(now, at, handler, super::leg::Out::Declined(reason.clone()), *scope)
            }
            ClientBody::Failed { reason } => {
                self.out(now, at, handler, super::leg::Out::Failed(reason.clone()), Default::default())
            }
            ClientBody::NoAnswer { reason } => {
                self.out(now, at, handler, super::leg::Out::NoAnswer(reason.clone()), Default::default())
            }
            ClientBody::End { reason } => {
                self.hang_up(now, at, handler, reason.as_deref());
                Ok(())
            }
            ClientBody::Hold => self.hold(now, at, handler, true),
            ClientBody::Resume => self.hold(now, at, handler, false),
            ClientBody::Dtmf { digit, duration } => self.dtmf(now, at, *digit, *duration),
            ClientBody::Transfer { target, replaces } => {
                self.transfer(now, at, handler, seq, target, replaces.as_deref())
            }
            ClientBody::Ping { nonce } => {
                let pong =
                    self.legs[at].whisper(now, To::Handler(handler), Body::Pong { nonce: nonce.clone() });
                self.outputs.push_back(pong);
                Ok(())
            }
            ClientBody::Quality { .. } | ClientBody::Unknown => Ok(()),
        }
    }

    /// Somebody hung up or gave up.
    fn hang_up(&mut self, now: Timestamp, at: usize, handler: HandlerKey, reason: Option<&str>) {
        let party = self.legs[at].party;
        let id = self.legs[at].id;
        let outcome = match (self.legs[at].state, self.legs[at].direction) {
            (State::Answered, _) => Outcome::Completed,
            (_, CallDirection::Outbound) => Outcome::Cancelled,
            (_, CallDirection::Inbound) => Outcome::Declined,
        };
        let reason = reason.unwrap_or(outcome.as_str()).to_owned();
        // A user who hands the other side on and then hangs up does not take the call along.
        if self.transfer.as_ref().is_some_and(|t| t.by == id) {
            self.end_leg(now, at, party, Some(handler), &reason, outcome);
            return;
        }
        if self.transfer.as_ref().is_some_and(|t| t.target == Some(id)) {
            self.transfer_target_out(now, &super::leg::Out::Declined(reason));
            return;
        }
        self.end(now, party, Some((at, handler)), &reason, outcome);
    }

    /// The end of all legs.
    pub(super) fn end(
        &mut self,
        now: Timestamp,
        by: Party,
        ender: Option<(usize, HandlerKey)>,
        reason: &str,
        outcome: Outcome,
    ) {
        for at in 0..self.legs.len() {
            // The device is the ender's own affair: the other side learns the party only.
            let handler = ender.filter(|(leg, _)| *leg == at).map(|(_, key)| key);
            self.end_leg(now, at, by, handler, reason, outcome);
        }
        self.transfer = None;
        self.routing = false;
    }

    pub(super) fn end_leg(
        &mut self,
        now: Timestamp,
        at: usize,
        by: Party,
        handler: Option<HandlerKey>,
        reason: &str,
        outcome: Outcome,
    ) {
        if !self.legs[at].live() {
            return;
        }
        let leg = &mut self.legs[at];
        leg.state = State::Ended;
        leg.claim = None;
        leg.deadline = None;
        leg.silent_since = None;
        leg.ending = Some(Ending { at: now, by, handler, reason: reason.to_owned(), outcome });
        self.tell(now, at, Body::Ended { by, reason: reason.to_owned() }, handler);
        self.legs[at].byways.clear();
        self.outputs.push_back(Output::Close { leg: self.legs[at].id });
    }

    /// Where the destination of `purpose` is to be looked for.
    pub(super) fn route(&mut self, destination: Number, purpose: Purpose) {
        self.outputs.push_back(Output::Route { destination, purpose });
    }

    /// Both directives of a leg, in the form its user speaks.
    pub(super) fn directive_values(&self, at: usize) -> (Value, Value) {
        let (client, server) = self.directives(at);
        let form = self.legs[at].form();
        (client.to_value(form), server.to_value(form))
    }
}
