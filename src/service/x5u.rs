//! Chains of PASSporTs that lie elsewhere (`x5u`): fetched from configured hosts only, kept as long as they say.
//!
//! Who calls names the URL. So a user has few fetches a minute, failures are kept like chains, and who asks for a URL
//! that is being fetched waits for that answer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::fetch::{FetchError, Fetched, Fetcher, Settings};
use super::lock;
use crate::clock;
use crate::identity::canonical::Identity;
use crate::identity::certificate::Chain;
use crate::identity::passport::{Passport, PassportError, PassportTrust};
use crate::identity::x5u::read_chain;
use crate::protocol::time::Timestamp;

/// How long a chain is kept where nothing is said, and the bounds of what may be said.
const USUAL: Duration = Duration::from_secs(3600);
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(24 * 3600);
/// How long a failure is kept.
const FAILED: Duration = Duration::from_secs(15);
/// URLs of which something is kept; each holds 64 KiB at most.
const CAPACITY: usize = 1_000;
/// Fetches that one user causes within `MINUTE`.
const PER_USER: u32 = 30;
const MINUTE: Duration = Duration::from_secs(60);
/// Users whose fetches are counted.
const USERS: usize = 10_000;

/// What is said when there is no room or no turn.
const BUSY: PassportError =
    PassportError::X5u("too many chains are being fetched: wait a minute, or send the chain itself as x5c");

type Answer = Result<Chain, PassportError>;

/// Fetches and keeps chains.
#[derive(Debug)]
pub struct X5u {
    /// None where no host is asked.
    fetcher: Option<Fetcher>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
    users: Mutex<HashMap<String, (u32, Timestamp)>>,
}

/// One URL.
#[derive(Debug, Default)]
struct Slot {
    kept: Mutex<Option<(Answer, Timestamp)>>,
    /// Held while somebody fetches.
    fetching: tokio::sync::Mutex<()>,
}

impl Slot {
    fn fresh(&self, now: Timestamp) -> Option<Answer> {
        lock(&self.kept).as_ref().filter(|(_, until)| now < *until).map(|(answer, _)| answer.clone())
    }

    fn until(&self) -> Option<Timestamp> {
        lock(&self.kept).as_ref().map(|(_, until)| *until)
    }
}

impl X5u {
    /// Fetches nothing unless some host is trusted with chains.
    pub fn new(trust: &PassportTrust, settings: &Settings) -> Result<Self, FetchError> {
        let fetcher = if trust.x5u_hosts.is_empty() { None } else { Some(Fetcher::new(settings)?) };
        Ok(Self { fetcher, slots: Mutex::default(), users: Mutex::default() })
    }

    /// The PASSporT with all that its check needs.
    pub(super) async fn complete(
        &self,
        passport: Passport,
        trust: &PassportTrust,
        destination: &Identity,
        user: &str,
    ) -> Result<Passport, PassportError> {
        match passport.x5u(trust, destination, clock::now())? {
            Some(url) => Ok(passport.with_chain(self.chain(&url, user).await?)),
            None => Ok(passport),
        }
    }

    async fn chain(&self, url: &str, user: &str) -> Answer {
        let slot = self.slot(url, clock::now())?;
        if let Some(answer) = slot.fresh(clock::now()) {
            return answer;
        }
        let _turn = slot.fetching.lock().await;
        let now = clock::now();
        if let Some(answer) = slot.fresh(now) {
            return answer;
        }
        let fetcher = self.fetcher.as_ref().ok_or(BUSY)?;
        self.spend(user, now)?;
        let (answer, until) = judged(fetcher.get(url).await, url, now);
        *lock(&slot.kept) = Some((answer.clone(), until));
        answer
    }

    fn slot(&self, url: &str, now: Timestamp) -> Result<Arc<Slot>, PassportError> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(url) {
            return Ok(slot.clone());
        }
        if slots.len() >= CAPACITY {
            // Whoever holds a slot is about to use it.
            let idle = |slot: &Arc<Slot>| Arc::strong_count(slot) == 1;
            slots.retain(|_, slot| !idle(slot) || slot.until().is_some_and(|until| now < until));
            if slots.len() >= CAPACITY {
                let first = slots.iter().filter(|(_, slot)| idle(slot)).min_by_key(|(_, slot)| slot.until());
                let first = first.map(|(url, _)| url.clone()).ok_or(BUSY)?;
                slots.remove(&first);
            }
        }
        Ok(slots.entry(url.to_owned()).or_default().clone())
    }

    /// One fetch more for a user.
    fn spend(&self, user: &str, now: Timestamp) -> Result<(), PassportError> {
        let mut users = lock(&self.users);
        if users.len() >= USERS && !users.contains_key(user) {
            users.retain(|_, (_, since)| now.since(*since) < MINUTE);
            if users.len() >= USERS {
                return Err(BUSY);
            }
        }
        let (spent, since) = users.entry(user.to_owned()).or_insert((0, now));
        if now.since(*since) >= MINUTE {
            (*spent, *since) = (0, now);
        }
        *spent += 1;
        if *spent > PER_USER { Err(BUSY) } else { Ok(()) }
    }
}

