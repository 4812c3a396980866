//! Somebody takes the place of a leg from outside, as RFC 3891 has it: the other side goes on with them, or, where the leg was
//! still called, has its answer.

use super::machine::illegal;
use super::{Call, Caller, Leg, NewLeg, Refusal};
use crate::protocol::event::{Outcome, Party, State};
use crate::protocol::id::LegId;
use crate::protocol::problem::Code;
use crate::protocol::time::Timestamp;

impl Call {
    pub(super) fn replace(
        &mut self,
        now: Timestamp,
        leg: LegId,
        with: NewLeg,
        told: Option<Caller>,
    ) -> Result<(), Refusal> {
        let at = self.live(leg)?;
        if self.transfer.is_some() {
            return Err(illegal("a transfer is under way"));
        }
        self.has_room()?;
        let keep = self.peer(leg).ok_or(illegal("nobody is there to talk to"))?;
        let outcome = match (self.legs[at].state, self.legs[at].called().is_some()) {
            (State::Answered, _) => Outcome::Completed,
            (_, true) => Outcome::Cancelled,
            (_, false) => return Err(illegal("the call isn't answered yet")),
        };
        if !self.fits(keep, &with) {
            return Err(Refusal::new(Code::NoCommonCodec, "who comes and the other side share no codec"));
        }
        let (own, handler) = (with.own.clone(), with.handler);
        let (direction, party) = (self.legs[at].direction, self.legs[at].party);
        // Who is called reads who calls: the PASSporT for who was there before proves nothing to who is now.
        let caller = told.clone().filter(|_| self.legs[at].called().is_none());
        let remote = self.legs[keep].own.clone();
        let new = Leg::new(now, with, direction, party, remote, caller);
        let id = new.id;
        self.legs.push(new);
        self.pair = Some((self.legs[keep].id, id));
        self.legs[keep].remote = own;
        self.legs[keep].version += 1;
        if self.legs[keep].called().is_some() {
            self.legs[keep].caller = told;
        }
        self.end_leg(now, at, Party::Server, None, "transferred", outcome);
        let new = self.legs.len() - 1;
        self.establish(now, new, handler);
        self.establish(now, keep, None);
        self.tell_directives(now);
        Ok(())
    }
}
