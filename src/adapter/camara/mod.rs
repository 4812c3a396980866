//! CAMARA's WebRTC APIs: webrtc-registration (RACM), webrtc-call-handling and webrtc-events, each at `/…/v0.3` and
//! `/…/vwip`, and the generation of 2023. A registration is a RIPT handler, a media session a call's leg, an event what the
//! call says.
//!
//! | for | look in |
//! |---|---|
//! | registration: the routes and bodies | `racm` |
//! | call handling: the routes and bodies | `call_handling` |
//! | how any request is read | `body`; addresses `address`, locations `location` |
//! | what is registered, how long, and how many | [`registration`] |
//! | media sessions | `sessions`; their media [`crate::adapter::webrtc`], their statuses [`crate::adapter::mapping`] |
//! | events over a WebSocket | `channels` |
//! | the generation of 2023 | `byon` |
//! | subscriptions and webhooks | `events`, `cloudevent` |
//! | which status and code a refusal has | `error` |
//! | whose token may do what, and for which number | `auth` |
//! | `x-correlator` | `correlator` |
//! | the scopes of all of them | `scopes` |

mod address;
mod auth;
mod body;
mod byon;
mod call_handling;
mod channels;
mod cloudevent;
mod correlator;
mod error;
mod events;
mod location;
mod notice;
mod phone;
mod racm;
pub mod registration;
mod scopes;
mod sessions;
mod settings;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};

use axum::Router;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::adapter::webrtc::WebRtc;
use crate::clock;
use crate::identity::principal::UserId;
use crate::protocol::id::TgId;
use crate::protocol::number::Number;
use crate::protocol::time::Timestamp;
use crate::service::{Service, lock};
use crate::store::StoreError;
pub(crate) use address::PATTERN as ADDRESS_PATTERN;
use auth::Caller;
pub(crate) use cloudevent::{EVENT_TYPES, SUBSCRIPTION_ENDED};
pub(crate) use error::codes;
use error::{Code, Failure};
use notice::{Notice, Notices, RegistrationEnd};
use registration::{End, Registration, Registrations, Wanted};
pub use scopes::SCOPES;
use sessions::Sessions;
pub use settings::{Settings, SinkSettings, WebRtcSettings};

/// What every handler has at hand.
#[derive(Debug)]
struct Camara {
    service: Arc<Service>,
    registrations: Registrations,
    _watcher: registration::Watcher,
    /// Hears of lost numbers; aborted when this is dropped.
    listening: Mutex<JoinSet<()>>,
    sessions: Arc<Sessions>,
    notices: Arc<Notices>,
    correlators: byon::Correlators,
    max_body: usize,
    /// Where devices are registered.
    tg: Option<TgId>,
    /// Where emergency calls go.
    emergency: Option<Number>,
}