/// What an answer means, and until when.
fn judged(fetched: Result<Fetched, FetchError>, url: &str, now: Timestamp) -> (Answer, Timestamp) {
    let fetched = fetched.map_err(|error| {
        tracing::debug!(url, %error, "an x5u could not be fetched");
        told(&error)
    });
    let kept = |fetched: &Fetched| fetched.max_age.unwrap_or(USUAL).clamp(LEAST, MOST);
    let answer = fetched.and_then(|fetched| Ok((read_chain(&fetched.body)?, kept(&fetched))));
    match answer {
        Ok((chain, kept)) => (Ok(chain), now + kept),
        Err(error) => (Err(error), now + FAILED),
    }
}

/// What the caller is told: nothing of where a name leads within our own network.
fn told(error: &FetchError) -> PassportError {
    PassportError::X5u(match error {
        FetchError::Url => "only https URLs without a password are fetched",
        FetchError::Address(_) | FetchError::Name(_) | FetchError::Failed(_) => {
            "this server can't reach its host over https"
        }
        FetchError::Timeout => "its host gave no whole answer within 2 s",
        FetchError::TooLarge => "there is more than 64 KiB at it",
        FetchError::Status(_) => "its host did not answer with status 200; redirects are not followed",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::devca::DevCa;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn empty() -> X5u {
        X5u::new(&PassportTrust::default(), &Settings::default()).unwrap()
    }

    fn fetched(max_age: Option<u64>) -> Result<Fetched, FetchError> {
        let ca = DevCa::generate(NOW).unwrap();
        let body = ca.cert_pem().to_owned().into();
        Ok(Fetched { body, max_age: max_age.map(Duration::from_secs) })
    }

    #[test]
    fn a_chain_is_kept_as_long_as_its_host_says_within_bounds() {
        for (said, kept) in
            [(None, 3600), (Some(0), 60), (Some(61), 61), (Some(86_400), 86_400), (Some(u64::MAX), 86_400)]
        {
            let (answer, until) = judged(fetched(said), "", NOW);
            assert!(answer.is_ok());
            assert_eq!(until, NOW + Duration::from_secs(kept), "{said:?}");
        }
    }

    #[test]
    fn a_failure_is_kept_for_a_moment_and_names_no_address() {
        let address = "10.9.8.7".parse().unwrap();
        for error in [
            FetchError::Url,
            FetchError::Address(address),
            FetchError::Name("inside.example".into()),
            FetchError::Failed("connect 10.9.8.7: inside.example".into()),
            FetchError::Timeout,
            FetchError::TooLarge,
            FetchError::Status(302),
        ] {
            let (answer, until) = judged(Err(error), "", NOW);
            let told = answer.unwrap_err();
            assert_eq!((told.code(), until), ("passport-x5u", NOW + FAILED));
            assert!(!told.to_string().contains("10.9") && !told.to_string().contains("inside"), "{told}");
        }
    }

    #[test]
    fn the_oldest_makes_room_and_what_is_in_use_stays() {
        let x5u = empty();
        let in_use = x5u.slot("in use", NOW).unwrap();
        for n in 1..CAPACITY + 10 {
            let slot = x5u.slot(&n.to_string(), NOW).unwrap();
            let until = NOW + Duration::from_secs(n as u64 + 1);
            *lock(&slot.kept) = Some((Err(BUSY), until));
        }
        let slots = lock(&x5u.slots);
        assert_eq!(slots.len(), CAPACITY);
        assert!(slots.contains_key("in use") && !slots.contains_key("1") && slots.contains_key("1009"));
        drop((slots, in_use));
        x5u.slot("new", NOW + MOST).unwrap();
        assert_eq!(lock(&x5u.slots).len(), 1, "what has ended goes first");
    }

    #[test]
    fn a_user_has_so_many_fetches_a_minute() {
        let x5u = empty();
        for _ in 0..PER_USER {
            x5u.spend("alice", NOW).unwrap();
        }
        assert_eq!(x5u.spend("alice", NOW), Err(BUSY));
        x5u.spend("bob", NOW).unwrap();
        x5u.spend("alice", NOW + MINUTE).unwrap();
    }
}
