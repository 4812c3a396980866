//! One session's one task: what the call says is told to the device, and the other way round.

use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::rules::{Act, Role, Stage, act, refusal};
use super::{Change, Shared, bad_sdp};
use crate::adapter::camara::error::{Code, Failure};
use crate::adapter::camara::location::Location;
use crate::adapter::camara::notice::{Notice, Notices, SessionNotice, SessionView};
use crate::adapter::mapping::{self, Status};
use crate::adapter::webrtc::{Leg, LegEvent, WebRtc};
use crate::call::{ByWay, Device, Input};
use crate::clock;
use crate::protocol::advertisement::Advertisement;
use crate::protocol::codec::MediaKind;
use crate::protocol::directive::Directives;
use crate::protocol::event::{Body, ClientBody, Event, Party, State};
use crate::protocol::id::LegId;
use crate::protocol::problem::{Code as RiptCode, Problem};
use crate::protocol::resource::{Intent, handler_path};
use crate::service::actor::{Byway, CallHandle};
use crate::service::registry::Handler;

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// A request to a session's owner.
#[derive(Debug)]
pub(super) enum Ask {
    Change(Box<Change>, Answer<Arc<SessionView>>),
    Leave(oneshot::Sender<()>),
    /// The other party of the call sends video.
    Video,
    /// Where the other party is.
    Location(Location),
}

/// The owner.
pub(super) struct Owner {
    shared: Arc<Shared>,
    view: SessionView,
    published: watch::Sender<Arc<SessionView>>,
    sequence: u32,
    role: Role,
    stage: Stage,
    leg: LegId,
    handler: Handler,
    /// As the call knows us now.
    device: Device,
    media: Leg,
    media_events: mpsc::Receiver<LegEvent>,
    /// Descriptions have been exchanged.
    agreed: bool,
    native: Advertisement,
    attached: bool,
    /// When the call ends, if the browser stays away.
    lost: Option<Instant>,
    /// Where the other party is, where it may be told.
    theirs: Option<Location>,
}

/// Whether directives have a stream of video.
pub(super) fn has_video(directives: &Value) -> bool {
    read(directives).streams().iter().any(|stream| stream.kind() == Some(MediaKind::Video))
}

fn read(directives: &Value) -> Directives {
    Directives::from_value(directives).map(|(directives, _)| directives).unwrap_or_default()
}

/// Tells of a call that came to nothing.
pub(super) fn ended_at_once(notices: &Notices, session: Arc<SessionView>, reason: &str) {
    let notice = SessionNotice {
        reason: reason.to_owned(),
        sequence: 1,
        sip: session.status.sip(),
        offer_required: false,
        location: None,
        session: session.clone(),
    };
    notices.tell(&session.user, session.device, Notice::Status(notice));
}

impl Owner {
    /// Of a device that calls.
    pub(super) fn originator(
        shared: &Arc<Shared>,
        view: SessionView,
        handler: Handler,
        leg: LegId,
        media: Leg,
        media_events: mpsc::Receiver<LegEvent>,
    ) -> Self {
        Self::new(shared, view, Role::Originator, handler, leg, (media, media_events), None)
    }

    /// Of a device that is called.
    pub(super) fn receiver(
        shared: &Arc<Shared>,
        view: SessionView,
        handler: Handler,
        leg: LegId,
        media: Leg,
        media_events: mpsc::Receiver<LegEvent>,
        theirs: Option<Location>,
    ) -> Self {
        Self::new(shared, view, Role::Receiver, handler, leg, (media, media_events), theirs)
    }

    fn new(
        shared: &Arc<Shared>,
        view: SessionView,
        role: Role,
        handler: Handler,
        leg: LegId,
        (media, media_events): (Leg, mpsc::Receiver<LegEvent>),
        theirs: Option<Location>,
    ) -> Self {
        Self {
            shared: shared.clone(),
            published: watch::Sender::new(Arc::new(view.clone())),
            view,
            sequence: 0,
            role,
            stage: Stage::Ringing,
            leg,
            device: handler.device(),
            handler,
            media,
            media_events,
            agreed: false,
            native: Advertisement::default(),
            attached: false,
            lost: None,
            theirs,
        }
    }

