//! What happens in a call that stands: hold, digits, transfer, moving between devices and between calls.

use super::leg::{Device, Out};
use super::machine::{Transfer, illegal};
use super::{Call, Caller, Leg, NewLeg, Output, Purpose, Refusal, To, Word};
use crate::protocol::event::{Body, Outcome, Party, State};
use crate::protocol::id::{HandlerKey, LegId};
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::protocol::resource::{CallDirection, TapReason, split_path};
use crate::protocol::time::Timestamp;

/// Legs of one call, those that are over included.
const MOST_LEGS: usize = 64;

impl Call {
    fn talking(&self, at: usize) -> Result<(), Refusal> {
        if self.legs[at].state == State::Answered {
            Ok(())
        } else {
            Err(illegal("the call isn't answered yet"))
        }
    }

    pub(super) fn hold(
        &mut self,
        now: Timestamp,
        at: usize,
        key: HandlerKey,
        on: bool,
    ) -> Result<(), Refusal> {
        self.talking(at)?;
        if self.legs[at].held == on {
            return Err(illegal(if on { "this leg holds already" } else { "this leg doesn't hold" }));
        }
        let by = self.legs[at].party;
        self.legs[at].held = on;
        let body = || if on { Body::Hold { by } } else { Body::Resume { by } };
        self.tell(now, at, body(), Some(key));
        if let Some(peer) = self.peer(self.legs[at].id) {
            self.tell(now, peer, body(), None);
        }
        self.tell_directives(now);
        Ok(())
    }

    pub(super) fn dtmf(
        &mut self,
        now: Timestamp,
        at: usize,
        digit: char,
        duration: u32,
    ) -> Result<(), Refusal> {
        let id = self.legs[at].id;
        let Some(peer) = self.peer(id) else {
            return Err(illegal("nobody is there yet to hear a digit"));
        };
        if self.legs[at].state != State::Answered && self.legs[peer].progress.is_none() {
            return Err(illegal("digits go through after the answer or during early media"));
        }
        // wire §4: chunks carry the digits where directives list telephone-event; the server converts.
        if self.takes_telephone_event(peer) {
            self.outputs.push_back(Output::Digit { leg: self.legs[peer].id, digit, duration });
        } else {
            self.tell(now, peer, Body::Dtmf { digit, duration }, None);
        }
        Ok(())
    }

    /// Asks a device, over the push channel, to answer or to take the call.
    pub(super) fn tap(&mut self, at: usize, handler: HandlerKey) {
        let reason = match (self.legs[at].state, self.legs[at].direction) {
            (State::Answered, _) => TapReason::Take,
            (_, CallDirection::Inbound) => TapReason::Answer,
            (_, CallDirection::Outbound) => TapReason::Outgoing,
        };
        self.outputs.push_back(Output::Tap { leg: self.legs[at].id, only: Some(handler), reason });
    }

    pub(super) fn device_changed(&mut self, now: Timestamp, device: Device) {
        let mut carries = false;
        for leg in self.legs.iter_mut().filter(|l| l.live()) {
            let key = device.key;
            if let Some(branch) = leg.branch_mut(key) {
                branch.device = device.clone();
                carries |= leg.handler == Some(key);
                self.changed = true;
            }
        }
        if carries {
            self.tell_directives(now);
        }
    }

