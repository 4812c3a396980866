//! Calls that leave by a gateway: finding their way out, and the leg that stands for the far side here.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Service;
use super::actor::CallHandle;
use super::gateway::{Departed, Departure, Gateway, Line, OurEnd, Pending, Target};
use crate::call::{Device, Input, NewLeg, Tapped};
use crate::protocol::advertisement::Form;
use crate::protocol::event::ClientBody;
use crate::protocol::id::{HandlerKey, LegId, TgId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};

/// Whose the far sides' legs are: no token's user has this name.
pub(super) const GATEWAY: &str = "gateway";

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
        // Another server's calls end here: none is carried from one provider to the next.
        if gateway.is_peer(by) {
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
pub(crate) fn carry(
    service: &Service,
    away: Away,
    line: Option<Box<dyn Line>>,
    calls: CallHandle,
) -> Pending<()> {
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
