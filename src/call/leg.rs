//! One leg: a user's side of a call, shared by that user's devices.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BywayId, Caller, Output, To};
use crate::protocol::advertisement::{Advertisement, Form};
use crate::protocol::event::{Body, Direction, Event, Outcome, Party, Snapshot, State};
use crate::protocol::id::{HandlerKey, LegId, TgId};
use crate::protocol::number::Number;
use crate::protocol::resource::{CallDirection, call_path, handler_path};
use crate::protocol::time::Timestamp;

/// A handler as the call needs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Its name.
    pub key: HandlerKey,
    /// The TG on which it is registered.
    pub tg: TgId,
    /// What it can send and render.
    pub advertisement: Advertisement,
    /// Whether it speaks text or the JSON twin.
    pub form: Form,
}

/// A device, and whether a push channel reached it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tapped {
    /// The device.
    pub device: Device,
    /// Whether it was told.
    pub reached: bool,
}

/// Who is at a new leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewLeg {
    /// Its name.
    pub id: LegId,
    /// The TG below which it stands.
    pub tg: TgId,
    /// Whose it is.
    pub user: String,
    /// The user's own number in this call.
    pub own: Number,
    /// The user's devices.
    pub devices: Vec<Tapped>,
    /// The device that carries it from the start.
    pub handler: Option<HandlerKey>,
}

/// Which way a signalling byway carries events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ByWay {
    /// `GET …/events`.
    Reverse(Option<HandlerKey>),
    /// An open-ended `PUT …/events`.
    Forward(Option<HandlerKey>),
}

/// A device's part in a leg.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Branch {
    pub(super) device: Device,
    pub(super) reached: bool,
    pub(super) out: Option<Out>,
}

/// How a device, and then a leg, is out of the running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Out {
    Declined(String),
    Failed(String),
    NoAnswer(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ending {
    pub(super) at: Timestamp,
    pub(super) by: Party,
    pub(super) handler: Option<HandlerKey>,
    pub(super) reason: String,
    pub(super) outcome: Outcome,
}

/// One leg of a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leg {
    /// Its name.
    pub id: LegId,
    /// The TG below which it stands.
    pub tg: TgId,
    /// Whose it is.
    pub user: String,
    pub(super) direction: CallDirection,
    pub(super) party: Party,
    pub(super) own: Number,
    pub(super) remote: Number,
    pub(super) caller: Option<Caller>,
    pub(super) created: Timestamp,
    pub(super) state: State,
    pub(super) branches: Vec<Branch>,
    pub(super) handler: Option<HandlerKey>,
    pub(super) claim: Option<(HandlerKey, Timestamp)>,
    pub(super) progress: Option<HandlerKey>,
    pub(super) held: bool,
    pub(super) answered: Option<Timestamp>,
    pub(super) ending: Option<Ending>,
    pub(super) deadline: Option<Timestamp>,
    pub(super) silent_since: Option<Timestamp>,
    pub(super) version: u64,
    pub(super) seq: u64,
    pub(super) history: VecDeque<Event>,
    pub(super) accepted: BTreeMap<HandlerKey, u64>,
    pub(super) byways: BTreeMap<BywayId, ByWay>,
}

/// How many events of a leg are kept for byways that come back.
const HISTORY: usize = 256;
/// How many devices may have their part in one leg.
pub(super) const MAX_BRANCHES: usize = 64;

/// A leg as its user may read it; URIs are paths.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the members are those of CallDescription")]
pub struct LegView {
    pub id: LegId,
    pub tg: TgId,
    pub state: State,
    pub held: bool,
    pub outcome: Option<Outcome>,
    pub direction: CallDirection,
    pub accepted: Option<u64>,
    pub from: Number,
    pub to: Number,
    pub handler: Option<String>,
    pub caller: Option<Caller>,
    /// Where the caller said that they are.
    pub location: Option<Value>,
    pub client_directives: Value,
    pub server_directives: Value,
    pub created: Timestamp,
    pub answered: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub ended_by: Option<Party>,
    pub reason: Option<String>,
    pub version: u64,
}