    pub(super) fn transfer(
        &mut self,
        now: Timestamp,
        at: usize,
        key: HandlerKey,
        ref_seq: u64,
        target: &str,
        replaces: Option<&str>,
    ) -> Result<(), Refusal> {
        self.talking(at)?;
        let id = self.legs[at].id;
        let Some(keep) = self.peer(id).map(|peer| self.legs[peer].id) else {
            return Err(illegal("there is nobody to hand on"));
        };
        if self.transfer.is_some() {
            return Err(illegal("a transfer is under way already"));
        }
        self.has_room()?;
        let to: Number = target.parse().map_err(|_| {
            Refusal::new(Code::BadNumber, "`target` is to be a number or address: +14085551000")
        })?;
        let fetch = replaces.map(|uri| {
            split_path(uri, "calls")
                .and_then(|(_, leg)| leg.parse::<LegId>().ok())
                .ok_or(Refusal::new(Code::BadEvent, "`replaces` is to be the URI of this user's other call"))
        });
        let fetch = fetch.transpose()?;
        if fetch.is_some_and(|leg| self.index(leg).is_ok()) {
            return Err(Refusal::new(Code::BadEvent, "`replaces` is to be another call than this one"));
        }
        self.transfer = Some(Transfer {
            by: id,
            by_handler: key,
            keep,
            target: None,
            vouched: None,
            target_vouched: None,
            to: to.clone(),
            ref_seq: Some(ref_seq),
        });
        self.tell(now, at, Body::Transferring, Some(key));
        match fetch {
            Some(replaces) => {
                let user = self.legs[at].user.clone();
                self.outputs.push_back(Output::Fetch { replaces, user });
            }
            None => self.route(to, Purpose::Transfer),
        }
        Ok(())
    }

    /// Legs that are over stay readable, so they can't be without number.
    pub(super) fn has_room(&self) -> Result<(), Refusal> {
        let room = self.legs.len() < MOST_LEGS;
        room.then_some(())
            .ok_or(Refusal::new(Code::TooMany, "this call was handed on as often as calls may be"))
    }

    /// What the target is to be told of who is handed on, for the server to say.
    pub fn word(&self) -> Option<Word> {
        let (by, keep) = self.handing()?;
        let orig = keep.own.clone();
        Some(match (&by.caller, by.direction, keep.direction) {
            (Some(caller), CallDirection::Inbound, CallDirection::Outbound) => {
                Word::Divert { caller: caller.clone(), orig, div: by.own.clone() }
            }
            _ => Word::Vouch(orig),
        })
    }

    /// Who hands on, and who is handed on.
    pub fn handing(&self) -> Option<(&Leg, &Leg)> {
        let transfer = self.transfer.as_ref()?;
        let (by, keep) = (self.index(transfer.by).ok()?, self.index(transfer.keep).ok()?);
        Some((&self.legs[by], &self.legs[keep]))
    }

    /// The number of who is handed on, if they were called: then it is they who are to be told of the target. Who placed the
    /// call knows by whom they are taken on, and reads their own PASSporT.
    pub fn kept(&self) -> Option<&Number> {
        self.legs[self.index(self.transfer.as_ref()?.keep).ok()?].called()
    }

    pub(super) fn vouched(&mut self, target: Option<Caller>, kept: Option<Caller>) {
        if let Some(transfer) = &mut self.transfer {
            (transfer.vouched, transfer.target_vouched) = (target, kept);
            self.changed = true;
        }
    }

    pub(super) fn transfer_routed(&mut self, now: Timestamp, spec: NewLeg) {
        let Some(transfer) = self.transfer.as_ref().filter(|transfer| transfer.target.is_none()) else {
            return;
        };
        let (by, keep) = (transfer.by, transfer.keep);
        let (Ok(by), Ok(keep)) = (self.index(by), self.index(keep)) else { return };
        if !self.fits(keep, &spec) {
            let code = Code::NoCommonCodec.as_str();
            return self.transfer_failed(now, code, "the target and the other side share no codec");
        }
        if let Some(transfer) = &mut self.transfer {
            transfer.target = Some(spec.id);
        }
        let remote = self.legs[keep].own.clone();
        let caller = self.transfer.as_ref().and_then(|t| t.vouched.clone());
        let party = self.legs[by].party;
        let mut leg = Leg::new(now, spec, CallDirection::Inbound, party, remote, caller);
        leg.deadline = Some(now + self.timing.answer);
        self.ring(now, leg);
    }

