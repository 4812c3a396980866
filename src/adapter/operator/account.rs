//! An account at an operator: registered, listening, and placing calls from its number.

use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::api::{Api, Registration};
use super::book::{Book, Ear};
use super::http::ApiError;
use super::line::{OperatorLine, Side};
use super::media::Media;
use super::settings::AccountSettings;
use super::{Record, StartError, device};
use crate::adapter::mapping::Status;
use crate::protocol::number::{Destinations, Number};
use crate::protocol::problem::{Code, Problem};
use crate::service::gateway::{Departed, Departure};
use crate::service::{Service, lock};

/// How long a call waits for the account to be registered and heard, as after a start.
const READY: Duration = Duration::from_secs(5);
/// Calls of one account at once.
const MAX_CALLS: usize = 1_000;

/// One account.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) number: Number,
    pub(super) destinations: Destinations,
    pub(super) device: Uuid,
    pub(super) api: Api,
    pub(super) registered: watch::Sender<Option<Registration>>,
    /// Events come.
    pub(super) listening: watch::Sender<bool>,
    /// The registration may not be there any more.
    pub(super) again: Notify,
    pub(super) book: Mutex<Book>,
    /// Invitations that are being answered.
    pub(super) arrivals: Mutex<JoinSet<()>>,
    pub(super) service: OnceLock<Weak<Service>>,
}

/// webrtc-call-handling.yaml, Address
pub(super) fn address(number: &Number) -> String {
    match number {
        Number::E164(digits) => format!("tel:{digits}"),
        other => format!("sip:{other}"),
    }
}

impl Account {
    pub(super) fn new(folder: &std::path::Path, settings: &AccountSettings) -> Result<Self, StartError> {
        let failed = |why: String| StartError { url: settings.url.clone(), why };
        Ok(Self {
            number: settings.number.clone(),
            destinations: settings.destinations.clone(),
            device: device::id(folder, settings).map_err(|error| failed(error.to_string()))?,
            api: Api::new(settings).map_err(failed)?,
            registered: watch::Sender::new(None),
            listening: watch::Sender::new(false),
            again: Notify::new(),
            book: Mutex::default(),
            arrivals: Mutex::default(),
            service: OnceLock::new(),
        })
    }

    /// Whether one call more may be.
    pub(super) fn has_room(&self) -> bool {
        lock(&self.book).len() < MAX_CALLS
    }

    /// The registration, once there is one and events come.
    async fn ready(&self) -> Result<Uuid, Problem> {
        let (mut registered, mut listening) = (self.registered.subscribe(), self.listening.subscribe());
        let wait = async {
            let id = registered.wait_for(Option::is_some).await.ok()?.map(|registration| registration.id);
            listening.wait_for(|listening| *listening).await.ok()?;
            id
        };
        let away = || Problem::new(Code::BadGateway, "the operator is not reached; try again later");
        tokio::time::timeout(READY, wait).await.ok().flatten().ok_or_else(away)
    }

    pub(super) async fn place(self: &Arc<Self>, call: &Departure) -> Result<Departed, Problem> {
        if !self.has_room() {
            return Err(Problem::new(Code::TooMany, "this server has too many calls at that operator"));
        }
        let registration = self.ready().await?;
        let unable = |why: String| Problem::new(Code::Internal, why);
        let media = Media::new().map_err(|error| unable(format!("no UDP port for media: {error}")))?;
        let offer = media.leg.offer(false).await.map_err(|error| unable(error.to_string()))?;
        let (from, to) = (address(&self.number), address(&call.to));
        let made = self.api.create(registration, &from, &to, &offer).await;
        let made = made.map_err(|error| self.refused(error))?;
        let ear = Ear::open(self, made.session);
        let record = Record { operator: self.number.to_string(), session: made.session };
        let line = OperatorLine::new(self, ear, media, Side::Leaving, Some(offer));
        Ok(Departed { advertisement: Media::possible(), record: json!(record), line: Box::new(line) })
    }

    /// An operator's refusal, as one of our own.
    fn refused(&self, error: ApiError) -> Problem {
        match &error {
            ApiError::Refused { status: 404 | 410, .. } => {
                Problem::new(Code::Unreachable, "the operator knows no such destination").field("destination")
            }
            ApiError::Refused { status: 429, after, .. } => {
                let mut problem = Problem::new(Code::TooMany, "the operator takes no more calls now");
                problem.retry_after = after.and_then(|after| u32::try_from(after.as_secs()).ok());
                problem
            }
            ApiError::Refused { status, code, .. } => {
                if *status == 403 {
                    // createSession has no 404: this may be what it says of a registration that has gone.
                    self.again.notify_one();
                }
                tracing::warn!(status, code, "an operator refused a call");
                Problem::new(Code::BadGateway, "the operator refused this server's request for a call")
            }
            error => {
                tracing::warn!(%error, "an operator could not be asked for a call");
                Problem::new(Code::BadGateway, "the operator can't be asked for a call now")
            }
        }
    }

    /// Ends a session, whatever its state: one way or the other.
    pub(super) async fn end(&self, session: Uuid, status: Status) {
        let told = self.api.put(session, status, super::api::Sdp::None).await;
        let Err(error) = told else { return };
        // It has ended by itself, or is forgotten.
        if error.status() == Some(404) {
            return;
        }
        match self.api.delete(session).await {
            Err(error) if error.status() != Some(404) => {
                tracing::warn!(%error, "an operator's session could not be ended; it ends without signalling");
            }
            _ => {}
        }
    }
}
