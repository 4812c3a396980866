//! Tickets, for clients that cannot set headers, and the cookie that spares media byways the bearer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::lock;
use crate::protocol::id::{HandlerKey, LegId};
use crate::protocol::problem::{Code, Problem};
use crate::protocol::time::Timestamp;

/// wire §2: 30 s to live.
const LIFETIME: Duration = Duration::from_secs(30);
/// How long a media cookie holds; then the bearer is asked for again.
const COOKIE_LIFETIME: Duration = Duration::from_secs(600);
/// Tickets outstanding at once; beyond it the oldest go.
const MAX_TICKETS: usize = 100_000;

/// What a ticket opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Whose it is.
    pub user: String,
    /// The leg whose media it opens; none: the push channel.
    pub leg: Option<LegId>,
    /// The device.
    pub handler: Option<HandlerKey>,
}

/// All tickets.
pub struct Tickets {
    random: SystemRandom,
    outstanding: Mutex<HashMap<String, (Grant, Timestamp)>>,
    cookies: hmac::Key,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tickets")
    }
}

impl Tickets {
    /// None outstanding.
    pub fn new() -> Result<Self, ring::error::Unspecified> {
        let random = SystemRandom::new();
        let cookies = hmac::Key::generate(hmac::HMAC_SHA256, &random)?;
        Ok(Self { random, outstanding: Mutex::default(), cookies })
    }

    /// A fresh one.
    pub fn issue(&self, now: Timestamp, grant: Grant) -> Result<String, Problem> {
        let mut bytes = [0; 24];
        let no_random = |_| Problem::new(Code::Internal, "the system has no random numbers");
        self.random.fill(&mut bytes).map_err(no_random)?;
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        let mut outstanding = lock(&self.outstanding);
        if outstanding.len() >= MAX_TICKETS {
            outstanding.retain(|_, (_, until)| *until > now);
            if outstanding.len() >= MAX_TICKETS {
                return Err(Problem::new(Code::Overloaded, "too many tickets are outstanding"));
            }
        }
        outstanding.insert(ticket.clone(), (grant, now + LIFETIME));
        Ok(ticket)
    }

    /// Takes a ticket back, for what it opens. Once.
    pub fn redeem(&self, now: Timestamp, ticket: &str) -> Result<Grant, Problem> {
        let found = lock(&self.outstanding).remove(ticket);
        found.filter(|(_, until)| now < *until).map(|(grant, _)| grant).ok_or_else(|| {
            Problem::new(Code::BadTicket, "this ticket is unknown, used or late; read the call for a new one")
                .field("ticket")
        })
    }

    /// A media cookie's value.
    pub fn cookie(&self, now: Timestamp, user: &str, leg: LegId, handler: HandlerKey) -> String {
        let until = (now + COOKIE_LIFETIME).as_millis();
        let text = format!("{user}.{leg}.{handler}.{until}");
        let tag = hmac::sign(&self.cookies, text.as_bytes());
        format!("{handler}.{until}.{user}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    /// Whom a media cookie names, if it holds for this leg.
    pub fn check_cookie(&self, now: Timestamp, leg: LegId, value: &str) -> Option<(String, HandlerKey)> {
        let mut parts = value.splitn(4, '.');
        let (handler, until, user, tag) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let text = format!("{user}.{leg}.{handler}.{until}");
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        hmac::verify(&self.cookies, text.as_bytes(), &tag).ok()?;
        let live = now.as_millis() < until.parse::<u64>().ok()?;
        live.then_some(())?;
        Some((user.to_owned(), handler.parse().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant() -> Grant {
        Grant { user: "u".into(), leg: Some(LegId::from_u128(1)), handler: Some(HandlerKey::from_u128(2)) }
    }

    #[test]
    fn a_ticket_opens_once_within_thirty_seconds() {
        let tickets = Tickets::new().unwrap();
        let now = Timestamp::from_millis(1000);
        let ticket = tickets.issue(now, grant()).unwrap();
        assert_eq!(tickets.redeem(now, &ticket), Ok(grant()));
        assert_eq!(tickets.redeem(now, &ticket).unwrap_err().code, Code::BadTicket);
        let late = tickets.issue(now, grant()).unwrap();
        assert_eq!(tickets.redeem(now + LIFETIME, &late).unwrap_err().code, Code::BadTicket);
        assert_eq!(tickets.redeem(now, "forged").unwrap_err().code, Code::BadTicket);
    }

    #[test]
    fn a_cookie_holds_for_its_leg_only_and_cannot_be_changed() {
        let tickets = Tickets::new().unwrap();
        let (now, leg, handler) =
            (Timestamp::from_millis(1000), LegId::from_u128(1), HandlerKey::from_u128(2));
        let cookie = tickets.cookie(now, "user-1", leg, handler);
        assert_eq!(tickets.check_cookie(now, leg, &cookie), Some(("user-1".into(), handler)));
        assert_eq!(tickets.check_cookie(now, LegId::from_u128(9), &cookie), None);
        assert_eq!(tickets.check_cookie(now + COOKIE_LIFETIME, leg, &cookie), None);
        assert_eq!(tickets.check_cookie(now, leg, &cookie.replace("user-1", "user-2")), None);
        assert_eq!(tickets.check_cookie(now, leg, "a.b.c"), None);
        let other = Tickets::new().unwrap();
        assert_eq!(other.check_cookie(now, leg, &cookie), None);
    }
}
