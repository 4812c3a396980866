//! One call on a trunk: what the far side says is said here by the gateway's device, and the other way round.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::media;
use super::peer::Peer;
use crate::call::{ByWay, Input};
use crate::client::{Call, CallEvent, ClientError};
use crate::protocol::advertisement::Advertisement;
use crate::protocol::directive::Directives;
use crate::protocol::event::{Body, ClientBody, Event, Party, Scope, State};
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::Intent;
use crate::service::actor::Byway;
use crate::service::gateway::{Line, OurEnd, Pending};

/// What the far side takes and sends, as the next server's directives tell.
pub(super) fn far_side(call: &Call) -> Result<Advertisement, Problem> {
    let (sends, receives) = call.directives();
    Directives::far_side(&sends, &receives).map_err(|error| {
        Problem::new(Code::BadGateway, format!("the next server's directives can't be used: {error}"))
    })
}

/// A call that another server carries on.
pub(super) struct TrunkLine {
    /// Keeps the connection.
    peer: Arc<Peer>,
    call: Call,
}

impl TrunkLine {
    pub(super) fn new(peer: Arc<Peer>, call: Call) -> Self {
        Self { peer, call }
    }
}

impl Line for TrunkLine {
    fn carry(self: Box<Self>, end: OurEnd) -> Pending<()> {
        Box::pin(async move {
            let Self { peer, call } = *self;
            let _media = Aborted(tokio::spawn(media::carry(call.clone(), end.clone())));
            let bridge = Bridge { call, end, rings: false, answered: false, over: false };
            bridge.run().await;
            drop(peer);
        })
    }

    fn abandon(self: Box<Self>) -> Pending<()> {
        Box::pin(async move {
            if let Err(error) = self.call.end().await {
                tracing::debug!(%error, "a trunk's call could not be given up");
            }
        })
    }
}

/// A task that ends with its owner.
struct Aborted(JoinHandle<()>);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Bridge {
    call: Call,
    end: OurEnd,
    /// What our leg was told already.
    rings: bool,
    answered: bool,
    over: bool,
}

impl Bridge {
    async fn run(mut self) {
        let mut far = self.call.events();
        let Some(mut near) = self.open(None).await else { return self.hang_up(None).await };
        let mut newest = None;
        loop {
            tokio::select! {
                happened = far.next() => match happened.map(|happened| happened.event) {
                    Some(CallEvent::Server(event)) => self.far_said(*event).await,
                    Some(CallEvent::Ended(info)) => self.far_ended(&info.reason).await,
                    Some(_) => {}
                    None if self.over => return,
                    None => self.far_ended("lost").await,
                },
                event = near.events.recv() => match event {
                    Some(event) => {
                        newest = event.seq.or(newest);
                        if let Some(reason) = self.near_said(&event).await {
                            return self.hang_up(Some(reason)).await;
                        }
                    }
                    // It was closed because we were slow, or with the leg.
                    None => match self.open(newest).await {
                        Some(byway) => near = byway,
                        None => return self.hang_up(None).await,
                    },
                },
            }
        }
    }

    /// Our leg's events; none once it is gone.
    async fn open(&mut self, after: Option<u64>) -> Option<Byway> {
        let view = self.end.calls.view(self.end.leg, None).await.ok()?;
        if view.state == State::Ended {
            return None;
        }
        self.rings |= view.state != State::Proceeding;
        self.answered |= view.state == State::Answered;
        let kind = ByWay::Reverse(Some(self.end.handler()));
        self.end.calls.open(self.end.leg, kind, after).await.ok()
    }

    /// Says something on our leg, as its device.
    async fn say(&self, body: ClientBody) {
        let input = Input::Event { leg: self.end.leg, handler: self.end.handler(), seq: None, body };
        if let Err(problem) = self.end.calls.input(input).await {
            tracing::debug!(code = problem.code.as_str(), "what the far side said does not fit here");
        }
    }

