//! One account's registration at a registrar (RFC 3261 §10, TS 24.229 §5.1.1), pure: [`Registration::handle`] takes what
//! happened and the time, [`Registration::poll`] gives what is to be done, [`Registration::next_timeout`] when to come again.
//!
//! | for | look in |
//! |---|---|
//! | which messages are written, what is read of theirs | `message` |
//! | what the network says of our registration (RFC 3680) | `watch`, `reginfo` |
//! | pauses after failures | `chance` |

mod chance;
mod machine;
mod message;
mod reginfo;
mod shared;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use rsipstack::sip::{Request, Response};

use super::login::Login;
use crate::adapter::sip::ua::{ClientId, ServerId};

pub use machine::Registration;
pub use message::MMTEL;

/// An account.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The Request-URI: the home domain, `sip:ims.test`.
    pub registrar: String,
    /// The public identity: `sip:ript@ims.test`.
    pub public: String,
    /// Our address, as others are to call it: `sip:ript@127.0.0.109:5070`.
    pub contact: String,
    /// `urn:uuid:…`, the same for ever (RFC 5626 §4.1).
    pub instance: Option<String>,
    /// RFC 5626: the number of this flow; with it `outbound` is asked for.
    pub reg_id: Option<u32>,
    /// How long a registration is to last.
    pub expires: Duration,
    /// Values of Route: the outbound proxy or P-CSCF, `<sip:127.0.0.20:5060;lr>`.
    pub route: Vec<String>,
    /// P-Access-Network-Info.
    pub access: Option<String>,
    /// Whether this is an IMS (TS 24.229), and not just a registrar.
    pub ims: bool,
    /// Whether to subscribe to what becomes of it (RFC 3680).
    pub watch: bool,
    /// What proves that it is ours.
    pub login: Option<Arc<Login>>,
    /// User-Agent.
    pub product: String,
    /// Random and secret: tags, Call-IDs and pauses come from it.
    pub seed: [u8; 32],
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The first response to one of our requests that is final, or earlier ones; time-outs come as 408, transport failures as 503.
    Response(ClientId, Response),
    /// A NOTIFY.
    Request(ServerId, Request),
    /// A timer may be due.
    Tick,
    /// De-register.
    Stop,
    /// Register at once: the connection was lost, or somebody corrected the account.
    Again,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send a request in a transaction of its own. Via is the sender's part.
    Request(ClientId, Request),
    /// Respond.
    Respond(ServerId, Response),
    /// Tell our side.
    Event(Event),
}

/// What our side is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Registered, or registered anew.
    Registered {
        /// Values of Route for what follows, after [`Profile::route`] (RFC 3608).
        service_route: Vec<String>,
        /// P-Associated-URI: our identities, the default one first.
        associated: Vec<String>,
        /// RFC 5627: an address by which others reach just us.
        gruu: Option<String>,
        /// How long it lasts.
        expires: Duration,
        /// Whether it lasted already.
        refreshed: bool,
    },
    /// It is over, without our having wished it.
    Deregistered {
        /// Whose doing it is.
        by: By,
        /// What is known of why.
        reason: Reason,
    },
    /// A try failed.
    Failed {
        /// The response's code; 408 and 503 also stand for no answer and no connection.
        code: u16,
        /// In words for who runs the server.
        why: &'static str,
        /// When the next try comes; none: not before [`Input::Again`].
        retry: Option<Duration>,
    },
    /// De-registered as was wished: the last event.
    Unregistered,
    /// What becomes of the registration can't be followed; it stands nevertheless.
    NotWatched(u16),
    /// The SIM's numbers moved: [`super::aka::Aka::sequence`] is to be kept before what follows is sent.
    Sequence,
}

/// Whose doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The network's.
    Network,
    /// The clock's: no refresh came through.
    Timer,
}

/// RFC 3680 §5.1, and what a refusal or the clock says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The network wants it made anew.
    Deactivated,
    /// Anew, but later.
    Probation,
    /// Another device, or we before a restart, took it back.
    Unregistered,
    /// The account may not be registered.
    Rejected,
    /// It ran out.
    Expired,
    /// A refresh was refused.
    Refused,
}

impl Reason {
    /// In one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deactivated => "deactivated",
            Self::Probation => "probation",
            Self::Unregistered => "unregistered",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Refused => "refused",
        }
    }
}

#[cfg(test)]
mod tests;