/// RFC 3323 §4.1.1.3: who withholds their number.
fn anonymous() -> Number {
    Number::Address { local: "anonymous".to_owned(), domain: "anonymous.invalid".to_owned() }
}

impl Leg {
    /// Whether it is the caller's.
    pub fn is_outbound(&self) -> bool {
        self.direction == CallDirection::Outbound
    }

    pub(super) fn new(
        now: Timestamp,
        spec: NewLeg,
        direction: CallDirection,
        party: Party,
        remote: Number,
        caller: Option<Caller>,
    ) -> Self {
        let branches = spec.devices.into_iter().take(MAX_BRANCHES);
        Self {
            id: spec.id,
            tg: spec.tg,
            user: spec.user,
            direction,
            party,
            own: spec.own,
            remote,
            caller,
            created: now,
            state: State::Proceeding,
            branches: branches.map(|t| Branch { device: t.device, reached: t.reached, out: None }).collect(),
            handler: spec.handler,
            claim: None,
            progress: None,
            held: false,
            answered: None,
            ending: None,
            deadline: None,
            silent_since: None,
            version: 1,
            seq: 0,
            history: VecDeque::new(),
            accepted: BTreeMap::new(),
            byways: BTreeMap::new(),
        }
    }

    pub(super) fn from(&self) -> &Number {
        match self.direction {
            CallDirection::Outbound => &self.own,
            CallDirection::Inbound => &self.remote,
        }
    }

    pub(super) fn to(&self) -> &Number {
        match self.direction {
            CallDirection::Outbound => &self.remote,
            CallDirection::Inbound => &self.own,
        }
    }

    /// Its user's number.
    pub fn own(&self) -> &Number {
        &self.own
    }

    /// The number at which it was called; none on the leg of who placed the call.
    pub fn called(&self) -> Option<&Number> {
        (self.direction == CallDirection::Inbound).then_some(&self.own)
    }

    /// Whether who placed the call withheld their number.
    pub fn withholds(&self) -> bool {
        self.caller.as_ref().is_some_and(|caller| caller.withheld)
    }

    /// What the device that carries it can do.
    pub fn advertisement(&self) -> Option<&Advertisement> {
        self.branch(self.handler?).map(|branch| &branch.device.advertisement)
    }

    /// Whether it is over.
    pub fn ended(&self) -> bool {
        self.ending.is_some()
    }

    pub(super) fn live(&self) -> bool {
        self.ending.is_none()
    }

    pub(super) fn branch(&self, key: HandlerKey) -> Option<&Branch> {
        self.branches.iter().find(|b| b.device.key == key)
    }

    pub(super) fn branch_mut(&mut self, key: HandlerKey) -> Option<&mut Branch> {
        self.branches.iter_mut().find(|b| b.device.key == key)
    }

    /// Makes a device part of the leg, as it is now.
    pub(super) fn admit(&mut self, device: Device) {
        if let Some(branch) = self.branch_mut(device.key) {
            branch.device = device;
        } else if self.branches.len() < MAX_BRANCHES {
            self.branches.push(Branch { device, reached: false, out: None });
        }
    }

    /// Whether this device has a reverse byway open here.
    pub(super) fn listens(&self, key: HandlerKey) -> bool {
        self.byways.values().any(|b| *b == ByWay::Reverse(Some(key)))
    }

    /// The claim that is in force.
    pub(super) fn claimed_by(&self, now: Timestamp) -> Option<HandlerKey> {
        self.claim.filter(|(_, until)| now < *until).map(|(key, _)| key)
    }

    /// The devices whose capabilities count: the one that carries the call, or those that may yet.
    pub(super) fn candidates(&self) -> Vec<&Advertisement> {
        match self.handler.and_then(|key| self.branch(key)) {
            Some(branch) => vec![&branch.device.advertisement],
            None => {
                self.branches.iter().filter(|b| b.out.is_none()).map(|b| &b.device.advertisement).collect()
            }
        }
    }

