//! How a handler accepts a WebTransport session.

use std::sync::{Arc, Mutex};

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;

use super::lock;
use super::session::{Ear, Session};

type Make = Box<dyn FnOnce(Session) -> Ear + Send>;

/// Request extension of an extended CONNECT for WebTransport; also an extractor, 400 where it is missing.
#[derive(Clone, Default)]
pub struct WebTransportUpgrade(Arc<Mutex<Option<Make>>>);

impl std::fmt::Debug for WebTransportUpgrade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebTransportUpgrade").field(&lock(&self.0).is_some()).finish()
    }
}

impl WebTransportUpgrade {
    /// Accepts the session, if the handler's response is a 2xx: `make` is called with it once that is sent.
    pub fn on_upgrade<E: Into<Ear>>(&self, make: impl FnOnce(Session) -> E + Send + 'static) {
        *lock(&self.0) = Some(Box::new(move |session| make(session).into()));
    }

    pub(super) fn take(&self) -> Option<Make> {
        lock(&self.0).take()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebTransportUpgrade {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        parts.extensions.get::<Self>().cloned().ok_or(StatusCode::BAD_REQUEST)
    }
}
