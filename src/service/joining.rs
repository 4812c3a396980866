//! Legs that change calls: attended transfer, in both of its calls; and a leg of which somebody from outside takes the place.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::Service;
use super::actor::{Actor, Answer, Command, Outlet};
use super::away::{Away, Carried};
use super::gateway::Line;
use super::moved::Onward;
use crate::call::{BywayId, Caller, Input, Leg, NewLeg};
use crate::protocol::id::LegId;
use crate::protocol::problem::{Code, Problem};

/// Attended transfer: another call asks for the leg opposite to this one.
#[derive(Debug)]
pub(crate) struct Release {
    pub(super) by: LegId,
    user: String,
    /// Who asks, and a place in its mailbox for the answer: what is sent on to it from then on comes after that.
    asker: Onward,
    place: mpsc::OwnedPermit<Command>,
    /// Dropped: this call was gone.
    heard: Answer<()>,
}

/// A call from another network takes the place of a leg (RFC 3891).
#[derive(Debug)]
pub(crate) struct Replace {
    pub(super) leg: LegId,
    pub(super) with: NewLeg,
    pub(super) told: Option<Caller>,
    pub(super) away: Away,
    pub(super) line: Ready,
    pub(super) done: Answer<Result<(), Problem>>,
}

/// What will carry a leg.
pub(super) struct Ready(pub(super) Box<dyn Line>);

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

/// A leg on its way from one call to another, with its open byways and what carries it.
#[derive(Debug)]
pub(crate) struct Parcel {
    leg: Box<Leg>,
    outlets: HashMap<BywayId, Outlet>,
    carried: Option<Carried>,
}

impl Actor {
    /// Attended transfer: asks the other call for its far leg. A task of its own, since that call may be
    /// asking this one for something at the same time.
    pub(super) fn fetch(&mut self, service: &Arc<Service>, replaces: LegId, user: String) {
        let other = service.directory.get(replaces);
        let (own, asker) = (self.own.clone(), self.handle().map(|calls| Onward::to(&calls)));
        self.tasks.spawn(async move {
            let ask = async {
                let (other, asker) = (other.ok_or(Code::NotFound)?, asker.ok_or(Code::NotFound)?);
                let mailbox = own.upgrade().ok_or(Code::NotFound)?;
                let place = mailbox.reserve_owned().await.map_err(|_| Code::NotFound)?;
                let (heard, was_heard) = oneshot::channel();
                let release = Release { by: replaces, user, asker, place, heard };
                other.send(Command::Release(Box::new(release))).await.map_err(|p| p.code)?;
                was_heard.await.map_err(|_| Code::NotFound)
            };
            let asked = ask.await;
            if let (Err(code), Some(mailbox)) = (asked, own.upgrade()) {
                let _ = mailbox.send(Command::Adopt(Err(code))).await;
            }
        });
    }

    pub(super) async fn release(&mut self, release: Release) {
        let Release { by, user, asker, place, heard } = release;
        let done = self.input(Input::Release { by, user }).await;
        let parcel = match (done, self.released.take()) {
            (Ok(_), Some(leg)) => {
                let outlets = self.outlets.extract_if(|_, o| o.leg == leg.id).collect();
                let carried = self.lines.take(leg.id);
                Ok(Box::new(Parcel { leg, outlets, carried }))
            }
            (Err(problem), _) => Err(problem.code),
            (Ok(_), None) => Err(Code::IllegalEvent),
        };
        let left = parcel.as_ref().ok().map(|parcel| parcel.leg.id);
        place.send(Command::Adopt(parcel));
        if let Some(leg) = left {
            self.moved.to(leg, asker);
        }
        let _ = heard.send(());
    }

    pub(super) async fn replace(&mut self, replace: Replace) {
        let Replace { leg, with, told, away, line, done } = replace;
        let id = away.leg;
        self.lines.add(away);
        let replaced = self.input(Input::Replace { leg, with: Box::new(with), told }).await;
        match (&replaced, self.service.upgrade(), self.handle()) {
            (Ok(_), Some(service), Some(calls)) => self.lines.carry(&service, id, Some(line.0), calls),
            _ => drop(self.lines.take(id)),
        }
        let _ = done.send(replaced.map(|_| ()));
    }

    /// Attended transfer: the other call's leg comes, or doesn't.
    pub(super) async fn adopt(&mut self, parcel: Result<Box<Parcel>, Code>) {
        let input = match parcel {
            Ok(parcel) => {
                let Parcel { leg, outlets, carried } = *parcel;
                self.moved.back(leg.id);
                if let (Some(service), Some(calls)) = (self.service.upgrade(), self.handle()) {
                    service.directory.insert(&leg, &calls);
                    self.introduce(&service, &leg).await;
                }
                self.outlets.extend(outlets);
                carried.into_iter().for_each(|carried| self.lines.put(carried));
                Input::Adopt { leg }
            }
            Err(code) => Input::NotReleased { code },
        };
        if let Err(problem) = self.input(input).await {
            tracing::warn!(code = problem.code.as_str(), "a transfer could not be written down");
        }
    }
}
