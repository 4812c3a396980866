//! What a SIP call says is said on our leg by the gateway's device, and the other way round. Here: what our leg says.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dialogs::Dialogs;
use super::media::Media;
use super::standing::Standing;
use super::way::{Attempt, Way};
use crate::adapter::mapping::sip as mapping;
use crate::adapter::sip::Agent;
use crate::adapter::sip::rtp::LegEvent;
use crate::adapter::sip::ua::Command;
use crate::call::{ByWay, Input};
use crate::clock;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::event::{Body, ClientBody, Event, Outcome, Party, State};
use crate::service::actor::Byway;
use crate::service::gateway::OurEnd;

/// How long one server may say nothing at all to an INVITE, if there is another.
const SILENT: Duration = Duration::from_secs(4);

/// wire §4: why a leg ends that handed the other one on.
const TRANSFERRED: &str = "transferred";

/// Which way a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Side {
    /// It was placed here: our leg is the callee's.
    Leaving,
    /// It comes from the telephone network: our leg is the caller's.
    Arriving,
}

impl Side {
    /// Who our leg's device is.
    pub(super) fn party(self) -> Party {
        match self {
            Self::Leaving => Party::Callee,
            Self::Arriving => Party::Caller,
        }
    }
}

/// A SIP call that is to be joined to a leg.
pub(super) struct Begun {
    pub(super) way: Arc<Way>,
    pub(super) agent: Agent,
    pub(super) media: Media,
    pub(super) side: Side,
    pub(super) dialogs: Arc<Dialogs>,
    /// How it was placed, to place it anew at the next server.
    pub(super) attempt: Option<Attempt>,
    /// Our answer to the offer that came in, and what the far side can do.
    pub(super) answer: Option<(String, Advertisement)>,
    /// It stands since before a restart, and is being offered anew: whether our side holds.
    pub(super) resumed: Option<bool>,
}

/// A call between our leg and a telephone network.
pub(super) struct Bridge {
    pub(super) way: Arc<Way>,
    pub(super) agent: Agent,
    pub(super) media: Media,
    pub(super) side: Side,
    pub(super) end: OurEnd,
    pub(super) dialogs: Arc<Dialogs>,
    pub(super) attempt: Option<Attempt>,
    /// Our answer to who calls; none: they made no offer.
    pub(super) answer: Option<String>,
    progressed: bool,
    /// The far side has said something.
    pub(super) heard: bool,
    pub(super) rings: bool,
    pub(super) answered: bool,
    /// The transfer that the far side asked for is under way.
    pub(super) transferring: bool,
    /// Our side holds.
    pub(super) holds: bool,
    /// What the newest offer after the first one said of that.
    told: bool,
    /// That offer has no answer yet.
    offering: bool,
    /// What a restart would find.
    pub(super) written: Option<Standing>,
    /// The far side knows that it is over.
    pub(super) over: bool,
}

impl Bridge {
    pub(super) async fn run(begun: Begun, end: OurEnd) {
        let Begun { way, agent, media, side, dialogs, attempt, answer, resumed } = begun;
        let (answer, native) = answer.unzip();
        let mut bridge = Self {
            way,
            agent,
            media,
            side,
            end,
            dialogs,
            attempt,
            answer,
            progressed: false,
            heard: resumed.is_some(),
            rings: false,
            // Of a call that left our leg knows, or is to be told.
            answered: resumed.is_some() && side == Side::Arriving,
            transferring: false,
            holds: resumed.unwrap_or_default(),
            told: resumed.unwrap_or_default(),
            offering: resumed.is_some(),
            written: None,
            over: false,
        };
        if resumed.is_some() {
            let native = bridge.media.leg.native();
            bridge.media.negotiated(&mut bridge.end, native).await;
        }
        if let Some(native) = native {
            bridge.media.negotiated(&mut bridge.end, native).await;
        }
        let leg = bridge.end.leg;
        let dialogs = bridge.dialogs.clone();
        bridge.carry(resumed.is_some()).await;
        dialogs.forget(leg);
    }

    async fn carry(mut self, stands: bool) {
        let Some(mut near) = self.open(None).await else { return self.hang_up("lost").await };
        if stands {
            self.far_answered().await;
        }
        let mut newest = None;
        let patience = tokio::time::sleep(SILENT);
        tokio::pin!(patience);
        loop {
            if let Some(dialog) = self.agent.dialog() {
                self.dialogs.name(&dialog, self.end.leg);
            }
            self.keep().await;
            let impatient = !self.heard && self.attempt.as_ref().is_some_and(Attempt::has_more);
            tokio::select! {
                said = self.agent.events.recv(), if !self.over => match said {
                    Some(said) => self.far_said(said).await,
                    None => self.far_lost().await,
                },
                () = self.agent.kept.changed(), if !self.over => {}
                Some(event) = self.media.events.recv() => self.media_said(event).await,
                event = near.events.recv() => match event {
                    Some(event) => {
                        newest = event.seq.or(newest);
                        if let Some(reason) = self.near_said(&event).await {
                            return self.hang_up(&reason).await;
                        }
                    }
                    // It was closed because we were slow, or with the leg.
                    None => match self.open(newest).await {
                        Some(byway) => near = byway,
                        None => return self.hang_up("lost").await,
                    },
                },
                () = &mut patience, if impatient => {
                    self.next_server().await;
                    patience.as_mut().reset((clock::instant() + SILENT).into());
                }
            }
        }
    }

