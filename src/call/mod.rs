//! L1: the call. A pure state machine in virtual time: [`Call::handle`] takes what happened and the time, and
//! leaves [`Output`]s to be drained. It can be written down (serde) and restored at any moment.
//!
//! Two legs are joined by the server. Each leg belongs to one user, has one URI, and is shared by all devices
//! of that user; each keeps its own row of events.

mod control;
mod leg;
mod machine;
mod media;
mod replace;
mod ring;
#[cfg(test)]
mod tests;
mod timer;

pub use leg::{ByWay, Device, Leg, LegView, NewLeg, Tapped};
pub use machine::Call;
pub use media::{LegMedia, MediaPlan};

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::protocol::event::{ClientBody, Event};
use crate::protocol::id::{HandlerKey, LegId};
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::protocol::resource::{Intent, TapReason};

/// The times a call lives by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How long it may ring.
    pub answer: Duration,
    /// How long a leg may be without a signalling byway.
    pub signalling: Duration,
    /// How long a claim blocks others.
    pub claim: Duration,
    /// How long after an answer a claim without intent is taken for a late answer.
    pub guard: Duration,
    /// How long an ended call stays readable.
    pub keep: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(60),
            // ript-core "Connection and Byway Lifecycle Management": a value equal to 30 seconds.
            signalling: Duration::from_secs(30),
            claim: Duration::from_secs(5),
            guard: Duration::from_secs(2),
            keep: Duration::from_secs(3600),
        }
    }
}

/// Names an open byway within the process that holds it.
pub type BywayId = u64;

/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The called party was found.
    Routed {
        /// What the leg is for.
        purpose: Purpose,
        /// Its user and devices.
        leg: NewLeg,
    },
    /// What the two whom a transfer joins are told of each other; without it nothing.
    Vouched {
        /// What the target that is found next is told of who is handed on.
        target: Option<Caller>,
        /// What who is handed on is told of the target, once it answered.
        kept: Option<Caller>,
    },
    /// Nobody was found.
    NotRouted {
        /// What for.
        purpose: Purpose,
        /// Why.
        code: Code,
    },
    /// A signalling byway opened.
    Opened {
        /// On this leg.
        leg: LegId,
        /// Its name.
        byway: BywayId,
        /// Which way it carries events, and for whom.
        kind: ByWay,
        /// The newest `seq` that its client knows.
        after: Option<u64>,
    },
    /// A signalling byway closed.
    Closed {
        /// On this leg.
        leg: LegId,
        /// Its name.
        byway: BywayId,
    },
    /// A device was tapped over an open push channel.
    Reached {
        /// On this leg.
        leg: LegId,
        /// The device.
        device: Tapped,
    },
    /// A client's event.
    Event {
        /// On this leg.
        leg: LegId,
        /// The device that speaks.
        handler: HandlerKey,
        /// Its number in that device's row.
        seq: Option<u64>,
        /// What it says.
        body: ClientBody,
    },
    /// A device takes the call.
    Claim {
        /// On this leg.
        leg: LegId,
        /// The device.
        device: Device,
        /// What for.
        intent: Option<Intent>,
        /// The versions of which the client believes that one is current.
        if_match: Option<Vec<u64>>,
    },
    /// Another device is asked to take the call.
    Tap {
        /// On this leg.
        leg: LegId,
        /// The device.
        handler: HandlerKey,
    },
    /// A handler's description changed.
    Changed {
        /// The device as it is now.
        device: Device,
    },
    /// Media carried a digit to a leg that takes digits as events only.
    MediaDigit {
        /// The leg that pressed it.
        leg: LegId,
        /// The digit.
        digit: char,
        /// How long, ms.
        duration: u32,
    },
    /// Media had no byway to go out on.
    MediaPanic {
        /// On this leg.
        leg: LegId,
    },
    /// This server is going away.
    Migrate,
    /// The call was read back from the store: no byway is open.
    Restored,
    /// Attended transfer: the other leg of this call joins another one.
    Release {
        /// The leg of the device that transfers.
        by: LegId,
        /// That device's user.
        user: String,
    },
    /// Attended transfer: a leg of another call joins this one.
    Adopt {
        /// The leg.
        leg: Box<Leg>,
    },
    /// Attended transfer: the other call would not.
    NotReleased {
        /// Why.
        code: Code,
    },
    /// Who comes takes the place of a leg, and is in the call at once (RFC 3891).
    Replace {
        /// The leg.
        leg: LegId,
        /// Who comes: with a device that carries it.
        with: Box<NewLeg>,
        /// What the other side is told of them.
        told: Option<Caller>,
    },
    /// A timer may be due.
    Tick,
}

/// What a routed leg is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// The call itself.
    Place,
    /// A transfer.
    Transfer,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Tell a leg's devices.
    Send {
        /// The leg.
        leg: LegId,
        /// Which byways.
        to: To,
        /// The event.
        event: Box<Event>,
    },
    /// The leg's last event is out: close its byways.
    Close {
        /// The leg.
        leg: LegId,
    },
    /// Tap a leg's devices.
    Tap {
        /// The leg.
        leg: LegId,
        /// Only this one.
        only: Option<HandlerKey>,
        /// What for.
        reason: TapReason,
    },
    /// Find somebody.
    Route {
        /// Whom.
        destination: Number,
        /// What for.
        purpose: Purpose,
    },
    /// Ask the call of `replaces` for its other leg.
    Fetch {
        /// The leg of the transferring user in that call.
        replaces: LegId,
        /// That user.
        user: String,
    },
    /// A leg leaves this call for the one that asked.
    Released(Box<Leg>),
    /// Who may send to whom from now on.
    Media(MediaPlan),
    /// Play a digit into a leg's audio as telephone-event.
    Digit {
        /// The leg that is to hear it.
        leg: LegId,
        /// The digit.
        digit: char,
        /// How long, ms.
        duration: u32,
    },
    /// Forget the call.
    Gone,
}

/// Which byways of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// All.
    All,
    /// Those of one device.
    Handler(HandlerKey),
    /// One.
    Byway(BywayId),
}

/// What a client's event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The newest `seq` taken from that device.
    pub seq: u64,
}

/// Why an input was refused; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Refusal {
    /// For programs.
    pub code: Code,
    /// For people.
    pub detail: &'static str,
}

impl Refusal {
    pub(crate) const fn new(code: Code, detail: &'static str) -> Self {
        Self { code, detail }
    }
}

/// What names the caller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Caller {
    /// The PASSporT itself.
    pub passport: String,
    /// The verdict on it.
    pub verification: Value,
    /// RFC 8946: who handed the call on, a PASSporT for each time, the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub div: Vec<String>,
    /// RFC 3323 §4.2: the called side is told neither the number nor what proves it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withheld: bool,
    /// Where the caller said that they are: whoever shows it has to be allowed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Value>,
}

/// What the target of a transfer is to be told of who is handed on.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// They placed no call that leads here: the server speaks for their number.
    Vouch(Number),
    /// They called who hands them on: their own PASSporT, carried on (RFC 8946 §4).
    Divert {
        /// What who hands on was told.
        caller: Caller,
        /// Whose PASSporT that is.
        orig: Number,
        /// The number of who hands on.
        div: Number,
    },
}
