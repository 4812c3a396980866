//! Calls that come from another network by a gateway: here they are placed by the gateway's own device.

use std::sync::Arc;

use serde_json::Value;
use tokio::sync::oneshot;

use super::Service;
use super::actor::{Actor, CallHandle, Command, record, routed};
use super::away::{Away, GATEWAY};
use super::gateway::Line;
use super::joining::{Ready, Replace};
use crate::call::{Call, Caller, Device, NewLeg, Purpose, Tapped};
use crate::clock;
use crate::identity::canonical::Identity;
use crate::identity::passport::Attest;
use crate::protocol::advertisement::{Advertisement, Form};
use crate::protocol::directive::common_media;
use crate::protocol::id::{CallId, HandlerKey, LegId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::CallDirection;

/// A call that arrives.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Who calls, as the other network says; none: they withhold it.
    pub from: Option<Number>,
    /// What speaks for that.
    pub proof: Proof,
    /// The called side is told no number, though the network knows it.
    pub withheld: bool,
    /// Whom.
    pub to: Number,
    /// What the far side sends and renders, as far as is known yet.
    pub advertisement: Advertisement,
    /// What [`super::gateway::Gateway::resume`] finds it again by.
    pub record: Value,
}

/// What speaks for a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// The gateway's word, and how strong it is (RFC 8588 §4).
    Gateway(Attest),
    /// A PASSporT that came along.
    Passport {
        /// The caller's own.
        own: String,
        /// Whom it was made for.
        dest: Identity,
        /// RFC 8946: what leads from there to us, in this order.
        div: Vec<String>,
    },
}

impl Service {
    /// Places a call that arrived for users of this server; its line carries it. It never leaves by a gateway again.
    pub async fn arrive(
        self: &Arc<Self>,
        arrival: Arrival,
        line: Box<dyn Line>,
    ) -> Result<CallHandle, Problem> {
        let Arrival { from, proof, withheld, to, advertisement, record: found_by } = arrival;
        let callee = self.locate(&to)?;
        if !callee.devices.iter().any(|tapped| common_media(&advertisement, &tapped.device.advertisement)) {
            let why = "the far side shares no codec with any device of the destination";
            return Err(Problem::new(Code::NoCommonCodec, why));
        }
        let caller = self.introduced(from.as_ref(), proof, withheld, &to).await?;
        // Held until the call is in the directory.
        let _seats = self.seats(GATEWAY, &callee.tg)?;
        let device =
            Device { key: HandlerKey::random(), tg: callee.tg.clone(), advertisement, form: Form::Text };
        let leg = NewLeg {
            id: LegId::random(),
            tg: callee.tg.clone(),
            user: GATEWAY.to_owned(),
            own: from.unwrap_or_else(anonymous),
            devices: vec![Tapped { device: device.clone(), reached: true }],
            handler: Some(device.key),
        };
        let away = Away { leg: leg.id, device, record: found_by };
        let timing = self.settings.timing;
        let mut call = Call::place(clock::now(), CallId::random(), timing, leg, to, caller);
        if call.handle(clock::now(), routed(Purpose::Place, callee)).is_err() {
            return Err(Problem::new(Code::Internal, "a new call refused its callee"));
        }
        call.take_changed();
        self.store.0.write(vec![record(&call, None, None, &[&away])?]).await?;
        Ok(Actor::start(self, call, None, None, vec![(away, Some(line))]))
    }

    /// Puts a call that arrived into the place of a leg that a gateway carries (RFC 3891), where it is answered at once. Who may
    /// do that the gateway knows.
    pub async fn replace(&self, leg: LegId, arrival: Arrival, line: Box<dyn Line>) -> Result<(), Problem> {
        let gone = || Problem::new(Code::NotFound, "the call that is to be taken over is gone");
        let calls = self.directory.get(leg).ok_or_else(gone)?;
        let view = calls.view(leg, None).await?;
        let Arrival { from, proof, withheld, advertisement, record, .. } = arrival;
        let other = match view.direction {
            CallDirection::Outbound => &view.to,
            CallDirection::Inbound => &view.from,
        };
        let told = self.introduced(from.as_ref(), proof, withheld, other).await?;
        let tg = view.tg.clone();
        let device = Device { key: HandlerKey::random(), tg: tg.clone(), advertisement, form: Form::Text };
        let with = NewLeg {
            id: LegId::random(),
            tg,
            user: GATEWAY.to_owned(),
            own: from.unwrap_or_else(anonymous),
            devices: vec![Tapped { device: device.clone(), reached: true }],
            handler: Some(device.key),
        };
        let away = Away { leg: with.id, device, record };
        let (done, replaced) = oneshot::channel();
        let replace = Replace { leg, with, told: Some(told), away, line: Ready(line), done };
        calls.send(Command::Replace(Box::new(replace))).await?;
        replaced.await.map_err(|_| gone())?
    }

    /// Who calls, with what speaks for it.
    async fn introduced(
        &self,
        from: Option<&Number>,
        proof: Proof,
        withheld: bool,
        to: &Number,
    ) -> Result<Caller, Problem> {
        Ok(match (from, proof) {
            (None, _) => Caller { withheld: true, ..Caller::default() },
            (Some(from), Proof::Gateway(attest)) => Caller { withheld, ..self.attest(from, to, attest)? },
            (Some(from), Proof::Passport { own, dest, div }) => {
                Caller { withheld, ..self.verified(from, to, &own, &dest, div).await? }
            }
        })
    }
}

/// RFC 3323 §4.1.1.3: nobody in particular.
pub fn anonymous() -> Number {
    Number::Address { local: "anonymous".to_owned(), domain: "anonymous.invalid".to_owned() }
}