/// Why these APIs can't be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store would not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The WebRTC port is taken or forbidden.
    #[error("camara.webrtc.listen: {listen}/udp can't be used: {error}")]
    Port {
        /// Where it was to be.
        listen: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Camara {
    /// The TG on which a caller's devices are registered.
    fn tg_of(&self, caller: &Caller) -> Result<TgId, Failure> {
        if let Some(tg) = &self.tg {
            return Ok(tg.clone());
        }
        let mut tgs = self.service.settings.tgs.iter().map(|tg| &tg.id);
        let own = tgs.find(|tg| caller.principal().may_use_tg(tg.as_str())).cloned();
        own.ok_or_else(|| {
            let why = "the access token names no trunk group of this server (claim `tgs`)";
            Failure::new(Code::PermissionDenied, why)
        })
    }

    /// Registers a caller's device: it is there, and it rings.
    async fn register(
        &self,
        caller: &Caller,
        device: Uuid,
        expires: Option<Timestamp>,
    ) -> Result<Registration, Failure> {
        let tg = self.tg_of(caller)?;
        let wanted = Wanted { user: caller.user.clone(), device, number: caller.number.clone(), expires };
        let made = self.registrations.create(clock::now(), wanted).await?;
        if let Err(problem) = self.sessions.register(&made, &tg).await {
            // A device that doesn't ring isn't registered.
            let _ = self.registrations.remove(clock::now(), &caller.user, made.id).await;
            return Err(problem.into());
        }
        Ok(made)
    }

    /// Ends a user's registration.
    async fn unregister(&self, user: &UserId, id: Uuid) -> Result<(), Failure> {
        Ok(self.registrations.remove(clock::now(), user, id).await?)
    }

    /// Registrations that outlived the last process ring again; handlers of those that ended with it go.
    async fn restore(&self) {
        let active = self.registrations.active(clock::now());
        self.sessions.tidy(&active).await;
        for registration in active {
            if let Err(problem) = self.sessions.resume(&registration) {
                tracing::warn!(code = problem.code.as_str(), "a registered device does not ring");
            }
        }
    }
}

/// All routes, with what the store remembers behind them.
pub async fn router(service: Arc<Service>, settings: Settings) -> Result<Router, StartError> {
    let Settings { max_body, registrations, tg, emergency, location, webrtc, sinks } = settings;
    let subscriptions = events::Subscriptions::load(service.store.clone(), &sinks).await?;
    let notices = Arc::new(Notices { subscriptions, channels: channels::Channels::default() });
    let WebRtcSettings { listen, any_port, public, sessions, offerless } = webrtc;
    let webrtc = bind(listen, any_port, &public, sessions);
    let webrtc = webrtc.map_err(|error| StartError::Port { listen, error })?;
    let sessions = Sessions::new(service.clone(), webrtc, notices.clone(), location, offerless);
    let sessions = Arc::new(sessions);
    let ended = ended(sessions.clone(), notices.clone());
    let registrations =
        Registrations::load(service.store.clone(), registrations, clock::now(), ended).await?;
    let _watcher = registrations.watch();
    let (correlators, listening) = (byon::Correlators::default(), Mutex::default());
    let camara = Camara {
        service,
        registrations,
        _watcher,
        listening,
        sessions,
        notices,
        correlators,
        max_body,
        tg,
        emergency,
    };
    let camara = Arc::new(camara);
    lock(&camara.listening).spawn(hear_of_losses(Arc::downgrade(&camara), camara.service.lost()));
    camara.restore().await;
    camara.sessions.restore().await?;
    let routes = racm::routes()
        .merge(call_handling::routes())
        .merge(channels::routes())
        .merge(events::routes())
        .merge(byon::routes());
    Ok(routes.layer(axum::middleware::from_fn(correlator::correlate)).with_state(camara))
}

/// The port that was chosen, or another where none was.
fn bind(listen: SocketAddr, any_port: bool, public: &[IpAddr], most: usize) -> std::io::Result<WebRtc> {
    match WebRtc::bind(listen, public, most) {
        Err(error) if any_port && error.kind() == std::io::ErrorKind::AddrInUse => {
            let other = WebRtc::bind(SocketAddr::new(listen.ip(), 0), public, most)?;
            let instead = other.addresses();
            tracing::warn!(%listen, ?instead, "another has the WebRTC port; camara.webrtc.listen chooses one");
            Ok(other)
        }
        bound => bound,
    }
}

/// Registrations of a number that a telephone network took away end.
async fn hear_of_losses(camara: Weak<Camara>, mut lost: broadcast::Receiver<Number>) {
    loop {
        match lost.recv().await {
            Ok(number) => match camara.upgrade() {
                Some(camara) => camara.registrations.lose(&number),
                None => return,
            },
            Err(RecvError::Lagged(missed)) => tracing::warn!(missed, "lost numbers were not heard of"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// What is done about a registration that has ended: it rings no more, and whoever wants to know is told.
fn ended(sessions: Arc<Sessions>, notices: Arc<Notices>) -> registration::Ended {
    Box::new(move |one, end| {
        sessions.unregister(one);
        // webrtc-events.yaml, RegistrationTerminationReason: a deletion has no word of its own.
        let (reason, description) = match end {
            End::Expired => (RegistrationEnd::Expired, "the registration's time has passed; register again"),
            End::Deleted => (RegistrationEnd::Network, "the registration was deleted"),
            End::Lost => (RegistrationEnd::Network, "the telephone network ended the number's registration"),
        };
        notices.tell(
            &one.user,
            one.device,
            Notice::RegistrationEnds { registration: one.id, reason, description },
        );
    })
}
