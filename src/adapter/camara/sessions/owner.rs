//! One session's one task: what the call says is told to the device, and the other way round.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::record::Record;
use super::rules::{Act, Role, Stage, act, refusal};
use super::{Change, Shared, bad_sdp};
use crate::adapter::camara::error::{Code, Failure};
use crate::adapter::camara::location::Location;
use crate::adapter::camara::notice::{Notice, Notices, SessionNotice, SessionView};
use crate::adapter::mapping::{self, Status};
use crate::adapter::webrtc::{Leg, LegEvent};
use crate::call::{ByWay, Device, Input};
use crate::clock;
use crate::protocol::advertisement::Advertisement;
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
    pub(super) shared: Arc<Shared>,
    pub(super) view: SessionView,
    published: watch::Sender<Arc<SessionView>>,
    sequence: u32,
    role: Role,
    stage: Stage,
    pub(super) leg: LegId,
    pub(super) handler: Handler,
    /// As the call knows us now.
    pub(super) device: Device,
    pub(super) media: Leg,
    media_events: mpsc::Receiver<LegEvent>,
    /// Descriptions have been exchanged.
    pub(super) agreed: bool,
    pub(super) native: Advertisement,
    pub(super) attached: bool,
    /// It was taken up after a restart.
    restored: bool,
    /// The call's owner is gone, though the call isn't over.
    stopped: bool,
    /// When the call ends, if the browser stays away.
    lost: Option<Instant>,
    /// Where the other party is, where it may be told.
    theirs: Option<Location>,
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

    /// Of a device whose media was lost with the last process.
    pub(super) fn restored(
        shared: &Arc<Shared>,
        record: Record,
        state: State,
        media: Leg,
        media_events: mpsc::Receiver<LegEvent>,
    ) -> Self {
        let Record { view, role, leg, handler, sequence } = record;
        let mut owner = Self::new(shared, view, role, handler, leg, (media, media_events), None);
        owner.sequence = sequence;
        owner.restored = true;
        if state == State::Answered {
            owner.stage = Stage::Talking;
            owner.view.status = Status::Connected;
        }
        owner
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
            restored: false,
            stopped: false,
            lost: None,
            theirs,
        }
    }

    pub(super) fn id(&self) -> Uuid {
        self.view.id
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn sequence(&self) -> u32 {
        self.sequence
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

    /// Media is to begin anew, and only the device can do that: its peer connection knows the last process only.
    fn ask_for_an_offer(&mut self) {
        self.fear();
        let why = "media was lost with the server's last process; PUT the offer of a new RTCPeerConnection";
        let mut notice = self.notice(why);
        notice.offer_required = true;
        self.shared.notices.tell(&self.view.user, self.view.device, Notice::Status(notice));
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

    /// True: it is over. False: the server stops, and takes it up again when it starts.
    pub(super) async fn run(mut self, asks: mpsc::Receiver<Ask>) -> bool {
        self.live(asks).await;
        !self.stopped
    }

    async fn live(&mut self, mut asks: mpsc::Receiver<Ask>) {
        let mut newest = None;
        if self.restored {
            self.ask_for_an_offer();
        } else if self.role == Role::Receiver {
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
                () = clock::until(lost) => {
                    self.lost = None;
                    let end = ClientBody::End { reason: Some("lost".to_owned()) };
                    if self.say(end).await.is_err() {
                        self.is_over().await;
                    }
                }
            }
        }
    }

    pub(super) fn calls(&self) -> Result<CallHandle, Problem> {
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
            Ok(calls) => calls.view(self.leg, None).await,
            Err(problem) => Err(problem),
        };
        // A call that has ended can be read for an hour: what can't be read stopped with the server, and goes on with it.
        let Ok(view) = view else {
            self.stage = Stage::Over;
            self.stopped = true;
            return;
        };
        let reason = view.reason.unwrap_or_else(|| "lost".to_owned());
        let status = mapping::ended(view.outcome, &reason);
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
    pub(super) fn fear(&mut self) {
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
        self.fits(&act).await?;
        self.describe(offer, answer).await?;
        let shared = location.is_some();
        self.view.location = location.or(self.view.location.take());
        match act {
            // What is held stays so, whatever else is changed.
            Act::Nothing if self.stage == Stage::Talking && self.view.status == Status::Hold => {
                self.tell(Status::Hold, "the session was changed");
            }
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

    /// What the call would refuse is refused before its description is in force.
    async fn fits(&self, act: &Act) -> Result<(), Failure> {
        let Act::Say(body @ (ClientBody::Hold | ClientBody::Resume)) = act else { return Ok(()) };
        let held = match self.calls() {
            Ok(calls) => calls.view(self.leg, None).await.map_err(refused)?.held,
            Err(problem) => return Err(refused(problem)),
        };
        let why = match (body, held) {
            (ClientBody::Hold, true) => "the device holds the call already; Resume goes on",
            (ClientBody::Resume, false) => "the device does not hold the call",
            _ => return Ok(()),
        };
        Err(Failure::new(Code::InvalidArgument, format!("status: {why}")))
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
