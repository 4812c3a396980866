//! Media sessions: each is a call's leg on one side and a device's WebRTC session on the other.
//!
//! | for | look in |
//! |---|---|
//! | all sessions, and placing calls | here |
//! | one session's task | `owner` |
//! | which status may be asked for when | `rules` |
//! | registrations that ring | `devices` |
//! | what outlives the process | `record` |
//! | what descriptions mean for the call | `media` |

mod devices;
mod media;
mod owner;
mod record;
mod rules;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use super::auth::Caller;
use super::error::{Code, Failure};
use super::location::Location;
use super::notice::{Notices, SessionView};
use super::registration::Registration;
use crate::adapter::mapping::Status;
use crate::adapter::webrtc::{BadSdp, WebRtc};
use crate::clock;
use crate::identity::principal::UserId;
use crate::protocol::id::{CallId, LegId, TgId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code as RiptCode, Problem};
use crate::protocol::resource::{CallRequest, handler_path};
use crate::protocol::time::Timestamp;
use crate::service::calls::Vouched;
use crate::service::registry::Handler;
use crate::service::{Service, lock};
use devices::Devices;
use owner::{Ask, Owner};

/// How long an ended session stays readable, and how many do.
const KEPT: Duration = Duration::from_secs(600);
const MAX_ENDED: usize = 2_000;
/// Requests that wait for one session.
const ASKS: usize = 32;

/// A session that a device asks for.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The device's registration: active, and the caller's own.
    pub(super) registration: Registration,
    /// originatorAddress as it was written.
    pub(super) originator: String,
    /// The caller withholds their number (RFC 3323).
    pub(super) anonymous: bool,
    /// receiverAddress as it was written.
    pub(super) receiver: String,
    /// Whom that is; none: an address that this server can't route, so the session ends as NotReachable.
    pub(super) to: Option<Number>,
    /// originatorName
    pub(super) originator_name: Option<String>,
    /// receiverName
    pub(super) receiver_name: Option<String>,
    /// The offer.
    pub(super) offer: String,
    /// callType EMERGENCY
    pub(super) emergency: bool,
    /// Where the device is.
    pub(super) location: Option<Location>,
    /// 2023: clientCorrelator
    pub(super) correlator: Option<String>,
}

/// What a device wants changed.
#[derive(Debug)]
pub(super) struct Change {
    /// The status that it asks for.
    pub(super) status: Status,
    /// Its offer.
    pub(super) offer: Option<String>,
    /// Its answer to ours.
    pub(super) answer: Option<String>,
    /// Where it is.
    pub(super) location: Option<Location>,
}

/// A call that rings at a device.
#[derive(Debug)]
struct Invited {
    registration: Registration,
    handler: Handler,
    tg: TgId,
    leg: LegId,
}

/// What all sessions use.
#[derive(Debug)]
struct Shared {
    service: Arc<Service>,
    webrtc: WebRtc,
    notices: Arc<Notices>,
    /// Whether a party is told where the other is.
    location: bool,
    /// Invitations come without an offer.
    offerless: bool,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    all: HashMap<Uuid, Handle>,
    by_call: HashMap<CallId, Vec<(Uuid, mpsc::Sender<Ask>)>>,
    ended: VecDeque<(Timestamp, Uuid)>,
}

/// What is known of a session outside of its task.
#[derive(Debug)]
struct Handle {
    leg: Option<LegId>,
    asks: mpsc::Sender<Ask>,
    view: watch::Receiver<Arc<SessionView>>,
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    shared: Arc<Shared>,
    devices: Devices,
}

fn none() -> Failure {
    Failure::new(Code::NotFound, "mediaSessionId: there is no such session")
}

fn over() -> Failure {
    Failure::new(Code::InvalidArgument, "status: the session has ended; GET it to see how")
}

/// A description that can't be used is the field's fault.
fn bad_sdp(field: &'static str) -> impl Fn(BadSdp) -> Failure {
    move |error| Failure::new(Code::InvalidArgument, format!("{field}.sdp: {error}"))
}

/// How a call that was not placed is told: as a session that has ended, or as a refusal of the request.
fn not_placed(problem: &Problem) -> Option<Status> {
    match problem.code {
        RiptCode::Unreachable | RiptCode::BadNumber => Some(Status::NotReachable),
        RiptCode::NoCommonCodec | RiptCode::BadGateway | RiptCode::LoopDetected => Some(Status::Failed),
        _ => None,
    }
}

