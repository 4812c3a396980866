//! Calls that leave by a gateway: finding their way out, and the leg that stands for the far side here.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;

use super::Service;
use super::actor::CallHandle;
use super::gateway::{Departed, Departure, Gateway, Line, OurEnd, Pending, Target};
use crate::call::{Call, Device, Input, NewLeg, Tapped};
use crate::identity::passport::Attest;
use crate::protocol::advertisement::Form;
use crate::protocol::event::ClientBody;
use crate::protocol::id::{HandlerKey, LegId, TgId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};

/// Whose the far sides' legs are: no token's user has this name.
pub(super) const GATEWAY: &str = "gateway";

/// RFC 8588 §4: what the server's word is worth for a number: its own users' tokens named theirs; of the far sides' it knows only by
/// which gateway they are reached.
pub(super) fn strength(user: &str) -> Attest {
    if user == GATEWAY { Attest::C } else { Attest::A }
}

/// Who is called.
#[derive(Debug)]
pub(crate) enum Found {
    /// A user of this server.
    Here(NewLeg),
    /// Somebody behind a gateway.
    Away(Target),
}

/// A leg that a gateway carries, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Away {
    pub(crate) leg: LegId,
    pub(crate) device: Device,
    pub(crate) record: Value,
}

/// A call's legs that gateways carry: what is written down of each, and the task that does it.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<Carried>);

/// A leg that a gateway carries; dropped, it is let go.
#[derive(Debug)]
pub(crate) struct Carried {
    away: Away,
    task: Option<AbortOnDropHandle<()>>,
}

impl Lines {
    /// Written down from now on, though nobody carries it yet.
    pub(crate) fn add(&mut self, away: Away) {
        self.0.push(Carried { away, task: None });
    }

    /// Carries a leg that was added.
    pub(crate) fn carry(
        &mut self,
        service: &Service,
        leg: LegId,
        line: Option<Box<dyn Line>>,
        calls: CallHandle,
    ) {
        if let Some(carried) = self.0.iter_mut().find(|carried| carried.away.leg == leg) {
            let task = tokio::spawn(carry(service, carried.away.clone(), line, calls));
            carried.task = Some(AbortOnDropHandle::new(task));
        }
    }

    /// How a leg is found again from now on; false: nobody carries it here.
    pub(crate) fn renew(&mut self, leg: LegId, record: Value) -> bool {
        let found = self.0.iter_mut().find(|carried| carried.away.leg == leg);
        found.map(|carried| carried.away.record = record).is_some()
    }

    /// Takes a leg out, with the task that carries it: it goes to another call.
    pub(crate) fn take(&mut self, leg: LegId) -> Option<Carried> {
        let at = self.0.iter().position(|carried| carried.away.leg == leg)?;
        Some(self.0.swap_remove(at))
    }

    /// A leg that comes from another call.
    pub(crate) fn put(&mut self, carried: Carried) {
        self.0.push(carried);
    }

    /// What is to be written down: of legs that are over, nothing is taken up again.
    pub(crate) fn records(&self, call: &Call) -> Vec<&Away> {
        let live = |away: &&Away| call.legs().any(|leg| leg.id == away.leg && !leg.ended());
        self.0.iter().map(|carried| &carried.away).filter(live).collect()
    }
}

/// Reads a list, or the one that there could be before.
pub(crate) fn one_or_more<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Away>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(Away),
        More(Vec<Away>),
    }
    Ok(match Written::deserialize(input)? {
        Written::One(away) => vec![away],
        Written::More(all) => all,
    })
}

/// A leg that a gateway is about to carry.
pub(crate) struct Leaving {
    pub(crate) leg: NewLeg,
    pub(crate) away: Away,
    pub(crate) line: Box<dyn Line>,
}

impl std::fmt::Debug for Leaving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaving").field("away", &self.away).finish_non_exhaustive()
    }
}