    pub(super) fn id(&self) -> Uuid {
        self.view.id
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<SessionView>> {
        self.published.subscribe()
    }

    /// Tells the device that somebody calls.
    fn invite(&mut self) {
        let mut notice = self.notice("somebody calls");
        notice.offer_required = self.view.offer.is_none();
        self.shared.notices.tell(&self.view.user, self.view.device, Notice::Invitation(notice));
    }

    fn notice(&mut self, reason: &str) -> SessionNotice {
        self.sequence += 1;
        let session = Arc::new(self.view.clone());
        self.published.send_replace(session.clone());
        SessionNotice {
            session,
            reason: reason.to_owned(),
            sequence: self.sequence,
            sip: self.view.status.sip(),
            offer_required: false,
            location: self.theirs.clone(),
        }
    }

    fn tell(&mut self, status: Status, reason: &str) {
        self.view.status = status;
        if status.ended() {
            self.stage = Stage::Over;
        }
        let notice = self.notice(reason);
        self.shared.notices.tell(&self.view.user, self.view.device, Notice::Status(notice));
    }

    pub(super) async fn run(mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut newest = None;
        if self.role == Role::Receiver {
            self.invite();
        }
        let Some(mut near) = self.open(None).await else { return self.is_over().await };
        while self.stage != Stage::Over {
            let lost = self.lost;
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(ask) => self.asked(ask).await,
                    None => return,
                },
                event = near.events.recv() => match event {
                    Some(event) => {
                        newest = event.seq.or(newest);
                        self.near_said(&event).await;
                    }
                    // It was closed because we were slow, or with the leg.
                    None => match self.open(newest).await {
                        Some(byway) => near = byway,
                        None => self.is_over().await,
                    },
                },
                Some(event) = self.media_events.recv() => self.media_said(event).await,
                () = until(lost) => {
                    self.lost = None;
                    let end = ClientBody::End { reason: Some("lost".to_owned()) };
                    if self.say(end).await.is_err() {
                        self.is_over().await;
                    }
                }
            }
        }
    }

    fn calls(&self) -> Result<CallHandle, Problem> {
        self.shared.service.leg(&self.handler.user, &self.handler.tg, self.leg)
    }

    /// Our leg's events; none once it is gone.
    async fn open(&self, after: Option<u64>) -> Option<Byway> {
        self.calls().ok()?.open(self.leg, ByWay::Reverse(Some(self.handler.key)), after).await.ok()
    }

    async fn say(&self, body: ClientBody) -> Result<(), Problem> {
        let input = Input::Event { leg: self.leg, handler: self.handler.key, seq: None, body };
        self.calls()?.input(input).await.map(drop)
    }

    /// The call has ended, or this leg has.
    async fn is_over(&mut self) {
        if self.stage == Stage::Over {
            return;
        }
        let view = match self.calls() {
            Ok(calls) => calls.view(self.leg, None).await.ok(),
            Err(_) => None,
        };
        let reason = view.as_ref().and_then(|view| view.reason.clone());
        let reason = reason.unwrap_or_else(|| "lost".to_owned());
        let status = mapping::ended(view.and_then(|view| view.outcome), &reason);
        self.tell(status, &reason);
    }

    async fn near_said(&mut self, event: &Event) {
        if let Some(snapshot) = &event.snapshot {
            self.direct(&snapshot.client_directives, &snapshot.server_directives).await;
        }
        let ours = handler_path(&self.handler.tg, self.handler.key);
        let by_other_device = event.handler.as_ref().is_some_and(|other| *other != ours);
        let other = |by: Party| {
            by != match self.role {
                Role::Originator => Party::Caller,
                Role::Receiver => Party::Callee,
            }
        };
        match &event.body {
            Body::Ended { .. } => self.is_over().await,
            Body::Answered if by_other_device && self.stage == Stage::Ringing => {
                self.tell(Status::SessionCancelled, "another device answered");
            }
            Body::HandlerChanged if by_other_device => {
                self.tell(Status::Terminated, "another device carries this call now");
            }
            Body::Directives { client_directives, server_directives } => {
                self.direct(client_directives, server_directives).await;
            }
            Body::Hold { by } if other(*by) => self.tell(Status::Hold, "the other side holds the call"),
            Body::Resume { by } if other(*by) => self.tell(Status::Resume, "the other side goes on"),
            Body::Answered if self.role == Role::Originator && self.stage == Stage::Ringing => {
                self.stage = Stage::Talking;
                self.tell(Status::Connected, "the call is answered");
            }
            // What follows is the originator's to hear, and a snapshot of it was heard before.
            _ if self.role == Role::Receiver || self.stage != Stage::Ringing => {}
            Body::Proceeding if event.snapshot.is_none() => {
                self.tell(Status::Proceeding, "the call is on its way");
            }
            Body::Alerting if self.view.status != Status::Ringing => {
                self.tell(Status::Ringing, "it rings");
            }
            Body::Progress => self.tell(Status::InProgress, "early media"),
            _ => {}
        }
    }

    async fn media_said(&mut self, event: LegEvent) {
        match event {
            LegEvent::Connected => self.lost = None,
            LegEvent::Disconnected => self.fear(),
            LegEvent::Digit(digit, duration) => {
                let _ = self.say(ClientBody::Dtmf { digit, duration }).await;
            }
            LegEvent::Quality(stream) => {
                let _ = self.say(ClientBody::Quality { streams: vec![stream] }).await;
            }
        }
    }

    /// From now on the browser has as long as any device without a byway (wire §4).
    fn fear(&mut self) {
        let patience = self.shared.service.settings.timing.signalling;
        self.lost.get_or_insert(clock::instant() + patience);
    }

    async fn asked(&mut self, ask: Ask) {
        match ask {
            Ask::Change(change, answer) => {
                let done = self.change(*change).await;
                let _ = answer.send(done.map(|()| Arc::new(self.view.clone())));
            }
            Ask::Leave(answer) => {
                self.leave().await;
                let _ = answer.send(());
            }
            Ask::Video if self.native.entry(2, crate::protocol::advertisement::Direction::In).is_none() => {
                if let Ok(offer) = self.media.offer(true).await {
                    self.view.offer = Some(offer);
                    self.view.answer = None;
                    self.tell(self.view.status, "the other side adds video; answer this offer by PUT");
                }
            }
            Ask::Video => {}
            Ask::Location(location) => {
                self.theirs = Some(location);
                self.tell(self.view.status, "the other side says where it is");
            }
        }
    }

    /// DELETE: cancels, declines or ends.
    async fn leave(&mut self) {
        let (status, body) = match (self.role, self.stage) {
            (_, Stage::Over) => return,
            (Role::Receiver, Stage::Ringing) => (Status::Declined, refusal(Status::Declined)),
            (Role::Originator, Stage::Ringing) => {
                (Status::SessionCancelled, ClientBody::End { reason: None })
            }
            (_, Stage::Talking) => (Status::Terminated, ClientBody::End { reason: None }),
        };
        // If it has ended meanwhile, so has this.
        let _ = self.say(body).await;
        self.tell(status, "the session was deleted");
    }

    /// PUT: what can't be done changes nothing.
    async fn change(&mut self, change: Change) -> Result<(), Failure> {
        let Change { status, offer, answer, location } = change;
        let act = act(self.role, self.stage, status)
            .map_err(|why| Failure::new(Code::InvalidArgument, format!("status: {why}")))?;
        let described = self.agreed || offer.is_some() || answer.is_some();
        if act == Act::Answer && !described {
            let why = "answer: Connected needs a description: the answer to the session's offer, or an offer";
            return Err(Failure::new(Code::InvalidArgument, why));
        }
        self.describe(offer, answer).await?;
        let shared = location.is_some();
        self.view.location = location.or(self.view.location.take());
        match act {
            Act::Nothing if self.stage == Stage::Talking => {
                self.tell(Status::Connected, "the session was changed")
            }
            Act::Nothing => self.tell(status, "the session was changed"),
            Act::Say(body) => {
                let ends = matches!(body, ClientBody::End { .. });
                self.say(body).await.map_err(refused)?;
                // How it ended, the call tells.
                if ends { self.is_over().await } else { self.tell(status, "the device said so") }
            }
            Act::Answer => self.answer().await?,
            Act::Leave(body) => {
                self.say(body).await.map_err(refused)?;
                self.tell(status, "the device said so");
            }
        }
        if shared && self.shared.location {
            self.to_others(|owner| owner.view.location.clone().map(Ask::Location)).await;
        }
        Ok(())
    }

    async fn describe(&mut self, offer: Option<String>, answer: Option<String>) -> Result<(), Failure> {
        match (offer, answer) {
            (None, None) => {}
            (Some(_), Some(_)) => {
                let why = "offer, answer: one of them is expected, not both";
                return Err(Failure::new(Code::InvalidArgument, why));
            }
            (Some(offer), None) => {
                let described = self.media.offered(offer.clone()).await.map_err(bad_sdp("offer"))?;
                self.view.offer = Some(offer);
                self.view.answer = Some(described.sdp);
                self.negotiated(described.native).await;
            }
            // It comes again with each status, as the session shows it.
            (None, Some(answer)) if self.view.answer.as_ref() == Some(&answer) => {}
            (None, Some(answer)) => {
                let native = self.media.answered(answer.clone()).await.map_err(bad_sdp("answer"))?;
                self.view.answer = Some(answer);
                self.negotiated(native).await;
            }
        }
        Ok(())
    }

    async fn answer(&mut self) -> Result<(), Failure> {
        let (leg, device) = (self.leg, self.device.clone());
        let claim = Input::Claim { leg, device, intent: Some(Intent::Answer), if_match: None };
        let claimed = match self.calls() {
            Ok(calls) => calls.input(claim).await.map(drop),
            Err(problem) => Err(problem),
        };
        claimed.map_err(refused)?;
        self.say(ClientBody::Answered).await.map_err(refused)?;
        self.stage = Stage::Talking;
        self.tell(Status::Connected, "the call is answered");
        Ok(())
    }

    /// Descriptions have been exchanged: the call learns what this device can do, and media has its way.
    pub(super) async fn negotiated(&mut self, native: Advertisement) {
        let video = |ad: &Advertisement| ad.sources().any(|entry| entry.kind() == Some(MediaKind::Video));
        let adds_video = self.agreed && video(&native) && !video(&self.native);
        let first = !std::mem::replace(&mut self.agreed, true);
        self.native = native;
        if first {
            // A browser that never comes is as good as lost.
            self.fear();
        }
        self.attach().await;
        self.adapt().await;
        if adds_video {
            self.to_others(|_| Some(Ask::Video)).await;
        }
    }

    async fn to_others(&self, ask: impl Fn(&Self) -> Option<Ask>) {
        let Ok(calls) = self.calls() else { return };
        for other in self.shared.others(calls.id, self.view.id) {
            if let Some(ask) = ask(self) {
                // Two sessions never wait for each other.
                let _ = other.try_send(ask);
            }
        }
    }

    async fn attach(&mut self) {
        let Ok(calls) = self.calls() else { return };
        // A leg that answers has its port, if it is not over.
        if self.attached || calls.view(self.leg, None).await.is_err() {
            return;
        }
        let ports = &self.shared.service.ports;
        if let Some(port) = ports.get(self.leg) {
            let entrance = ports.open(&port, self.handler.key, self.media.path());
            self.media.attach(entrance, calls.id).await;
            self.attached = true;
        }
    }

    /// Without transcoding where the other side shares a codec with the browser; with it where not.
    async fn adapt(&mut self) {
        let mute = WebRtc::names(&self.native, MediaKind::Audio).is_empty();
        for advertisement in [self.native.clone(), WebRtc::transcoded(&self.native)] {
            self.device.advertisement = advertisement;
            let Ok(calls) = self.calls() else { return };
            let changed = Input::Changed { device: self.device.clone() };
            if let Err(problem) = calls.input(changed).await {
                tracing::debug!(code = problem.code.as_str(), "a change of a session came too late");
            }
            let Ok(view) = calls.view(self.leg, Some(self.handler.key)).await else { return };
            let flows = |directives: &Value| read(directives).audio().is_some();
            let held = view.state == State::Answered && read(&view.client_directives).is_empty() && view.held;
            if mute || held || flows(&view.client_directives) && flows(&view.server_directives) {
                return self.direct(&view.client_directives, &view.server_directives).await;
            }
        }
    }

    async fn direct(&mut self, client: &Value, server: &Value) {
        self.media.direct(read(client), read(server)).await;
    }
}

/// What the call would not have is a status that doesn't fit now.
fn refused(problem: Problem) -> Failure {
    match problem.code {
        RiptCode::IllegalEvent | RiptCode::AlreadyClaimed | RiptCode::CallEnded | RiptCode::NotFound => {
            Failure::new(Code::InvalidArgument, format!("status: {}", problem.detail))
        }
        _ => problem.into(),
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
