//! How many a second: a bucket of tokens for each name, in virtual time.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::lock;

/// A rate, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// In the long run, a second.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

impl Rate {
    /// So many a second, and those of four seconds at once.
    pub const fn per_second(per_second: u32) -> Self {
        Self { per_second, burst: per_second.saturating_mul(4) }
    }

    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }
}

/// Names with a bucket that isn't full; others need no memory.
const SWEEP: usize = 4_096;

/// A bucket for each name.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the bucket will be full again. ITU-T I.371's virtual scheduling: one time tells all.
    full_at: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    times: HashMap<String, Duration>,
    /// How many names make it worth looking for full buckets.
    sweep_at: usize,
}

impl Meter {
    /// Takes one for a name; an error says how long to wait for the next.
    pub(crate) fn take(&self, now: Duration, name: &str, rate: Rate) -> Result<(), Duration> {
        let interval = rate.interval();
        let mut buckets = lock(&self.full_at);
        let full_at = buckets.times.get(name).copied().unwrap_or_default().max(now);
        let depth = interval * rate.burst.max(1);
        let room = now + depth;
        if full_at + interval > room {
            return Err(full_at + interval - room);
        }
        if buckets.times.len() >= buckets.sweep_at.max(SWEEP) {
            buckets.times.retain(|_, full_at| *full_at > now);
            buckets.sweep_at = buckets.times.len() * 2;
        }
        match buckets.times.get_mut(name) {
            Some(time) => *time = full_at + interval,
            None => drop(buckets.times.insert(name.to_owned(), full_at + interval)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_passes_then_one_at_a_time_and_names_do_not_share() {
        let meter = Meter::default();
        let rate = Rate { per_second: 10, burst: 3 };
        let now = Duration::from_secs(1000);
        assert_eq!((0..3).map(|_| meter.take(now, "a", rate)).collect::<Vec<_>>(), [Ok(()); 3]);
        assert_eq!(meter.take(now, "a", rate), Err(100 * MS));
        assert_eq!(meter.take(now, "b", rate), Ok(()));
        assert_eq!(meter.take(now + 40 * MS, "a", rate), Err(60 * MS));
        assert_eq!(meter.take(now + 100 * MS, "a", rate), Ok(()));
        assert_eq!(meter.take(now + 100 * MS, "a", rate), Err(100 * MS));
        // After a pause there is a burst again, and no more.
        let later = now + Duration::from_secs(60);
        assert_eq!((0..4).filter(|_| meter.take(later, "a", rate).is_ok()).count(), 3);
    }

    #[test]
    fn names_that_have_a_full_bucket_are_forgotten() {
        let meter = Meter::default();
        let rate = Rate { per_second: 1000, burst: 1 };
        for n in 0..100_000u32 {
            let now = Duration::from_millis(u64::from(n));
            assert_eq!(meter.take(now, &n.to_string(), rate), Ok(()));
        }
        assert!(lock(&meter.full_at).times.len() <= SWEEP);
    }

    proptest! {
        #[test]
        fn no_window_admits_more_than_the_burst_and_the_rate(
            per_second in 1..200u32, burst in 1..50u32, steps in prop::collection::vec(0..400u64, 1..200),
        ) {
            let (meter, rate) = (Meter::default(), Rate { per_second, burst });
            let mut now = Duration::from_secs(7);
            let mut admitted = Vec::new();
            for step in steps {
                now += MS * u32::try_from(step).unwrap();
                match meter.take(now, "x", rate) {
                    Ok(()) => admitted.push(now),
                    // Who waits as long as is said gets one.
                    Err(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait <= rate.interval());
                    }
                }
            }
            for (at, from) in admitted.iter().enumerate() {
                for (more, to) in admitted[at..].iter().enumerate() {
                    let allowed = f64::from(burst) + f64::from(per_second) * (*to - *from).as_secs_f64();
                    prop_assert!(more as f64 + 1.0 <= allowed + 1e-6, "{} in {:?}", more + 1, *to - *from);
                }
            }
        }
    }
}
