//! How much channels keep, and how patient they are.

use std::time::Duration;

/// The bounds of all channels; what happens beyond them is said at each.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Events of one channel; beyond it the oldest goes.
    pub(super) events: usize,
    /// Their bytes; likewise.
    pub(super) bytes: usize,
    /// Channels of one user; beyond it one that nobody listens to goes, or no more is opened.
    pub(super) per_user: usize,
    /// Channels altogether; beyond it none is opened.
    pub(super) channels: usize,
    /// Events altogether; beyond it the oldest goes, whose it may be.
    pub(super) all_events: usize,
    /// Their bytes; likewise.
    pub(super) all_bytes: usize,
    /// How long an event is kept, confirmed or not.
    pub(super) keep: Duration,
    /// A socket is pinged this often, and closed when nothing was heard through two of them.
    pub(super) heartbeat: Duration,
    /// How long one message may take to leave.
    pub(super) patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            events: 256,
            bytes: 1 << 20,
            per_user: 32,
            channels: 100_000,
            all_events: 200_000,
            all_bytes: 128 << 20,
            keep: Duration::from_secs(300),
            heartbeat: Duration::from_secs(15),
            patience: Duration::from_secs(10),
        }
    }
}
