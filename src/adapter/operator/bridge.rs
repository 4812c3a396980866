//! What a session's status says is said on our leg by the gateway's device, and the other way round.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::Account;
use super::api::{Sdp, Told};
use super::book::Ear;
use super::line::{OperatorLine, Side};
use super::media::Media;
use crate::adapter::mapping::{self, Status};
use crate::adapter::webrtc::LegEvent;
use crate::call::{ByWay, Input};
use crate::clock;
use crate::protocol::event::{Body, ClientBody, Event, Outcome, Party, Scope, State};
use crate::protocol::resource::Intent;
use crate::service::actor::Byway;
use crate::service::gateway::OurEnd;

/// How long an operator may take to tell us what we asked for ourselves.
const ECHO: Duration = Duration::from_secs(5);

/// A call between our leg and an operator.
pub(super) struct Bridge {
    account: Arc<Account>,
    ear: Ear,
    media: Media,
    side: Side,
    /// The newest offer of either side.
    offer: Option<String>,
    end: OurEnd,
    /// Our offer waits for its answer.
    waits: bool,
    /// The newest event's number.
    sequence: u32,
    /// What we asked for and have not been told of yet.
    echoes: Vec<(Status, Instant)>,
    /// What was passed on already.
    rings: bool,
    answered: bool,
    /// The far side knows that it is over.
    over: bool,
}

impl Bridge {
    pub(super) fn new(line: OperatorLine, end: OurEnd) -> Self {
        let OperatorLine { account, ear, media, side, offer } = line;
        Self {
            account,
            ear,
            media,
            side,
            offer,
            end,
            waits: side == Side::Leaving,
            sequence: 0,
            echoes: Vec::new(),
            rings: false,
            answered: false,
            over: false,
        }
    }

    pub(super) async fn run(mut self) {
        let Some(mut near) = self.open(None).await else { return self.hang_up("lost").await };
        let mut newest = None;
        loop {
            let lost = self.media.lost;
            tokio::select! {
                Some(told) = self.ear.told.recv() => self.far_said(told).await,
                () = self.ear.look.notified() => self.look().await,
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
                () = clock::until(lost) => {
                    self.media.lost = None;
                    self.end_here("lost").await;
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
            (Side::Arriving, State::Alerting) => self.near_rings().await,
            (Side::Arriving, State::Answered) => self.near_answered().await,
            (Side::Arriving, _) => {}
        }
        let kind = ByWay::Reverse(Some(self.end.handler()));
        self.end.calls.open(self.end.leg, kind, after).await.ok()
    }

    /// Says something on our leg, as its device.
    async fn say(&self, body: ClientBody) {
        let input = Input::Event { leg: self.end.leg, handler: self.end.handler(), seq: None, body };
        if let Err(problem) = self.end.calls.input(input).await {
            tracing::debug!(code = problem.code.as_str(), "what the operator said does not fit here");
        }
    }

    /// Asks for a status there; whether it was taken.
    async fn put(&mut self, status: Status, sdp: Sdp<'_>) -> Option<Told> {
        match self.account.api.put(self.ear.session, status, sdp).await {
            Ok(told) => Some(told),
            Err(error) => {
                tracing::debug!(status = status.as_str(), %error, "what this side said does not fit there");
                None
            }
        }
    }

    /// The call ends here; the operator is told once it has.
    async fn end_here(&mut self, reason: &str) {
        let reason = reason.to_owned();
        let body = match (self.side, self.answered) {
            (Side::Leaving, false) => ClientBody::Failed { reason },
            _ => ClientBody::End { reason: Some(reason) },
        };
        self.say(body).await;
    }

    async fn far_said(&mut self, told: Told) {
        // What comes twice is heard once.
        if told.sequence.is_some_and(|sequence| sequence <= self.sequence) {
            return;
        }
        self.sequence = told.sequence.unwrap_or(self.sequence);
        if !told.status.ended() && !self.described(&told).await {
            return self.end_here("no-common-codec").await;
        }
        let hold = matches!(told.status, Status::Hold | Status::Resume);
        if hold && self.answered {
            if !self.is_echo(told.status) {
                let held = told.status == Status::Hold;
                self.say(if held { ClientBody::Hold } else { ClientBody::Resume }).await;
            }
            return;
        }
        self.far_is(told.status).await;
    }

    /// Events were missed.
    async fn look(&mut self) {
        match self.account.api.get(self.ear.session).await {
            Ok(told) => {
                if !told.status.ended() && !self.described(&told).await {
                    return self.end_here("no-common-codec").await;
                }
                self.far_is(told.status).await;
            }
            Err(error) if error.status() == Some(404) => self.far_is(Status::Failed).await,
            Err(error) => tracing::debug!(%error, "an operator's session could not be looked at"),
        }
    }

    async fn far_is(&mut self, status: Status) {
        match (self.side, status) {
            (_, status) if status.ended() => self.far_ended(status).await,
            (Side::Leaving, Status::Ringing) if !self.rings => {
                self.rings = true;
                self.say(ClientBody::Alerting).await;
            }
            (Side::Leaving, Status::InProgress) if !self.answered => self.say(ClientBody::Progress).await,
            (Side::Leaving, Status::Connected | Status::Hold | Status::Resume) => self.far_answered().await,
            _ => {}
        }
    }

    /// Whether the operator tells what we asked for.
    fn is_echo(&mut self, status: Status) -> bool {
        let now = clock::instant();
        self.echoes.retain(|(_, until)| *until > now);
        let found = self.echoes.iter().position(|(asked, _)| *asked == status);
        found.map(|at| self.echoes.remove(at)).is_some()
    }

    /// Takes descriptions in; false: they can't be used.
    async fn described(&mut self, told: &Told) -> bool {
        let theirs = told.offer.as_ref().filter(|offer| self.offer.as_ref() != Some(offer));
        if self.waits
            && theirs.is_none()
            && let Some(answer) = &told.answer
        {
            self.waits = false;
            let taken = self.media.leg.answered(answer.clone()).await;
            return match taken {
                Ok(native) => self.media.negotiated(&mut self.end, native).await,
                Err(error) => {
                    tracing::debug!(%error, "an operator's answer can't be used");
                    false
                }
            };
        }
        if let (Some(offer), None, true) = (theirs, &told.answer, self.answered) {
            self.offer = Some(offer.clone());
            // What can't be answered changes nothing.
            if let Ok(described) = self.media.leg.offered(offer.clone()).await
                && self.media.negotiated(&mut self.end, described.native).await
            {
                self.put(Status::Connected, Sdp::Answer(&described.sdp)).await;
            }
        }
        true
    }

    async fn far_answered(&mut self) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        if self.waits {
            // An answer without a description: the session may have it.
            let whole = self.account.api.get(self.ear.session).await;
            let usable = match &whole {
                Ok(told) => self.described(told).await && !self.waits,
                Err(_) => false,
            };
            if !usable {
                return self.end_here("no-common-codec").await;
            }
        }
        let (leg, device, intent) = (self.end.leg, self.end.device.clone(), Some(Intent::Answer));
        let claim = Input::Claim { leg, device, intent, if_match: None };
        if let Err(problem) = self.end.calls.input(claim).await {
            tracing::debug!(code = problem.code.as_str(), "an answer came too late");
        }
        self.say(ClientBody::Answered).await;
    }

    async fn far_ended(&mut self, status: Status) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (outcome, reason) = mapping::outcome(status).unwrap_or((Outcome::Failed, "failed"));
        let reason = reason.to_owned();
        self.say(match (self.side, self.answered, outcome) {
            (Side::Arriving, ..) | (_, true, _) => ClientBody::End { reason: Some(reason) },
            (_, _, Outcome::Declined) => ClientBody::Declined { reason, scope: Scope::All },
            (_, _, Outcome::NoAnswer) => ClientBody::NoAnswer { reason },
            _ => ClientBody::Failed { reason },
        })
        .await;
    }

