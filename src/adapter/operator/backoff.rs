//! How long to wait after something failed.

use std::time::Duration;

use uuid::Uuid;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(60);

/// Doubled with each failure, and spread, so that many servers don't come back at once.
pub(super) fn pause(failures: u32) -> Duration {
    let whole = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    let (random, _) = Uuid::new_v4().as_u64_pair();
    whole.mul_f64(0.5 + (random >> 32) as f64 / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded_and_spread() {
        for failures in 0..40 {
            let most = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
            let all: Vec<_> = (0..50).map(|_| pause(failures)).collect();
            assert!(all.iter().all(|pause| (most / 2..=most).contains(pause)), "{failures}");
            assert!(all.iter().any(|pause| *pause != all[0]), "{failures}");
        }
    }
}
