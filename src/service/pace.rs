//! Who asks too fast, or has too much already.

use std::collections::HashMap;
use std::sync::Mutex;

use super::rate::Rate;
use super::{Service, lock};
use crate::clock;
use crate::protocol::id::TgId;
use crate::protocol::problem::{Code, Problem};

/// Calls that are being placed, by what limits them. The directory knows a call only once it is written down: without
/// these, all who ask at once would find the last seat free.
#[derive(Debug, Default)]
pub(crate) struct Placing(Mutex<HashMap<String, usize>>);

/// A seat that is taken until this is dropped.
#[derive(Debug)]
pub(crate) struct Seat<'a> {
    placing: &'a Placing,
    name: String,
}

impl Placing {
    /// Takes a seat of `most`, of which the live calls have theirs. Who lets it go only when its call is live has two for
    /// a moment, and never none.
    fn take(&self, name: String, most: usize, live: impl FnOnce() -> usize) -> Option<Seat<'_>> {
        let mut taken = lock(&self.0);
        let before = taken.get(&name).copied().unwrap_or_default();
        if live() + before >= most {
            return None;
        }
        taken.insert(name.clone(), before + 1);
        Some(Seat { placing: self, name })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut taken = lock(&self.placing.0);
        if let Some(count) = taken.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.name);
            }
        }
    }
}

impl Service {
    /// Refuses whose TG, or who themselves, have as many calls as they may.
    pub(super) fn seats(&self, user: &str, tg: &TgId) -> Result<[Option<Seat<'_>>; 2], Problem> {
        let of_tg = match self.settings.tg(tg.as_str()).and_then(|tg| tg.calls) {
            None => None,
            Some(most) => {
                let seat = self.placing.take(format!("tg {tg}"), most, || self.directory.placed(tg));
                let why =
                    format!("this TG carries at most {most} calls at once; try again when one has ended");
                Some(seat.ok_or_else(|| Problem::new(Code::TooMany, why))?)
            }
        };
        let most = self.settings.calls_per_user;
        let mine = self.placing.take(format!("user {user}"), most, || self.directory.counts(user).0);
        let mine = mine
            .ok_or_else(|| Problem::new(Code::TooMany, format!("a user has at most {most} calls at once")))?;
        if self.directory.counts(user).1 / 2 >= self.settings.calls {
            return Err(Problem::new(Code::Overloaded, "the server has as many calls as it takes"));
        }
        Ok([of_tg, Some(mine)])
    }

    /// Refuses who places calls too fast, alone or with all others of the TG.
    pub(super) fn pace(&self, user: &str, tg: &TgId) -> Result<(), Problem> {
        let (name, of_user) = (format!("user {user}"), self.settings.call_rate);
        if let Some(rate) = of_user {
            self.take(&name, rate, |n| format!("a user places at most {n} calls a second"))?;
        }
        let Some(rate) = self.settings.tg(tg.as_str()).and_then(|tg| tg.call_rate) else { return Ok(()) };
        let why = |n| format!("the users of this TG place at most {n} calls a second");
        self.take(&format!("tg {tg}"), rate, why).inspect_err(|_| {
            // What others used up is no doing of this user.
            if let Some(rate) = of_user {
                self.rates.give_back(&name, rate);
            }
        })
    }

    /// Refuses who enrols too fast.
    pub fn pace_enrolment(&self, user: &str) -> Result<(), Problem> {
        let Some(rate) = self.settings.call_rate else { return Ok(()) };
        self.take(&format!("enrol {user}"), rate, |n| format!("a user enrols at most {n} times a second"))
    }

    fn take(&self, name: &str, rate: Rate, why: impl Fn(u32) -> String) -> Result<(), Problem> {
        self.rates.take(clock::elapsed(), name, rate).map_err(|wait| {
            let mut problem = Problem::new(Code::TooMany, why(rate.per_second));
            problem.retry_after =
                u32::try_from(wait.as_nanos().div_ceil(1_000_000_000)).ok().map(|s| s.max(1));
            problem
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_one_of_so_many_until_it_is_let_go_and_names_do_not_share() {
        let placing = Placing::default();
        let take = |name: &str, live: usize| placing.take(name.to_owned(), 3, || live);
        let first = take("a", 1).unwrap();
        let second = take("a", 1).unwrap();
        assert!(take("a", 1).is_none());
        assert!(take("b", 2).is_some());
        drop(first);
        // Its call is live now.
        assert!(take("a", 2).is_none());
        assert!(take("a", 1).is_some());
        drop(second);
        assert!(lock(&placing.0).is_empty());
    }
}
