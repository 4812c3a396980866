//! The call in virtual time.

mod control;
mod replace;
mod restore;
mod ring;

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::protocol::advertisement::Form;
use crate::protocol::event::{Body, Party, State};
use crate::protocol::id::{CallId, TgId};
use crate::protocol::resource::CallDirection;
use crate::protocol::time::Timestamp;

pub(super) const ALICE: LegId = LegId::from_u128(0xa);
pub(super) const BOB: LegId = LegId::from_u128(0xb);
pub(super) const CAROL: LegId = LegId::from_u128(0xc);
/// Alice's devices, Bob's devices.
pub(super) const A1: HandlerKey = HandlerKey::from_u128(0xa1);
pub(super) const A2: HandlerKey = HandlerKey::from_u128(0xa2);
pub(super) const B1: HandlerKey = HandlerKey::from_u128(0xb1);
pub(super) const B2: HandlerKey = HandlerKey::from_u128(0xb2);
pub(super) const C1: HandlerKey = HandlerKey::from_u128(0xc1);

const BOTH: &str = "1 in: opus; PCMU; 1 out: opus; PCMU;";

pub(super) fn device(key: HandlerKey, advertisement: &str) -> Device {
    Device {
        key,
        tg: tg(),
        advertisement: crate::protocol::advertisement::Advertisement::parse(advertisement).unwrap(),
        form: Form::Text,
    }
}

fn tg() -> TgId {
    "t".parse().unwrap()
}

fn number(text: &str) -> Number {
    text.parse().unwrap()
}

/// A call under test: a clock, the call, and all that it said.
#[derive(Clone)]
pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) call: Call,
    pub(super) out: Vec<Output>,
    seqs: u64,
}

fn leg(id: LegId, user: &str, own: &str, keys: &[HandlerKey], handler: Option<HandlerKey>) -> NewLeg {
    let devices = keys.iter().map(|k| Tapped { device: device(*k, BOTH), reached: true }).collect();
    NewLeg { id, tg: tg(), user: user.into(), own: number(own), devices, handler }
}

/// A leg with one device of that advertisement.
pub(super) fn leg_with(id: LegId, user: &str, own: &str, key: HandlerKey, advertisement: &str) -> NewLeg {
    let devices = vec![Tapped { device: device(key, advertisement), reached: true }];
    NewLeg { devices, ..leg(id, user, own, &[], None) }
}

impl World {
    /// Alice calls; nobody is found yet.
    pub(super) fn placed(handler: Option<HandlerKey>) -> Self {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let caller =
            Caller { passport: "p".into(), verification: json!({"status": "verified"}), ..Caller::default() };
        let spec = leg(ALICE, "alice", "+14085550001", &[A1, A2], handler);
        let call =
            Call::place(now, CallId::from_u128(1), Timing::default(), spec, number("+14085550002"), caller);
        let mut world = Self { now, call, out: vec![], seqs: 0 };
        world.drain();
        world
    }

    /// Alice calls Bob, whose two devices were tapped; each of the three has a byway.
    pub(super) fn ringing() -> Self {
        let mut world = Self::placed(Some(A1));
        world.route_bob();
        for (byway, leg, key) in [(1, ALICE, A1), (2, BOB, B1), (3, BOB, B2)] {
            world.open(leg, byway, Some(key), None);
        }
        world.out.clear();
        world
    }

    /// … and Bob answered on his first device.
    pub(super) fn talking() -> Self {
        let mut world = Self::ringing();
        world.claim(BOB, B1, None).unwrap();
        world.event(BOB, B1, ClientBody::Answered).unwrap();
        world.out.clear();
        world
    }

    pub(super) fn route(&mut self, purpose: Purpose, leg: NewLeg) {
        self.handle(Input::Routed { purpose, leg }).unwrap();
    }

    pub(super) fn route_bob(&mut self) {
        let spec = leg(BOB, "bob", "+14085550002", &[B1, B2], None);
        self.handle(Input::Routed { purpose: Purpose::Place, leg: spec }).unwrap();
    }

    pub(super) fn route_carol(&mut self) {
        let spec = leg(CAROL, "carol", "+14085550003", &[C1], None);
        self.handle(Input::Routed { purpose: Purpose::Transfer, leg: spec }).unwrap();
    }

