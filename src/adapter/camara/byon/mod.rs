//! CAMARA's generation of 2023 (BYON): `/racm/v1`, `/vvoip/v1` and `/notificationchannel/v1`, other words for the same
//! registrations, sessions and channels.
//!
//! Each operation demands a token with the scope that the current generation demands for the same act, or the file's
//! own: `read` where something is read, `write` where something is done.
//!
//! | for | look in |
//! |---|---|
//! | RACM: registering a device | `racm` |
//! | VVOIP: calls | `vvoip`, their bodies `request`, repeated requests `correlators` |
//! | notification channels, and the socket behind a channelURL | `channels` |
//! | what a socket carries, and how a session is shown | `words` |
//! | `{userId}`, `clientId` and `transactionId` | `caller` |

mod caller;
mod channels;
mod correlators;
mod racm;
mod request;
mod vvoip;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::routing::{any, connect, get, post, put};

use super::Camara;
use super::body::no_such_method;
use super::error::{Code, Failure};

pub(super) use correlators::Correlators;

/// The plain scopes that the files name.
const READ: &str = "read";
const WRITE: &str = "write";

/// All routes, and an answer for every other path below them.
pub(super) fn routes() -> Router<Arc<Camara>> {
    let mut router = Router::new()
        .route("/racm/v1/{userId}/session", post(racm::create))
        .route("/racm/v1/{userId}/session/{sessionId}", put(racm::refresh).delete(racm::remove))
        .route("/vvoip/v1/{userId}/sessions", post(vvoip::create))
        .route("/vvoip/v1/{userId}/sessions/{sessionId}", get(vvoip::describe).delete(vvoip::remove))
        .route("/vvoip/v1/{userId}/sessions/{sessionId}/status", put(vvoip::update))
        .route("/notificationchannel/v1/{deviceId}/channels", get(channels::list).post(channels::create))
        // Not in the file: where a channelURL leads.
        .route(
            "/notificationchannel/v1/{deviceId}/channels/{secret}",
            get(channels::open).merge(connect(channels::open)),
        );
    for root in ["/racm", "/vvoip", "/notificationchannel"] {
        for rest in ["", "/", "/{*rest}"] {
            router = router.route(&format!("{root}{rest}"), any(no_such_path));
        }
    }
    router.method_not_allowed_fallback(no_such_method).layer(axum::middleware::from_fn(caller::echo))
}

async fn no_such_path() -> Failure {
    let why = "there is no such path; the APIs are /racm/v1/{userId}/session, /vvoip/v1/{userId}/sessions and \
               /notificationchannel/v1/{deviceId}/channels";
    Failure::new(Code::NotFound, why)
}
