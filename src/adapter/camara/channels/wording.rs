//! Which events a channel carries, and in which words.

use std::fmt;
use std::sync::Arc;

use super::rows::Due;
use super::socket::Closing;
use crate::adapter::camara::notice::Notice;

/// webrtc-events.yaml, /subscriptions: the scope that each type needs.
pub(crate) const SCOPES: [&str; 3] = [
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-invitation:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.session-status:create",
    "webrtc-events:org.camaraproject.webrtc-events.v0.registration-ends:create",
];

/// The types of events that a channel may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Types([bool; 3]);

impl Types {
    /// Everything.
    pub(crate) const ALL: Self = Self([true; 3]);

    /// Those whose scope is there.
    pub(crate) fn of_scopes(has: impl Fn(&str) -> bool) -> Self {
        Self(SCOPES.map(has))
    }

    fn have(self, notice: &Notice) -> bool {
        let Self([invitation, status, registration]) = self;
        match notice {
            Notice::Invitation(_) => invitation,
            Notice::Status(_) => status,
            Notice::RegistrationEnds { .. } => registration,
        }
    }
}

/// What a socket does with an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Sends it as this text.
    Text(String),
    /// Passes over it.
    Nothing,
    /// Closes, because of it.
    Close(Closing),
}

/// One generation's words.
#[derive(Clone)]
pub(crate) struct Wording {
    types: Types,
    words: Arc<dyn Fn(&Due) -> Word + Send + Sync>,
}

impl Wording {
    /// Events of these types, in those words.
    pub(crate) fn new(types: Types, words: impl Fn(&Due) -> Word + Send + Sync + 'static) -> Self {
        Self { types, words: Arc::new(words) }
    }

    pub(super) fn word(&self, due: &Due) -> Word {
        if self.types.have(&due.notice) { (self.words)(due) } else { Word::Nothing }
    }
}

impl fmt::Debug for Wording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wording").field(&self.types).finish()
    }
}
