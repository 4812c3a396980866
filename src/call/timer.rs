//! Time: what falls due, and when to look again.

use super::leg::Out;
use super::{Call, Output};
use crate::protocol::event::{Outcome, Party, State};
use crate::protocol::resource::CallDirection;
use crate::protocol::time::Timestamp;

impl Call {
    /// When [`super::Input::Tick`] is due next.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let live = self.legs.iter().filter(|l| l.live());
        let due = live.flat_map(|l| [l.deadline, l.silent_since.map(|t| t + self.timing.signalling)]);
        due.flatten().min().or_else(|| self.forget_at())
    }

    fn forget_at(&self) -> Option<Timestamp> {
        let last = self.legs.iter().map(|l| l.ending.as_ref().map(|e| e.at)).max().flatten()?;
        self.over().then(|| last + self.timing.keep)
    }

    pub(super) fn tick(&mut self, now: Timestamp) {
        if self.legs.is_empty() || self.forget_at().is_some_and(|at| now >= at) {
            self.outputs.push_back(Output::Gone);
            return;
        }
        for at in 0..self.legs.len() {
            let leg = &self.legs[at];
            if !leg.live() {
                continue;
            }
            if leg.deadline.is_some_and(|t| now >= t) {
                self.legs[at].deadline = None;
                self.refused(now, at, &Out::NoAnswer("answer-timeout".into()));
            } else if leg.silent_since.is_some_and(|t| now >= t + self.timing.signalling) {
                self.fell_silent(now, at);
            }
        }
    }

    /// ript-core "Connection and Byway Lifecycle Management": without a signalling byway the call is over.
    fn fell_silent(&mut self, now: Timestamp, at: usize) {
        let leg = &self.legs[at];
        let outcome = match (leg.state, leg.direction) {
            (State::Answered, _) => Outcome::Completed,
            (_, CallDirection::Outbound) => Outcome::Cancelled,
            (_, CallDirection::Inbound) => Outcome::Failed,
        };
        let id = leg.id;
        if self.transfer.as_ref().is_some_and(|t| t.target == Some(id)) {
            self.transfer_target_out(now, &Out::Failed("no-signalling".into()));
        } else if self.transfer.as_ref().is_some_and(|t| t.by == id) {
            self.end_leg(now, at, Party::Server, None, "no-signalling", outcome);
        } else {
            self.end(now, Party::Server, None, "no-signalling", outcome);
        }
    }

    pub(super) fn restored(&mut self, now: Timestamp) {
        for leg in &mut self.legs {
            if leg.live() && !leg.byways.is_empty() {
                leg.byways.clear();
                leg.silent_since = Some(now);
            } else if leg.silent_since.is_some() {
                // The clock stood still while the server did.
                leg.silent_since = Some(now);
            }
        }
        if self.routing {
            let destination = self.destination.clone();
            self.route(destination, super::Purpose::Place);
        }
        // A transfer that was still looking for its target can't be taken up again.
        if self.transfer.as_ref().is_some_and(|t| t.target.is_none()) {
            self.transfer_failed(now, "failed", "the server was restarted");
        }
    }
}
