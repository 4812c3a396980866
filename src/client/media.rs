//! A call's media, as chunks: which way they go, what is acknowledged, what to do when the way is lost. No codecs.
//!
//! `crate::media::engine` is the pure part; `session` and `byways` are the two ways; `drive` chooses one and repairs it.

mod byways;
mod drive;

pub(super) mod passed;
mod port;
mod session;

use std::time::Duration;

pub use crate::media::engine::{MediaFrame, MediaStats, OutFrame};
pub(super) use port::Shared;
pub use port::{MediaOptions, MediaPort};

use super::Client;
use crate::media::quality::StreamReport;
use crate::protocol::resource::MediaUris;

/// How media goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaPath {
    /// A WebTransport session: one datagram a chunk.
    WebTransport,
    /// Ordinary requests: one `PUT` or `GET` a chunk.
    Byways,
}

impl MediaPath {
    /// For people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebTransport => "webtransport",
            Self::Byways => "byways",
        }
    }
}

/// A time without media, from the last chunk before it to the first one after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaGap {
    /// When the last chunk before it came, by [`crate::clock::elapsed`].
    pub since: Duration,
    /// Nothing was heard for so long; nothing if the far side was silent before.
    pub heard: Option<Duration>,
    /// Nothing that we sent was acknowledged for so long.
    pub unacknowledged: Option<Duration>,
    /// Until a new way was open.
    pub repaired: Duration,
}

/// What happens to the media.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum MediaNews {
    /// A way is open; `why` says why it isn't WebTransport.
    Path(MediaPath, Option<String>),
    /// The way was lost.
    Lost(String),
    /// It is back, and this is what that cost.
    Gap(MediaGap),
    /// Time to tell the server how the streams fare.
    Quality(Vec<StreamReport>),
}

/// Whose media it is.
#[derive(Clone)]
pub(super) struct MediaLine {
    pub(super) client: Client,
    /// The call, absolute.
    pub(super) call: String,
    /// The device, absolute.
    pub(super) handler: String,
    /// Where media goes at first; later ones are read from the call.
    pub(super) uris: Option<MediaUris>,
    /// Without acks for this long another way is looked for.
    pub(super) timeout: Duration,
    /// Hears what happens; must not block.
    pub(super) news: std::sync::Arc<dyn Fn(MediaNews) + Send + Sync>,
}

impl std::fmt::Debug for MediaLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaLine").field("call", &self.call).finish_non_exhaustive()
    }
}