    /// The target is out; the two who talk go on talking.
    pub(super) fn transfer_target_out(&mut self, now: Timestamp, how: &Out) {
        let Some(target) = self.transfer.as_ref().and_then(|t| t.target) else { return };
        let (body, by, reason, outcome) = how.outcome();
        if let Ok(at) = self.index(target) {
            self.tell(now, at, body, None);
            self.end_leg(now, at, by, None, &reason, outcome);
        }
        self.transfer_failed(now, &reason, outcome.as_str());
    }

    pub(super) fn transfer_failed(&mut self, now: Timestamp, code: &str, detail: &str) {
        let Some(transfer) = self.transfer.take() else { return };
        self.changed = true;
        let Ok(by) = self.index(transfer.by) else { return };
        if self.legs[by].live() {
            let error = Body::Error {
                code: code.to_owned(),
                detail: Some(format!("the transfer failed: {detail}")),
                ref_seq: transfer.ref_seq,
            };
            let error = self.legs[by].whisper(now, To::Handler(transfer.by_handler), error);
            self.outputs.push_back(error);
        } else {
            // Who handed on has left: nobody remains for the one who waited.
            self.end(now, Party::Server, None, code, Outcome::Completed);
        }
    }

    /// The target answered: it and the one who stayed are joined, who handed on is let go.
    pub(super) fn transfer_done(&mut self, now: Timestamp, target: usize) {
        let Some(transfer) = self.transfer.take() else { return };
        self.changed = true;
        self.pair = Some((transfer.keep, self.legs[target].id));
        if let Ok(by) = self.index(transfer.by)
            && self.legs[by].live()
        {
            self.tell(now, by, Body::Moved { to: transfer.to.to_string() }, None);
            self.end_leg(now, by, Party::Server, None, "transferred", Outcome::Completed);
        }
        if let Ok(keep) = self.index(transfer.keep) {
            self.legs[keep].remote = transfer.to;
            if self.legs[keep].called().is_some() {
                // The PASSporT of who called proves nothing of the target.
                self.legs[keep].caller = transfer.target_vouched;
            }
            self.legs[keep].version += 1;
        }
    }

    /// Attended transfer, in the other call: the leg opposite to `by` goes, `by` ends.
    pub(super) fn release(&mut self, now: Timestamp, by: LegId, user: &str) -> Result<(), Refusal> {
        let at = self.live(by)?;
        if self.legs[at].user != user {
            return Err(Refusal::new(Code::NotFound, "there is no such call"));
        }
        self.talking(at)?;
        let Some(peer) = self.peer(by).filter(|_| self.transfer.is_none()) else {
            return Err(illegal("there is nobody to hand on"));
        };
        let to = self.legs[peer].own.to_string();
        self.tell(now, at, Body::Moved { to }, None);
        self.end_leg(now, at, Party::Server, None, "transferred", Outcome::Completed);
        self.pair = None;
        let leg = self.legs.remove(peer);
        self.outputs.push_back(Output::Released(Box::new(leg)));
        Ok(())
    }

    pub(super) fn adopt(&mut self, now: Timestamp, leg: Leg) {
        let own = leg.own.clone();
        let party = self
            .transfer
            .as_ref()
            .and_then(|t| self.index(t.by).ok())
            .map_or(leg.party, |by| self.legs[by].party);
        let remote = self
            .transfer
            .as_ref()
            .and_then(|t| self.index(t.keep).ok())
            .map_or_else(|| leg.remote.clone(), |keep| self.legs[keep].own.clone());
        let mut leg = Leg { party, remote, ..leg };
        if leg.called().is_some() {
            leg.caller = self.transfer.as_ref().and_then(|t| t.vouched.clone());
        }
        self.legs.push(leg);
        let at = self.legs.len() - 1;
        if self.transfer.is_some() {
            self.transfer_done(now, at);
            let pair = self.pair;
            if let Some(keep) = pair.and_then(|(keep, _)| self.index(keep).ok()) {
                self.legs[keep].remote = own;
            }
            self.tell_directives(now);
        } else {
            // Who was to stay has left meanwhile.
            self.end_leg(now, at, Party::Server, None, "transferred", Outcome::Completed);
        }
    }
}