    /// Our leg's events; none once it is gone.
    async fn open(&mut self, after: Option<u64>) -> Option<Byway> {
        let view = self.end.calls.view(self.end.leg, None).await.ok()?;
        match (self.side, view.state) {
            (_, State::Ended) => return None,
            (Side::Leaving, state) => {
                self.rings |= state != State::Proceeding;
                self.answered |= state == State::Answered;
            }
            (Side::Arriving, State::Alerting) => self.near_rings(),
            (Side::Arriving, State::Answered) => self.near_answered(),
            (Side::Arriving, _) => {}
        }
        let kind = ByWay::Reverse(Some(self.end.handler()));
        self.end.calls.open(self.end.leg, kind, after).await.ok()
    }

    /// Says something on our leg, as its device.
    pub(super) async fn say(&self, body: ClientBody) {
        let input = Input::Event { leg: self.end.leg, handler: self.end.handler(), seq: None, body };
        if let Err(problem) = self.end.calls.input(input).await {
            tracing::debug!(
                code = problem.code.as_str(),
                "what the telephone network said does not fit here"
            );
        }
    }

    /// The call ends here; the far side is told once it has.
    pub(super) async fn end_here(&mut self, reason: &str) {
        let reason = reason.to_owned();
        let body = match (self.side, self.answered) {
            (Side::Leaving, false) => ClientBody::Failed { reason },
            _ => ClientBody::End { reason: Some(reason) },
        };
        self.say(body).await;
    }

    async fn media_said(&mut self, event: LegEvent) {
        match event {
            LegEvent::Digit(digit, duration) => self.say(ClientBody::Dtmf { digit, duration }).await,
            LegEvent::Quality(stream) => self.say(ClientBody::Quality { streams: vec![stream] }).await,
            LegEvent::Held(held) if self.answered => {
                self.say(if held { ClientBody::Hold } else { ClientBody::Resume }).await;
            }
            LegEvent::Held(_) | LegEvent::Heard | LegEvent::Silent => {}
        }
    }

    /// Passes an event of our leg on. With the last one, why it ended.
    async fn near_said(&mut self, event: &Event) -> Option<String> {
        let others = |by: Party| by != self.side.party() && event.snapshot.is_none();
        if let Some(snapshot) = &event.snapshot {
            self.media.direct(&snapshot.client_directives, &snapshot.server_directives);
        }
        match &event.body {
            Body::Ended { reason, .. } => {
                if self.transferring {
                    self.transferred(if reason == TRANSFERRED { 200 } else { 603 });
                }
                return Some(reason.clone());
            }
            Body::Directives { client_directives, server_directives } => {
                self.media.direct(client_directives, server_directives);
            }
            Body::Hold { by } if others(*by) => self.near_holds(true),
            Body::Resume { by } if others(*by) => self.near_holds(false),
            Body::Alerting if self.side == Side::Arriving => self.near_rings(),
            Body::Progress if self.side == Side::Arriving => self.near_progresses(),
            Body::Answered if self.side == Side::Arriving => self.near_answered(),
            Body::Error { code, .. } if self.transferring => {
                tracing::debug!(code, "a transfer that the telephone network asked for came to nothing");
                self.transferred(603);
            }
            _ => {}
        }
        None
    }

    /// RFC 3515 §2.4.5: how far the transfer has come.
    fn transferred(&mut self, code: u16) {
        self.transferring = false;
        self.agent.say(Command::ReferProgress(code));
    }

    fn near_holds(&mut self, held: bool) {
        self.holds = held;
        self.offer_holds();
    }

    /// One offer at a time: what changes while one is out is said by the next.
    fn offer_holds(&mut self) {
        if !self.offering && self.holds != self.told {
            (self.offering, self.told) = (true, self.holds);
            self.agent.say(Command::Offer(self.media.leg.reoffer(self.holds)));
        }
    }

    /// Our offer was answered or refused.
    pub(super) fn offer_done(&mut self) {
        self.offering = false;
        self.offer_holds();
    }

    fn near_rings(&mut self) {
        if !self.answered && !std::mem::replace(&mut self.rings, true) {
            self.agent.say(Command::Ring { answer: None });
        }
    }

    /// Early media: the answer goes out now, and once.
    fn near_progresses(&mut self) {
        if !self.answered && !std::mem::replace(&mut self.progressed, true) {
            self.agent.say(Command::Progress { answer: self.answer.clone() });
        }
    }

    fn near_answered(&mut self) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        // RFC 3264 §4: who was offered nothing offers.
        let sdp = self.answer.clone().unwrap_or_else(|| self.media.leg.offer());
        self.agent.say(Command::Accept { sdp });
    }

    /// Our side is over: so is the far one.
    async fn hang_up(self, reason: &str) {
        let view = self.end.calls.view(self.end.leg, None).await.ok();
        let Self { agent, over, side, answered, .. } = self;
        if over {
            return;
        }
        let outcome = view.and_then(|view| view.outcome);
        let outcome = outcome.unwrap_or(Outcome::Failed);
        let ending = mapping::ending(outcome, reason);
        let reason = Some(ending.reason());
        agent.end(match (side, answered) {
            // RFC 3261 §13.3.1.4: who calls us is refused, with why.
            (Side::Arriving, false) => Command::Reject { code: ending.code, retry_after: None, reason },
            _ => Command::End { reason },
        });
    }
}
