//! CAMARA's WebRTC APIs: so far webrtc-registration (RACM), at `/webrtc-registration/v0.3` and `/webrtc-registration/vwip`.
//!
//! A registration makes no RIPT handler yet: there is no WebRTC leg that could ring behind one.
//!
//! | for | look in |
//! |---|---|
//! | the routes and bodies | `racm` |
//! | what is registered, how long, and how many | [`registration`] |
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

use std::sync::Arc;

use axum::Router;

use crate::clock;
use crate::service::Service;
use crate::store::StoreError;
use registration::{Limits, Registrations};

/// How these APIs are served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The largest body.
    pub max_body: usize,
    /// How long registrations live, and how many there may be.
    pub registrations: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_body: 64 * 1024, registrations: Limits::default() }
    }
}

/// What every handler has at hand.
#[derive(Debug)]
struct Camara {
    service: Arc<Service>,
    registrations: Registrations,
    sessions: sessions::Sessions,
    notices: Arc<notice::Notices>,
    max_body: usize,
}

/// All routes, with what the store remembers behind them.
pub async fn router(service: Arc<Service>, settings: Settings) -> Result<Router, StoreError> {
    let Settings { max_body, registrations } = settings;
    let registrations = Registrations::load(service.store.clone(), registrations, clock::now()).await?;
    let notices = Arc::<notice::Notices>::default();
    let sessions = sessions::Sessions::default();
    let camara = Arc::new(Camara { service, registrations, sessions, notices, max_body });
    let routes = racm::routes().merge(channels::routes());
    Ok(routes.layer(axum::middleware::from_fn(correlator::correlate)).with_state(camara))
}