    pub(super) fn form(&self) -> Form {
        let carrier = self.handler.and_then(|key| self.branch(key)).or(self.branches.first());
        carrier.map_or(Form::Text, |b| b.device.form)
    }

    pub(super) fn handler_path(&self, key: HandlerKey) -> String {
        let tg = self.branch(key).map_or(&self.tg, |b| &b.device.tg);
        handler_path(tg, key)
    }

    fn event(&self, now: Timestamp, body: Body, handler: Option<HandlerKey>, seq: Option<u64>) -> Event {
        Event {
            body,
            direction: Direction::ServerToClient,
            timestamp: now,
            call: call_path(&self.tg, self.id),
            seq,
            handler: handler.map(|key| self.handler_path(key)),
            snapshot: None,
        }
    }

    /// Says something that counts: numbered, kept, and sent to all.
    pub(super) fn tell(&mut self, now: Timestamp, body: Body, handler: Option<HandlerKey>) -> Output {
        self.seq += 1;
        self.version += 1;
        let event = self.event(now, body, handler, Some(self.seq));
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(event.clone());
        Output::Send { leg: self.id, to: To::All, event: Box::new(event) }
    }

    /// Says something that is over once said.
    pub(super) fn whisper(&self, now: Timestamp, to: To, body: Body) -> Output {
        let handler = match to {
            To::Handler(key) => Some(key),
            To::All | To::Byway(_) => None,
        };
        Output::Send { leg: self.id, to, event: Box::new(self.event(now, body, handler, None)) }
    }

    /// What a new byway is told: just what it missed, or the whole state.
    pub(super) fn greeting(
        &self,
        now: Timestamp,
        asker: Option<HandlerKey>,
        after: Option<u64>,
        directives: (Value, Value),
    ) -> Vec<Event> {
        let oldest = self.history.front().and_then(|e| e.seq).unwrap_or(self.seq + 1);
        if let Some(after) = after
            && after <= self.seq
            && after + 1 >= oldest
        {
            return self.history.iter().filter(|e| e.seq > Some(after)).cloned().collect();
        }
        let body = match (&self.ending, self.state) {
            (Some(end), _) => Body::Ended { by: end.by, reason: end.reason.clone() },
            (None, State::Answered) => Body::Answered,
            (None, State::Alerting) => Body::Alerting,
            (None, _) => Body::Proceeding,
        };
        let mut event = self.event(now, body, self.handler, Some(self.seq));
        event.snapshot = Some(Snapshot {
            snapshot: true,
            held: self.held,
            client_directives: directives.0,
            server_directives: directives.1,
            accepted: asker.and_then(|key| self.accepted.get(&key).copied()),
            outcome: self.ending.as_ref().map(|e| e.outcome),
        });
        vec![event]
    }

    pub(super) fn view(&self, asker: Option<HandlerKey>, directives: (Value, Value)) -> LegView {
        let end = self.ending.as_ref();
        let withheld = !self.is_outbound() && self.caller.as_ref().is_some_and(|caller| caller.withheld);
        LegView {
            id: self.id,
            tg: self.tg.clone(),
            state: self.state,
            held: self.held,
            outcome: end.map(|e| e.outcome),
            direction: self.direction,
            accepted: asker.and_then(|key| self.accepted.get(&key).copied()),
            from: if withheld { anonymous() } else { self.from().clone() },
            to: self.to().clone(),
            handler: self.handler.map(|key| self.handler_path(key)),
            caller: self.caller.clone().filter(|_| !withheld),
            location: self.caller.as_ref().and_then(|caller| caller.location.clone()),
            client_directives: directives.0,
            server_directives: directives.1,
            created: self.created,
            answered: self.answered,
            ended: end.map(|e| e.at),
            ended_by: end.map(|e| e.by),
            reason: end.map(|e| e.reason.clone()),
            version: self.version,
        }
    }
}
