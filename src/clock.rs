//! The one real clock. Everything pure takes `now` as an argument; services read it here.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::protocol::time::Timestamp;

/// Where this process anchored its clock: wall time read once, then carried on by the monotonic clock, so
/// that a step of the system clock neither fires nor starves a timer.
fn anchor() -> &'static (Instant, Duration) {
    static ANCHOR: OnceLock<(Instant, Duration)> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    ANCHOR.get_or_init(|| {
        (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
    })
}

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn instant() -> Instant {
    Instant::now()
}

/// Monotonic time since the process first asked; what the media path counts in.
pub fn elapsed() -> Duration {
    let (start, _) = anchor();
    instant().duration_since(*start)
}

/// Returns then; none: never.
pub async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Wall-clock time in whole milliseconds since 1970, monotonic within a process.
pub fn now() -> Timestamp {
    let (_, wall) = anchor();
    let since = *wall + elapsed();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