impl Sessions {
    pub(super) fn new(
        service: Arc<Service>,
        webrtc: WebRtc,
        notices: Arc<Notices>,
        location: bool,
        offerless: bool,
    ) -> Self {
        let book = Mutex::default();
        Self {
            shared: Arc::new(Shared { service, webrtc, notices, location, offerless, book }),
            devices: Devices::default(),
        }
    }

    /// Calls.
    pub(super) async fn create(&self, caller: &Caller, wanted: Wanted) -> Result<Arc<SessionView>, Failure> {
        let handler = self.handler(&wanted.registration)?;
        let (media, media_events) = self.shared.webrtc.session().ok_or_else(|| {
            Failure::new(Code::Unavailable, "the server has as many sessions as it can hold; try again later")
        })?;
        let described = media.offered(wanted.offer.clone()).await.map_err(bad_sdp("offer"))?;
        if described.native.is_empty() {
            let why = "offer.sdp: none of its codecs is known here: opus, PCMU, PCMA; VP8, H264";
            return Err(Failure::new(Code::InvalidArgument, why));
        }
        let Wanted { registration, originator, receiver, to, location, .. } = wanted;
        let mut view = SessionView {
            id: Uuid::new_v4(),
            user: registration.user.clone(),
            device: registration.device,
            registration: registration.id,
            originator,
            originator_name: wanted.originator_name,
            receiver,
            receiver_name: wanted.receiver_name,
            status: Status::Initial,
            offer: Some(wanted.offer),
            answer: None,
            emergency: wanted.emergency,
            location: location.clone(),
            correlator: wanted.correlator,
        };
        let first = Arc::new(view.clone());
        let from = number(&registration)?;
        let Some(to) = to else {
            self.shared.ended_at_once(view, Status::NotReachable, "no such address is known here");
            return Ok(first);
        };
        if !self.shared.service.vouches() {
            let why = "this server can't vouch for callers: its operator has to configure [certs], a CA that certifies \
                       their numbers; nobody can call from these APIs until then";
            return Err(Failure::new(Code::Unavailable, why));
        }
        let request = CallRequest {
            handler: Some(handler_path(&handler.tg, handler.key)),
            destination: to.to_string(),
            passport: String::new(),
        };
        let vouched = Vouched {
            from,
            withheld: wanted.anonymous,
            location: location.map(|location| location.0),
            advertisement: WebRtc::transcoded(&described.native),
        };
        let placing = {
            let (service, principal) = (self.shared.service.clone(), caller.principal().clone());
            let tg = handler.tg.clone();
            // A client that goes away in the middle leaves no half of a call.
            tokio::spawn(async move { service.place_vouched(&principal, &tg, request, vouched).await })
        };
        let placed = placing.await.map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
        let (leg, calls) = match placed {
            Ok(placed) => placed,
            Err(problem) => {
                let status = not_placed(&problem).ok_or(problem.clone())?;
                self.shared.ended_at_once(view, status, &problem.detail);
                return Ok(first);
            }
        };
        view.answer = Some(described.sdp);
        let mut owner = Owner::originator(&self.shared, view, handler, leg, media, media_events);
        owner.negotiated(described.native).await;
        self.shared.remember(&owner.record()).await;
        self.shared.start(owner, calls.id, leg);
        Ok(first)
    }

    /// A user's session. Ended ones stay readable for a while.
    pub(super) async fn get(&self, user: &UserId, id: Uuid) -> Result<Arc<SessionView>, Failure> {
        self.shared.find(user, id).map(|(view, _)| view)
    }

    /// Changes one.
    pub(super) async fn update(
        &self,
        user: &UserId,
        id: Uuid,
        change: Change,
    ) -> Result<Arc<SessionView>, Failure> {
        let (view, asks) = self.shared.find(user, id)?;
        if view.status.ended() {
            return Err(over());
        }
        let (answer, answered) = oneshot::channel();
        asks.send(Ask::Change(Box::new(change), answer)).await.map_err(|_| over())?;
        answered.await.map_err(|_| over())?
    }

    /// Cancels, declines or ends one; of one that has ended nothing is left.
    pub(super) async fn remove(&self, user: &UserId, id: Uuid) -> Result<(), Failure> {
        let (view, asks) = self.shared.find(user, id)?;
        if !view.status.ended() {
            let (answer, answered) = oneshot::channel();
            // A session that ends at the same moment has what was asked for.
            if asks.send(Ask::Leave(answer)).await.is_ok() {
                let _ = answered.await;
            }
        }
        lock(&self.shared.book).all.remove(&id).map(drop).ok_or_else(none)
    }

