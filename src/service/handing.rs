//! Transfers: the target is found as the callee of a call is, here or behind a gateway, and both whom it joins are told of
//! each other what the server can say.

use std::sync::Arc;

use super::Service;
use super::actor::{Actor, Command, routed};
use super::away::{Found, strength};
use super::gateway::{Departure, Target};
use crate::call::{Input, Leg, Purpose};
use crate::identity::passport::Attest;
use crate::protocol::id::TgId;
use crate::protocol::number::{Destinations, Number};
use crate::protocol::problem::{Code, Problem};

/// What a blind transfer's search came to: what the machine is told, and who is to be called where first.
type Led = (Vec<Input>, Option<(Target, TgId, Departure)>);

impl Actor {
    /// Blind transfer: finds the target.
    pub(super) fn hand_on(&mut self, service: &Arc<Service>, destination: Number) {
        match self.lead_on(service, &destination) {
            Ok((inputs, None)) => self.follow_up(inputs),
            Ok((inputs, Some((target, tg, call)))) => {
                let (service, own) = (service.clone(), self.own.clone());
                self.tasks.spawn(async move {
                    let leaving = service.depart(target, &tg, call).await.map(Box::new);
                    let Some(mailbox) = own.upgrade() else { return };
                    for input in inputs {
                        let _ = mailbox.send(Command::Input(Box::new(input), None)).await;
                    }
                    let _ = mailbox.send(Command::Depart(Purpose::Transfer, leaving)).await;
                });
            }
            Err(problem) => {
                let (purpose, code) = (Purpose::Transfer, problem.code);
                self.follow_up(vec![Input::NotRouted { purpose, code }]);
            }
        }
    }

    fn lead_on(&self, service: &Service, destination: &Number) -> Result<Led, Problem> {
        let over = || Problem::new(Code::IllegalEvent, "that transfer is over");
        let (word, (by, keep)) = self.call.word().zip(self.call.handing()).ok_or_else(over)?;
        let withheld = keep.is_outbound() && keep.withholds();
        let target = service.word(word, destination, strength(&keep.user)).map(|told| {
            let withheld = withheld || told.withheld;
            crate::call::Caller { withheld, ..told }
        });
        let kept = |attest: Attest| {
            let kept = self.call.kept().map(|own| service.attest(destination, own, attest));
            kept.transpose()
        };
        match service.find(destination, &by.user)? {
            Found::Here(leg) => {
                let word = Input::Vouched { target: Some(target?), kept: kept(Attest::A)? };
                Ok((vec![word, routed(Purpose::Transfer, leg)], None))
            }
            Found::Away(network) => {
                service.may_lead(by, destination, &network, withheld)?;
                let (told, from) = (target.ok(), keep.own().clone());
                let (passport, div) =
                    service.papers(&network, told.as_ref(), [&from, destination], strength(&keep.user))?;
                // What the other network makes of it the one who stays learns without proof, where there is none.
                let word = Input::Vouched { target: told, kept: kept(Attest::C).unwrap_or_default() };
                let advertisement = keep.advertisement().cloned().unwrap_or_default();
                let call = Departure {
                    div,
                    withheld,
                    diverted_by: (!by.is_outbound() || !by.withholds()).then(|| by.own().clone()),
                    rules: service.rules(&by.tg),
                    ..Departure::new(from, destination.clone(), passport, advertisement)
                };
                Ok((vec![word], Some((network, by.tg.clone(), call))))
            }
        }
    }

    /// Attended transfer: who was called and talks to another now is told of whom, where the server can say.
    pub(super) async fn introduce(&mut self, service: &Service, leg: &Leg) {
        let handing = self.call.word().zip(self.call.handing());
        let told = handing.zip(leg.called());
        let target =
            told.and_then(|((word, (_, keep)), to)| service.word(word, to, strength(&keep.user)).ok());
        let kept = self.call.kept().and_then(|own| service.attest(leg.own(), own, strength(&leg.user)).ok());
        if let Err(problem) = self.input(Input::Vouched { target, kept }).await {
            tracing::warn!(code = problem.code.as_str(), "a transfer could not be written down");
        }
    }
}

impl Service {
    /// Whom a TG's users may call.
    pub(super) fn rules(&self, tg: &TgId) -> Destinations {
        self.settings.tg(tg.as_str()).map_or_else(Destinations::none, |tg| tg.destinations.clone())
    }

    /// Who hands on to another network calls there, for what it costs and at whose pace.
    fn may_lead(&self, by: &Leg, to: &Number, network: &Target, withheld: bool) -> Result<(), Problem> {
        if !self.rules(&by.tg).allow(to) {
            return Err(Problem::new(Code::DestinationNotAllowed, "this TG takes no calls to that target"));
        }
        if withheld && !self.gateway()?.withholds(network) {
            let why = "the next server would tell the number of a caller who withholds it";
            return Err(Problem::new(Code::Unreachable, why));
        }
        self.pace(&by.user, &by.tg)
    }
}
