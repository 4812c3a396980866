//! Who did what: a line each in the log, under the target `ript::audit`, for logins, enrolments, trunks and refused calls.
//! Users appear under their opaque names; numbers only where the operator asked for them; tokens never.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::lock;
use super::rate::{Meter, Rate};
use crate::clock;
use crate::identity::principal::Principal;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::time::Timestamp;

/// Refused tokens that are told a second; who guesses tokens must not fill the disk.
const REFUSED: Rate = Rate { per_second: 10, burst: 20 };
/// Users whose newest token is remembered.
const MAX_USERS: usize = 100_000;

/// What happened to a customer's TG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkChange {
    /// It was registered, or registered again.
    Registered,
    /// The registration was ended.
    Removed,
}

/// Writes the lines.
#[derive(Debug, Default)]
pub struct Audit {
    numbers: bool,
    /// Each user's newest token, by its end.
    logins: Mutex<HashMap<String, Timestamp>>,
    refusals: Meter,
    left_out: AtomicU64,
}

impl Audit {
    /// With numbers, if the operator asks for them.
    pub(crate) fn new(numbers: bool) -> Self {
        Self { numbers, ..Self::default() }
    }

    /// A token was taken; the first time that it is seen, that is a login or the renewal of one.
    pub fn login(&self, principal: &Principal) {
        let user = principal.user();
        let mut logins = lock(&self.logins);
        if logins.get(user.as_str()) == Some(&principal.expires) {
            return;
        }
        if logins.len() >= MAX_USERS {
            let now = clock::now();
            logins.retain(|_, expires| *expires > now);
            if logins.len() >= MAX_USERS {
                logins.clear();
            }
        }
        let renewed = logins.insert(user.to_string(), principal.expires).is_some();
        drop(logins);
        let action = if renewed { "login-renewed" } else { "login" };
        tracing::info!(target: "ript::audit", action, %user, issuer = principal.issuer, until = %principal.expires);
    }

    /// A token was refused.
    pub fn token_refused(&self, problem: &Problem) {
        if self.refusals.take(clock::elapsed(), "", REFUSED).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let (code, why) = (problem.code.as_str(), problem.detail.as_str());
        tracing::info!(target: "ript::audit", action = "token-refused", code, why, left_out);
    }

    /// A certificate was asked for; `number` as far as it is known.
    pub fn enrolment(&self, user: &str, number: Option<&str>, refused: Option<Code>) {
        let number = number.filter(|_| self.numbers);
        match refused {
            None => tracing::info!(target: "ript::audit", action = "enrolled", user, number),
            Some(code) => {
                let code = code.as_str();
                tracing::info!(target: "ript::audit", action = "enrolment-refused", user, number, code);
            }
        }
    }

    /// A customer's TG was registered or removed, or was to be.
    pub fn trunk(&self, user: &str, change: TrunkChange, target: Option<&str>, refused: Option<Code>) {
        let action = match (change, refused) {
            (TrunkChange::Registered, None) => "trunk-registered",
            (TrunkChange::Registered, Some(_)) => "trunk-refused",
            (TrunkChange::Removed, None) => "trunk-removed",
            (TrunkChange::Removed, Some(_)) => "trunk-removal-refused",
        };
        let code = refused.map(Code::as_str);
        tracing::info!(target: "ript::audit", action, user, target_uri = target, code);
    }

    /// A call was refused before anybody rang.
    pub fn call_refused(&self, user: &str, tg: &str, to: &str, problem: &Problem) {
        let to = Some(to).filter(|_| self.numbers);
        let code = problem.code.as_str();
        tracing::info!(target: "ript::audit", action = "call-refused", user, tg, to, code);
    }
}