    /// A device's call becomes a session, unless it is one already.
    fn invite(self: &Arc<Self>, invited: Invited) {
        let device = invited.registration.device;
        let known =
            |handle: &Handle| handle.leg == Some(invited.leg) && handle.view.borrow().device == device;
        if lock(&self.shared.book).all.values().any(known) {
            return;
        }
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Err(problem) = shared.invite(invited).await {
                tracing::debug!(code = problem.code.as_str(), "a device was not invited");
            }
        });
    }
}

impl Shared {
    fn find(&self, user: &UserId, id: Uuid) -> Result<(Arc<SessionView>, mpsc::Sender<Ask>), Failure> {
        let book = lock(&self.book);
        let handle = book.all.get(&id).ok_or_else(none)?;
        let view = handle.view.borrow().clone();
        if view.user != *user {
            return Err(none());
        }
        Ok((view, handle.asks.clone()))
    }

    async fn invite(self: Arc<Self>, invited: Invited) -> Result<(), Problem> {
        let Invited { registration, handler, tg, leg } = invited;
        let calls = self.service.leg(&handler.user, &tg, leg)?;
        let call = calls.view(leg, Some(handler.key)).await?;
        let Some((media, media_events)) = self.webrtc.session() else {
            return Err(Problem::new(RiptCode::Overloaded, "no WebRTC session is free"));
        };
        let failed = |error: BadSdp| Problem::new(RiptCode::Internal, error.to_string());
        let offer = match self.offerless {
            true => None,
            false => Some(media.offer(media::has_video(&call.server_directives)).await.map_err(failed)?),
        };
        let address = |number: &Number| match number {
            Number::E164(digits) => format!("tel:{digits}"),
            other => format!("sip:{other}"),
        };
        let view = SessionView {
            id: Uuid::new_v4(),
            user: registration.user.clone(),
            device: registration.device,
            registration: registration.id,
            originator: address(&call.from),
            originator_name: None,
            receiver: address(&call.to),
            receiver_name: None,
            status: Status::Initial,
            offer,
            answer: None,
            emergency: false,
            location: None,
            correlator: None,
        };
        let theirs = call.location.filter(|_| self.location).map(Location);
        let owner = Owner::receiver(&self, view, handler, leg, media, media_events, theirs);
        self.remember(&owner.record()).await;
        self.start(owner, calls.id, leg);
        Ok(())
    }

    fn start(self: &Arc<Self>, owner: Owner, call: CallId, leg: LegId) {
        let (asks, asked) = mpsc::channel(ASKS);
        let (id, view) = (owner.id(), owner.watch());
        let mut book = lock(&self.book);
        book.by_call.entry(call).or_default().push((id, asks.clone()));
        book.all.insert(id, Handle { leg: Some(leg), asks, view });
        drop(book);
        let shared = self.clone();
        tokio::spawn(async move {
            if owner.run(asked).await {
                shared.forget(id);
            }
            shared.ended(call, id);
        });
    }

    fn ended(&self, call: CallId, id: Uuid) {
        let mut guard = lock(&self.book);
        let book = &mut *guard;
        if let Some(members) = book.by_call.get_mut(&call) {
            members.retain(|(member, _)| *member != id);
            if members.is_empty() {
                book.by_call.remove(&call);
            }
        }
        let now = clock::now();
        book.ended.push_back((now, id));
        while book.ended.len() > MAX_ENDED || book.ended.front().is_some_and(|(at, _)| now.since(*at) > KEPT)
        {
            let Some((_, oldest)) = book.ended.pop_front() else { break };
            book.all.remove(&oldest);
        }
    }

    /// A call that comes to nothing is a session all the same.
    fn ended_at_once(&self, view: SessionView, status: Status, reason: &str) {
        let view = Arc::new(SessionView { status, ..view });
        let (asks, _) = mpsc::channel(1);
        let handle = Handle { leg: None, asks, view: watch::channel(view.clone()).1 };
        // Who is told may ask at once.
        lock(&self.book).all.insert(view.id, handle);
        self.ended(CallId::from_u128(0), view.id);
        owner::ended_at_once(&self.notices, view, reason);
    }

    /// The other sessions of a call on this server.
    fn others(&self, call: CallId, id: Uuid) -> Vec<mpsc::Sender<Ask>> {
        let book = lock(&self.book);
        let members = book.by_call.get(&call).into_iter().flatten();
        members.filter(|(member, _)| *member != id).map(|(_, asks)| asks.clone()).collect()
    }
}

fn number(registration: &Registration) -> Result<Number, Failure> {
    registration
        .number
        .as_str()
        .parse()
        .map_err(|_| Failure::new(Code::Internal, "the registration's number can't be called from"))
}