    async fn far_said(&mut self, event: Event) {
        // On the next server we are the caller: what the caller does is our own echo.
        let theirs = |by: Party| by != Party::Caller;
        if event.snapshot.is_some() {
            self.far_side_changed().await;
        }
        match event.body {
            Body::Alerting => self.alerting().await,
            Body::Progress => self.say(ClientBody::Progress).await,
            Body::Answered => self.far_answered().await,
            Body::Declined { reason } if !self.answered => {
                self.over = true;
                self.say(ClientBody::Declined { reason, scope: Scope::All }).await;
            }
            Body::Failed { reason } if !self.answered => {
                self.over = true;
                self.say(ClientBody::Failed { reason }).await;
            }
            Body::NoAnswer { reason } if !self.answered => {
                self.over = true;
                self.say(ClientBody::NoAnswer { reason }).await;
            }
            Body::Ended { reason, .. } => self.far_ended(&reason).await,
            Body::Directives { .. } => self.far_side_changed().await,
            Body::Hold { by } if theirs(by) => self.say(ClientBody::Hold).await,
            Body::Resume { by } if theirs(by) => self.say(ClientBody::Resume).await,
            Body::Dtmf { digit, duration } => self.say(ClientBody::Dtmf { digit, duration }).await,
            Body::Error { code, .. } => tracing::debug!(code, "the next server refused an event"),
            // The rest is between us and the next server.
            _ => {}
        }
    }

    async fn alerting(&mut self) {
        if !std::mem::replace(&mut self.rings, true) {
            self.say(ClientBody::Alerting).await;
        }
    }

    async fn far_answered(&mut self) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        let (leg, device, intent) = (self.end.leg, self.end.device.clone(), Some(Intent::Answer));
        let claim = Input::Claim { leg, device, intent, if_match: None };
        if let Err(problem) = self.end.calls.input(claim).await {
            tracing::debug!(code = problem.code.as_str(), "an answer came too late");
        }
        self.say(ClientBody::Answered).await;
    }

    /// The next server's directives are in force: our own follow from them.
    async fn far_side_changed(&mut self) {
        let Ok(far) = far_side(&self.call) else { return };
        // While somebody holds nothing flows, and nothing is learnt of the far side.
        if far.is_empty() || far == self.end.device.advertisement {
            return;
        }
        self.end.device.advertisement = far;
        let device = self.end.device.clone();
        if let Err(problem) = self.end.calls.input(Input::Changed { device }).await {
            tracing::debug!(code = problem.code.as_str(), "a change of the far side came too late");
        }
    }

    async fn far_ended(&mut self, reason: &str) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let reason = reason.to_owned();
        let body = match self.answered {
            true => ClientBody::End { reason: Some(reason) },
            false => ClientBody::Failed { reason },
        };
        self.say(body).await;
    }

    /// Passes an event of our leg on. With the last one, why it ended.
    async fn near_said(&mut self, event: &Event) -> Option<String> {
        // What a leg's own device did names it.
        let ours = event.handler.is_none();
        let told = match &event.body {
            Body::Ended { reason, .. } => return Some(reason.clone()),
            _ if event.snapshot.is_some() => Ok(()),
            Body::Hold { .. } if ours => self.call.hold().await,
            Body::Resume { .. } if ours => self.call.resume().await,
            Body::Dtmf { digit, duration } => {
                self.call.tell(ClientBody::Dtmf { digit: *digit, duration: *duration }).await
            }
            _ => Ok(()),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "what this side said does not fit there");
        }
        None
    }

    /// Our side is over: so is the far one.
    async fn hang_up(self, reason: Option<String>) {
        if self.over {
            return;
        }
        let told = match self.call.tell(ClientBody::End { reason }).await {
            Err(error) if error.is_ended() => Ok(()),
            told => told,
        };
        if let Err(error) = told {
            let code = match &error {
                ClientError::Refused(refusal) => refusal.code.as_str(),
                _ => "",
            };
            tracing::warn!(code, %error, "a trunk's call could not be ended; it ends without signalling");
        }
    }
}
