//! What is told of a call.

use std::time::Duration;

use tokio::sync::broadcast;

use super::EndInfo;
use crate::client::{ForwardMode, MediaGap, MediaPath, MediaStats};
use crate::protocol::event::{Event, State};

/// Something that happened to a call.
#[derive(Clone, Debug)]
pub enum CallEvent {
    /// The server said something; each event once, in order.
    Server(Box<Event>),
    /// The other side pressed a key, whichever way it came.
    Dtmf {
        /// The key.
        digit: char,
        /// How long, ms.
        duration_ms: u32,
    },
    /// The signalling was lost (`false`) or is there (`true`).
    Connection(bool),
    /// Our events go another way.
    Forward(ForwardMode),
    /// Media has a way; `why` says why it isn't WebTransport.
    Media {
        /// Which.
        path: MediaPath,
        /// Why not the better one.
        why: Option<String>,
    },
    /// Media has no way.
    MediaLost {
        /// What was seen.
        why: String,
    },
    /// Media is back, after this long.
    MediaGap(MediaGap),
    /// The call is over; the last event.
    Ended(EndInfo),
}

/// An event, and when it arrived by [`crate::clock::elapsed`].
#[derive(Clone, Debug)]
pub struct Happened {
    /// When.
    pub at: Duration,
    /// What.
    pub event: CallEvent,
}

/// A call's events from some moment on.
#[derive(Debug)]
pub struct CallEvents(pub(super) broadcast::Receiver<Happened>);

impl CallEvents {
    /// The next event; `None` after the last one. A reader that lags misses the oldest.
    pub async fn next(&mut self) -> Option<Happened> {
        loop {
            match self.0.recv().await {
                Ok(happened) => return Some(happened),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// How a call fares.
#[derive(Clone, Debug)]
pub struct CallStats {
    /// Its state.
    pub state: State,
    /// Whether we hold.
    pub held: bool,
    /// How long it has been answered.
    pub talking: Option<Duration>,
    /// Which way media goes, if any.
    pub path: Option<MediaPath>,
    /// What was counted on media.
    pub media: MediaStats,
    /// The times without media.
    pub gaps: Vec<MediaGap>,
    /// Connections that the client has had.
    pub connections: Option<u64>,
}
