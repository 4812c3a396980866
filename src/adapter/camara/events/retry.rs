//! What a sink's answer means, and when to try again.

use std::time::Duration;

use crate::protocol::time::Timestamp;
use crate::service::fetch::{FetchError, Posted};

/// How long an event is worth trying; a call's set-up is long over by then.
pub(super) const STALE: Duration = Duration::from_secs(5 * 60);
/// How long a subscription's last events are tried.
pub(super) const GRACE: Duration = Duration::from_secs(60);
/// Tries of an event that the sink refuses by a 3xx or 4xx: it may be on its way up, or its token may be replaced.
pub(super) const REFUSED_TRIES: u32 = 3;
/// The pause after the first failure, and the longest.
const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);
/// The longest pause that a sink may ask for.
const OBEYED: Duration = Duration::from_secs(3600);

/// What an answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The event arrived.
    Delivered,
    /// The sink wants nothing more.
    Gone,
    /// The sink does not want this.
    Refused,
    /// Try again, not before this has passed.
    Later(Duration),
}

/// RFC 9110 §15, and Generic410: "its callback is no longer available".
pub(super) fn judge(answer: &Result<Posted, FetchError>) -> Verdict {
    match answer {
        Ok(Posted { status: 200..=299, .. }) => Verdict::Delivered,
        Ok(Posted { status: 410, .. }) => Verdict::Gone,
        Ok(Posted { status: 408 | 425 | 429 | 500.., retry_after }) => {
            Verdict::Later(retry_after.unwrap_or_default().min(OBEYED))
        }
        Ok(_) => Verdict::Refused,
        Err(_) => Verdict::Later(Duration::ZERO),
    }
}

/// When the next try is due after so many. Half of the pause is by chance, so that not all come back at once.
pub(super) fn next_try(now: Timestamp, tries: u32, at_least: Duration, chance: u32) -> Timestamp {
    let pause = FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(LONGEST);
    let chosen = pause / 2 + (pause / 2).mul_f64(f64::from(chance) / f64::from(u32::MAX));
    now + chosen.max(at_least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_for_what_it_says() {
        let answer = |status, seconds: Option<u64>| {
            judge(&Ok(Posted { status, retry_after: seconds.map(Duration::from_secs) }))
        };
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(answer(status, None), Verdict::Delivered);
        }
        assert_eq!(answer(410, Some(5)), Verdict::Gone);
        for status in [301, 302, 307, 308, 400, 401, 403, 404, 405, 413, 415, 422] {
            assert_eq!(answer(status, Some(5)), Verdict::Refused, "{status}");
        }
        for status in [408, 425, 429, 500, 501, 502, 503, 504, 599] {
            assert_eq!(answer(status, None), Verdict::Later(Duration::ZERO), "{status}");
            assert_eq!(answer(status, Some(7)), Verdict::Later(Duration::from_secs(7)), "{status}");
        }
        assert_eq!(answer(429, Some(u64::MAX)), Verdict::Later(OBEYED));
        for error in [FetchError::Timeout, FetchError::Name("x".into()), FetchError::Url] {
            assert_eq!(judge(&Err(error)), Verdict::Later(Duration::ZERO));
        }
    }

    #[test]
    fn pauses_grow_up_to_a_minute_with_half_of_them_by_chance() {
        let now = Timestamp::from_millis(1_000_000);
        let pause = |tries, chance| next_try(now, tries, Duration::ZERO, chance).since(now).as_millis();
        assert_eq!([pause(1, 0), pause(1, u32::MAX)], [250, 500]);
        assert_eq!([pause(2, 0), pause(2, u32::MAX)], [500, 1_000]);
        assert_eq!([pause(5, 0), pause(5, u32::MAX)], [4_000, 8_000]);
        for tries in [8, 100, u32::MAX] {
            assert_eq!([pause(tries, 0), pause(tries, u32::MAX)], [30_000, 60_000]);
        }
        assert_eq!(next_try(now, 1, Duration::from_secs(9), u32::MAX), now + Duration::from_secs(9));
    }
}
