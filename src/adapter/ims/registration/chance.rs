//! What has to be unlike others': tags, Call-IDs, pauses. It comes from one secret seed, so that tests can foresee it.

use std::time::Duration;

use crate::identity::sha256;

/// RFC 5626 §4.5, with its default base and maximum.
const BASE: Duration = Duration::from_secs(30);
pub(super) const LONGEST: Duration = Duration::from_secs(1800);

/// A stream of numbers that nobody else foresees.
#[derive(Debug)]
pub(super) struct Chance {
    seed: [u8; 32],
    drawn: u64,
}

impl Chance {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    fn draw(&mut self) -> u128 {
        self.drawn += 1;
        let [head @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] =
            sha256(&[self.seed.as_slice(), &self.drawn.to_be_bytes()].concat());
        u128::from_be_bytes(head)
    }

    /// 80 bits of text.
    pub(super) fn word(&mut self) -> String {
        format!("{:020x}", self.draw() >> 48)
    }

    /// Between half of a time and all of it.
    pub(super) fn spread(&mut self, whole: Duration) -> Duration {
        let share = (self.draw() >> 96) as f64 / f64::from(u32::MAX);
        whole.mul_f64(0.5 + share / 2.0)
    }

    /// RFC 5626 §4.5: how long to wait after so many failures in a row.
    pub(super) fn pause(&mut self, failures: u32) -> Duration {
        self.spread(BASE.saturating_mul(1 << failures.min(10)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_half_an_hour_and_are_spread() {
        let mut chance = Chance::new([1; 32]);
        for failures in 0..40 {
            let most = BASE.saturating_mul(1 << failures.min(10)).min(LONGEST);
            let all: Vec<_> = (0..50).map(|_| chance.pause(failures)).collect();
            assert!(all.iter().all(|pause| (most / 2..=most).contains(pause)), "{failures}");
            assert!(all.iter().any(|pause| *pause != all[0]));
        }
        assert_eq!(chance.word().len(), 20);
        assert_ne!(chance.word(), chance.word());
        assert_ne!(Chance::new([1; 32]).word(), Chance::new([2; 32]).word());
    }
}