impl Leaving {
    fn new(tg: &TgId, to: &Number, departed: Departed) -> Self {
        let Departed { advertisement, record, line } = departed;
        let key = HandlerKey::random();
        let device = Device { key, tg: tg.clone(), advertisement, form: Form::Text };
        let leg = NewLeg {
            id: LegId::random(),
            tg: tg.clone(),
            user: GATEWAY.to_owned(),
            own: to.clone(),
            devices: vec![Tapped { device: device.clone(), reached: true }],
            handler: None,
        };
        Self { away: Away { leg: leg.id, device, record }, leg, line }
    }
}

impl Service {
    /// Who is called at a number: a device registered for just this number, a customer's TG, any other device, and last
    /// a provider.
    pub(crate) fn find(&self, to: &Number, by: &str) -> Result<Found, Problem> {
        let here = self.locate(to);
        let Some(gateway) = &self.settings.gateway else { return here.map(Found::Here) };
        // Another network's calls end here: none is carried from one provider to the next, nor led on at our cost by who
        // called in.
        if by == GATEWAY || gateway.is_peer(by) {
            return here.map(Found::Here);
        }
        // A customer whose own server doesn't know the number must not get the call back.
        let customer = self.consumers.find(to).filter(|customer| customer.user != by);
        match (here, customer) {
            (Ok(leg), Some(customer)) if leg.user != customer.user && self.registry.is_exact(to) => {
                Ok(Found::Here(leg))
            }
            (_, Some(customer)) => Ok(Found::Away(Target::Customer(customer))),
            (Ok(leg), None) => Ok(Found::Here(leg)),
            (Err(nobody), None) => gateway.route(to).map(Found::Away).ok_or(nobody),
        }
    }

    /// Places a call in the other network.
    pub(crate) async fn depart(
        &self,
        target: Target,
        tg: &TgId,
        call: Departure,
    ) -> Result<Leaving, Problem> {
        let to = call.to.clone();
        let departed = self.gateway()?.place(target, call).await?;
        Ok(Leaving::new(tg, &to, departed))
    }

    /// The way to other networks, if there is one.
    pub fn gateway(&self) -> Result<Arc<dyn Gateway>, Problem> {
        let none = || Problem::new(Code::Unreachable, "this server has no way to other networks");
        self.settings.gateway.clone().ok_or_else(none)
    }
}

/// Carries a leg until its call is over; without a line it is looked for first, as after a restart.
fn carry(service: &Service, away: Away, line: Option<Box<dyn Line>>, calls: CallHandle) -> Pending<()> {
    let Away { leg, device, record } = away;
    let handler = device.key;
    let (gateway, ports) = (service.settings.gateway.clone(), service.ports.clone());
    let line = match (line, gateway) {
        (None, Some(gateway)) => gateway.resume(record),
        (line, _) => Box::pin(std::future::ready(line)),
    };
    Box::pin(async move {
        match line.await {
            Some(line) => line.carry(OurEnd { leg, device, calls, ports }).await,
            None => {
                let body = ClientBody::End { reason: Some("lost".to_owned()) };
                let _ = calls.input(Input::Event { leg, handler, seq: None, body }).await;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Deserialize)]
    struct Written {
        #[serde(default, deserialize_with = "one_or_more")]
        away: Vec<Away>,
    }

    #[test]
    fn a_record_with_one_leg_away_is_read_like_one_with_several() {
        let tg = "t".parse().unwrap();
        let (key, advertisement) = (HandlerKey::random(), Default::default());
        let device = Device { key, tg, advertisement, form: Form::Text };
        let away =
            || json!(Away { leg: LegId::random(), device: device.clone(), record: json!({"way": "w"}) });
        for (written, legs) in [
            (json!({}), 0),
            (json!({"away": away()}), 1),
            (json!({"away": [away()]}), 1),
            (json!({"away": [away(), away()]}), 2),
        ] {
            assert_eq!(serde_json::from_value::<Written>(written).unwrap().away.len(), legs);
        }
        assert!(serde_json::from_value::<Written>(json!({"away": {"leg": "x"}})).is_err());
    }
}