    async fn media_said(&mut self, event: LegEvent) {
        match event {
            LegEvent::Connected => self.media.lost = None,
            LegEvent::Disconnected => self.media.fear(),
            LegEvent::Digit(digit, duration) => self.say(ClientBody::Dtmf { digit, duration }).await,
            LegEvent::Quality(stream) => self.say(ClientBody::Quality { streams: vec![stream] }).await,
        }
    }

    /// Passes an event of our leg on. With the last one, why it ended.
    async fn near_said(&mut self, event: &Event) -> Option<String> {
        let ours = |by: Party| by != self.side.party();
        if let Some(snapshot) = &event.snapshot {
            self.media.direct(&snapshot.client_directives, &snapshot.server_directives).await;
        }
        match &event.body {
            Body::Ended { reason, .. } => return Some(reason.clone()),
            Body::Directives { client_directives, server_directives } => {
                self.media.direct(client_directives, server_directives).await;
            }
            Body::Hold { by } if ours(*by) && event.snapshot.is_none() => self.near_holds(Status::Hold).await,
            Body::Resume { by } if ours(*by) && event.snapshot.is_none() => {
                self.near_holds(Status::Resume).await;
            }
            Body::Alerting if self.side == Side::Arriving => self.near_rings().await,
            Body::Answered if self.side == Side::Arriving => self.near_answered().await,
            _ => {}
        }
        None
    }

    async fn near_holds(&mut self, status: Status) {
        self.echoes.push((status, clock::instant() + ECHO));
        if self.put(status, Sdp::None).await.is_none() {
            self.is_echo(status);
        }
    }

    async fn near_rings(&mut self) {
        if !self.answered && !std::mem::replace(&mut self.rings, true) {
            self.put(Status::Ringing, Sdp::None).await;
        }
    }

    /// Somebody here answers: only now checks begin, for an operator's ICE-lite end is not ready for them earlier.
    async fn near_answered(&mut self) {
        if std::mem::replace(&mut self.answered, true) {
            return;
        }
        if !self.accept().await {
            self.end_here("failed").await;
        }
    }

    async fn accept(&mut self) -> bool {
        if let Some(offer) = self.offer.clone() {
            let described = match self.media.leg.offered(offer).await {
                Ok(described) => described,
                Err(error) => {
                    tracing::debug!(%error, "an operator's offer can't be used");
                    return false;
                }
            };
            return self.media.negotiated(&mut self.end, described.native).await
                && self.put(Status::Connected, Sdp::Answer(&described.sdp)).await.is_some();
        }
        // webrtc-events.yaml, MediaSession: an invitation may come without an offer; then the callee makes it.
        let Ok(offer) = self.media.leg.offer(false).await else { return false };
        self.offer = Some(offer.clone());
        self.waits = true;
        match self.put(Status::Connected, Sdp::Offer(&offer)).await {
            Some(told) => self.described(&told).await,
            None => false,
        }
    }

    /// Our side is over: so is the far one.
    async fn hang_up(self, reason: &str) {
        if self.over {
            return;
        }
        let view = self.end.calls.view(self.end.leg, None).await.ok();
        let status = mapping::ended(view.and_then(|view| view.outcome), reason);
        let status = match (self.side, self.answered) {
            (_, true) => Status::Terminated,
            (Side::Leaving, false) => Status::SessionCancelled,
            (Side::Arriving, false) if matches!(status, Status::Terminated | Status::SessionCancelled) => {
                Status::Declined
            }
            (Side::Arriving, false) => status,
        };
        self.account.end(self.ear.session, status).await;
    }
}