    pub(super) fn handle(&mut self, input: Input) -> Result<Option<Accepted>, Code> {
        let done = self.call.handle(self.now, input).map_err(|r| r.code);
        self.drain();
        done
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            self.out.push(output);
        }
    }

    pub(super) fn open(&mut self, leg: LegId, byway: u64, key: Option<HandlerKey>, after: Option<u64>) {
        self.handle(Input::Opened { leg, byway, kind: ByWay::Reverse(key), after }).unwrap();
    }

    pub(super) fn claim(
        &mut self,
        leg: LegId,
        key: HandlerKey,
        intent: Option<Intent>,
    ) -> Result<Option<Accepted>, Code> {
        self.handle(Input::Claim { leg, device: device(key, BOTH), intent, if_match: None })
    }

    pub(super) fn event(
        &mut self,
        leg: LegId,
        handler: HandlerKey,
        body: ClientBody,
    ) -> Result<Option<Accepted>, Code> {
        self.seqs += 1;
        self.handle(Input::Event { leg, handler, seq: Some(self.seqs), body })
    }

    /// Lets time pass, with every timer fired when it is due.
    pub(super) fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.call.next_timer().filter(|t| *t <= until) {
            self.now = self.now.max(due);
            let before = (self.call.next_timer(), self.out.len());
            self.handle(Input::Tick).unwrap();
            if (self.call.next_timer(), self.out.len()) == before || self.out.last() == Some(&Output::Gone) {
                break;
            }
        }
        self.now = until;
    }

    /// What a leg was told since last asked, by type, oldest first.
    pub(super) fn told(&mut self, leg: LegId) -> Vec<String> {
        self.events(leg).iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect()
    }

    pub(super) fn events(&mut self, wanted: LegId) -> Vec<Value> {
        let (mine, rest) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|o| matches!(o, Output::Send { leg, .. } if *leg == wanted));
        self.out = rest;
        let to_json = |o: Output| match o {
            Output::Send { event, .. } => Some(event.to_json("")),
            _ => None,
        };
        let mine: Vec<Output> = mine;
        mine.into_iter().filter_map(to_json).collect()
    }

    pub(super) fn view(&self, leg: LegId) -> LegView {
        self.call.view(leg, None).unwrap()
    }

    pub(super) fn taps(&mut self) -> Vec<(LegId, Option<HandlerKey>, TapReason)> {
        let tap = |o: &Output| match o {
            Output::Tap { leg, only, reason } => Some((*leg, *only, *reason)),
            _ => None,
        };
        self.out.iter().filter_map(tap).collect()
    }

    pub(super) fn plan(&self, wanted: LegId) -> LegMedia {
        self.call.media_plan().legs.into_iter().find(|l| l.leg == wanted).unwrap()
    }
}

pub(super) fn rejected(scope: crate::protocol::event::Scope) -> ClientBody {
    ClientBody::Declined { reason: "rejected".into(), scope }
}

/// What a target is told, by a number that handed on.
pub(super) fn told_of(div: &str) -> Caller {
    let verification = json!({"status": "verified", "dest": div, "div": true});
    Caller { passport: "p".into(), verification, div: vec![format!("by {div}")], ..Caller::default() }
}

pub(super) const END: ClientBody = ClientBody::End { reason: None };

pub(super) fn is_ended(world: &World, leg: LegId, by: Party, outcome: &str, reason: &str) {
    let view = world.view(leg);
    assert_eq!(view.state, State::Ended);
    assert_eq!(view.ended_by, Some(by));
    assert_eq!(view.outcome.map(|o| o.as_str()), Some(outcome));
    assert_eq!(view.reason.as_deref(), Some(reason));
}

#[test]
fn both_sides_see_the_same_call_from_their_own_end() {
    let world = World::ringing();
    let (alice, bob) = (world.view(ALICE), world.view(BOB));
    assert_eq!((alice.direction, bob.direction), (CallDirection::Outbound, CallDirection::Inbound));
    assert_eq!((&alice.from, &alice.to), (&bob.from, &bob.to));
    assert_eq!(bob.caller.unwrap().passport, "p");
}

#[test]
fn the_first_event_is_proceeding_and_the_last_is_ended_with_rising_numbers() {
    let mut world = World::placed(Some(A1));
    world.route_bob();
    world.event(BOB, B1, ClientBody::Alerting).unwrap();
    world.claim(BOB, B1, Some(Intent::Answer)).unwrap();
    world.event(BOB, B1, ClientBody::Answered).unwrap();
    world.event(ALICE, A1, END).unwrap();
    for id in [ALICE, BOB] {
        let events = world.events(id);
        let seqs: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        assert_eq!(events.first().unwrap()["event"], "proceeding");
        assert_eq!(events.last().unwrap()["event"], "ended");
        assert_eq!(events.last().unwrap()["by"], "caller");
    }
}

#[test]
fn a_body_of_a_transient_event_has_no_number() {
    let world = World::talking();
    let event =
        world.call.transient(world.now, ALICE, To::Handler(A1), Body::Accepted { accepted: 3 }).unwrap();
    assert_eq!((event.seq, event.body), (None, Body::Accepted { accepted: 3 }));
}
