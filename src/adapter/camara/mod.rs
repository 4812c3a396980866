//! CAMARA's WebRTC APIs: webrtc-registration (RACM) and webrtc-call-handling, each at `/…/v0.3` and `/…/vwip`.
//!
//! A registration makes no RIPT handler yet: there is no WebRTC leg that could ring behind one.
//!
//! | for | look in |
//! |---|---|
//! | registration: the routes and bodies | `racm` |
//! | call handling: the routes and bodies | `call_handling` |
//! | how any request is read | `body`; addresses `address`, locations `location` |
//! | what is registered, how long, and how many | [`registration`] |
//! | which status and code a refusal has | `error` |
//! | whose token may do what, and for which number | `auth` |
//! | `x-correlator` | `correlator` |

mod address;
mod auth;
mod body;
mod byon;
mod call_handling;
mod channels;
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
use crate::protocol::number::Number;
use crate::service::Service;
use crate::store::StoreError;
pub(crate) use address::PATTERN as ADDRESS_PATTERN;
pub(crate) use error::codes;
use registration::Registrations;
pub use settings::{Settings, WebRtcSettings};

/// What every handler has at hand.
#[derive(Debug)]
struct Camara {
    service: Arc<Service>,
    registrations: Registrations,
    sessions: sessions::Sessions,
    notices: Arc<notice::Notices>,
    max_body: usize,
    /// Where emergency calls go.
    emergency: Option<Number>,
}

/// All routes, with what the store remembers behind them.
pub async fn router(service: Arc<Service>, settings: Settings) -> Result<Router, StoreError> {
    let Settings { max_body, registrations, emergency, .. } = settings;
    let registrations = Registrations::load(service.store.clone(), registrations, clock::now()).await?;
    let notices = Arc::<notice::Notices>::default();
    let sessions = sessions::Sessions::default();
    let camara = Arc::new(Camara { service, registrations, sessions, notices, max_body, emergency });
    let routes = racm::routes().merge(call_handling::routes());
    Ok(routes.layer(axum::middleware::from_fn(correlator::correlate)).with_state(camara))
}
