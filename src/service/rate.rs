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
/// Names with a bucket, at most.
const MOST: usize = 65_536;

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
        match buckets.times.get_mut(name) {
            Some(time) => *time = full_at + interval,
            None => buckets.remember(now, name, full_at + interval),
        }
        Ok(())
    }

    /// Puts one back that was taken for nothing.
    pub(crate) fn give_back(&self, name: &str, rate: Rate) {
        if let Some(full_at) = lock(&self.full_at).times.get_mut(name) {
            *full_at = full_at.saturating_sub(rate.interval());
        }
    }
}

impl Buckets {
    fn remember(&mut self, now: Duration, name: &str, full_at: Duration) {
        if self.times.len() >= self.sweep_at.max(SWEEP) {
            self.times.retain(|_, full_at| *full_at > now);
            if self.times.len() > MOST / 2 {
                self.forget_the_fullest();
            }
            self.sweep_at = (self.times.len() * 2).clamp(SWEEP, MOST);
        }
        self.times.insert(name.to_owned(), full_at);
    }

    /// Who is full again soonest gains least by being forgotten. Half at once, since looking at all takes its time.
    fn forget_the_fullest(&mut self) {
        let mut times: Vec<Duration> = self.times.values().copied().collect();
        let last = times.len() / 2;
        let last = *times.select_nth_unstable(last).1;
        self.times.retain(|_, full_at| *full_at > last);
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

    #[test]
    fn however_many_names_come_at_once_so_many_are_remembered_and_the_emptiest_are_among_them() {
        let meter = Meter::default();
        let (rate, now) = (Rate { per_second: 1, burst: 3 }, Duration::from_secs(7));
        assert_eq!((0..3).map(|_| meter.take(now, "greedy", rate)).collect::<Vec<_>>(), [Ok(()); 3]);
        for n in 0..3 * MOST {
            assert_eq!(meter.take(now, &n.to_string(), rate), Ok(()));
            assert!(lock(&meter.full_at).times.len() <= MOST);
        }
        assert!(meter.take(now, "greedy", rate).is_err());
    }

    #[test]
    fn what_is_given_back_may_be_taken_again_once_and_a_full_bucket_gains_nothing() {
        let meter = Meter::default();
        let (rate, now) = (Rate { per_second: 1, burst: 2 }, Duration::from_secs(7));
        meter.give_back("a", rate);
        assert_eq!((0..2).map(|_| meter.take(now, "a", rate)).collect::<Vec<_>>(), [Ok(()); 2]);
        meter.give_back("a", rate);
        assert_eq!(meter.take(now, "a", rate), Ok(()));
        assert!(meter.take(now, "a", rate).is_err());
        for _ in 0..9 {
            meter.give_back("a", rate);
        }
        let later = now + Duration::from_secs(60);
        assert_eq!((0..9).filter(|_| meter.take(later, "a", rate).is_ok()).count(), 2);
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
                        now += wait;
                        prop_assert_eq!(meter.take(now, "x", rate), Ok(()));
                        admitted.push(now);
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
