//! What falls due, and when; and the random numbers of waits and names.

use std::time::{Duration, Instant};

/// RFC 3261 §17.1.1.1
pub(super) const T1: Duration = Duration::from_millis(500);

/// 64 × T1: how long a transaction is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(32);

/// A timer of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// RFC 3262 §3: a reliable response is sent again.
    Resend,
    /// RFC 3262 §3: it was never acknowledged.
    Unheard,
    /// RFC 3261 §13.3.1.1: proxies are to hear that it still rings.
    StillRinging,
    /// RFC 3261 §13.3.1: Expires of the INVITE that came in.
    Expires,
    /// RFC 3261 §13.3.1.4: no ACK came.
    Ack,
    /// Their offer isn't answered by our side.
    Answer,
    /// RFC 3261 §14.1: our offer again, after glare.
    Offer,
    /// RFC 4028 §10: the session is to be refreshed.
    Refresh,
    /// RFC 4028 §10: the session wasn't refreshed.
    Session,
    /// RFC 3515 §2.4.7: our REFER's subscription.
    Refer,
    /// It is over, and what is still out has had its time.
    Gone,
}

const COUNT: usize = 11;

/// The timers that run.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; COUNT]);

impl Timers {
    const ALL: [Timer; COUNT] = [
        Timer::Resend,
        Timer::Unheard,
        Timer::StillRinging,
        Timer::Expires,
        Timer::Ack,
        Timer::Answer,
        Timer::Offer,
        Timer::Refresh,
        Timer::Session,
        Timer::Refer,
        Timer::Gone,
    ];

    pub(super) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(super) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes the one that is due longest.
    pub(super) fn due(&mut self, now: Instant) -> Option<Timer> {
        let due = Self::ALL.into_iter().filter_map(|t| Some((self.at(t)?, t))).filter(|(at, _)| *at <= now);
        let (_, timer) = due.min_by_key(|(at, _)| *at)?;
        self.stop(timer);
        Some(timer)
    }

    /// All but those of a call that is over.
    pub(super) fn stop_call(&mut self) {
        for timer in Self::ALL.into_iter().filter(|t| !matches!(t, Timer::Gone | Timer::Ack)) {
            self.stop(timer);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): spreads a seed into as many numbers as are needed.
#[derive(Debug)]
pub(super) struct Random(u64, u64);

impl Random {
    pub(super) fn new(seed: u128) -> Self {
        Self((seed >> 64) as u64, seed as u64)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // The other half of the seed keeps numbers that the far side saw from telling the next ones.
        self.1 = self.1.rotate_left(23).wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(z | 1);
        (z ^ (z >> 31)) ^ self.1
    }

    /// A name of 64 bits (RFC 3261 §19.3 asks for 32).
    pub(super) fn name(&mut self) -> String {
        format!("{:016x}", self.next())
    }

    /// A wait of so many steps of 10 ms, from `low` to `high` (RFC 3261 §14.1).
    pub(super) fn wait(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(10 * (low + self.next() % (high - low + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_fall_due_in_their_order_and_once() {
        let start = crate::clock::instant();
        let mut timers = Timers::default();
        timers.set(Timer::Ack, start + T1 * 2);
        timers.set(Timer::Resend, start + T1);
        timers.set(Timer::Gone, start + T1 * 9);
        assert_eq!(timers.next(), Some(start + T1));
        assert_eq!(timers.due(start), None);
        let later = start + T1 * 3;
        assert_eq!(timers.due(later), Some(Timer::Resend));
        assert_eq!(timers.due(later), Some(Timer::Ack));
        assert_eq!(timers.due(later), None);
        assert!(Timers::ALL.into_iter().enumerate().all(|(i, t)| t as usize == i));
    }

    #[test]
    fn waits_stay_in_their_range_and_names_differ() {
        let mut random = Random::new(7);
        for _ in 0..1000 {
            let wait = random.wait(210, 400);
            assert!((2100..=4000).contains(&wait.as_millis()), "{wait:?}");
        }
        assert_ne!(random.name(), random.name());
        assert_ne!(Random::new(1).name(), Random::new(2).name());
    }
}
