//! CAMARA's WebRTC APIs: so far webrtc-registration (RACM), at `/webrtc-registration/v0.3` and `/webrtc-registration/vwip`,
//! and webrtc-events at `/webrtc-events/v0.3`, `/webrtc-events/v0.2` and `/webrtc-events/vwip`.
//!
//! A registration makes no RIPT handler yet: there is no WebRTC leg that could ring behind one.
//!
//! | for | look in |
//! |---|---|
//! | the routes and bodies | `racm` |
//! | what is registered, how long, and how many | [`registration`] |
//! | subscriptions and webhooks | `events`, `cloudevent` |
//! | which status and code a refusal has | `error` |
//! | whose token may do what, and for which number | `auth` |
//! | `x-correlator` | `correlator` |

mod address;
mod auth;
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
mod sessions;
mod settings;

use std::sync::Arc;

use axum::Router;

use crate::clock;
use crate::service::Service;
use crate::store::StoreError;
use notice::RegistrationEnd;
use registration::{End, Registrations};
pub use settings::{Settings, SinkSettings, WebRtcSettings};

/// What every handler has at hand.
#[derive(Debug)]
struct Camara {
    service: Arc<Service>,
    registrations: Registrations,
    _watcher: registration::Watcher,
    sessions: sessions::Sessions,
    notices: Arc<notice::Notices>,
    max_body: usize,
}

/// All routes, with what the store remembers behind them.
pub async fn router(service: Arc<Service>, settings: Settings) -> Result<Router, StoreError> {
    let Settings { max_body, registrations, sinks, .. } = settings;
    let subscriptions = events::Subscriptions::load(service.store.clone(), &sinks).await?;
    let notices = Arc::new(notice::Notices { subscriptions, channels: channels::Channels::default() });
    let tell = ends_told(notices.clone());
    let registrations = Registrations::load(service.store.clone(), registrations, clock::now(), tell).await?;
    let _watcher = registrations.watch();
    let sessions = sessions::Sessions::default();
    let camara = Arc::new(Camara { service, registrations, _watcher, sessions, notices, max_body });
    let routes = racm::routes().merge(events::routes());
    Ok(routes.layer(axum::middleware::from_fn(correlator::correlate)).with_state(camara))
}

/// What is done about registrations that have ended.
fn ends_told(notices: Arc<notice::Notices>) -> registration::Ended {
    Box::new(move |one, end| {
        // webrtc-events.yaml, RegistrationTerminationReason: a deletion has no word of its own.
        let (reason, description) = match end {
            End::Expired => (RegistrationEnd::Expired, "the registration's time has passed; register again"),
            End::Deleted => (RegistrationEnd::Network, "the registration was deleted"),
        };
        let notice = notice::Notice::RegistrationEnds { registration: one.id, reason, description };
        notices.tell(&one.user, one.device, notice);
    })
}
