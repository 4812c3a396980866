//! Who did what: a line each in the log, under the target `ript::audit`, for logins, enrolments, trunks and refused calls.
//! Users appear under their opaque names; numbers only where the operator asked for them; tokens never.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oauth2::url::Url;

use super::lock;
use super::rate::{Meter, Rate};
use crate::clock;
use crate::identity::principal::Principal;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::time::Timestamp;

/// Refused tokens that are told a second; who guesses tokens must not fill the disk.
const REFUSED: Rate = Rate { per_second: 10, burst: 20 };
/// Users whose tokens are remembered.
const MAX_USERS: usize = 100_000;
/// Tokens of one user that are remembered: each device has its own.
const MAX_TOKENS: usize = 16;
/// What is told of a number, which a caller may make as long as a body can be.
const MAX_NUMBER: usize = 64;

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
    /// The tokens of each user that end last, by their ends.
    logins: Mutex<HashMap<String, BTreeSet<Timestamp>>>,
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
        let Some(action) = self.first_seen(user.as_str(), principal.expires) else { return };
        // What another server shows has no end.
        let until = (!principal.is_trunk()).then(|| tracing::field::display(principal.expires));
        tracing::info!(target: "ript::audit", action, %user, issuer = principal.issuer, until);
    }

    /// What a token means that was not seen yet. Where a user has more than are remembered, those that end before all
    /// of these are nothing new: however they take turns, none is told twice.
    fn first_seen(&self, user: &str, expires: Timestamp) -> Option<&'static str> {
        let mut logins = lock(&self.logins);
        if let Some(known) = logins.get_mut(user) {
            if known.len() >= MAX_TOKENS && known.first().is_some_and(|first| expires < *first) {
                return None;
            }
            let new = known.insert(expires);
            if known.len() > MAX_TOKENS {
                known.pop_first();
            }
            return new.then_some("login-renewed");
        }
        if logins.len() >= MAX_USERS {
            let now = clock::now();
            logins.retain(|_, known| known.last().is_some_and(|last| *last > now));
            if logins.len() >= MAX_USERS {
                logins.clear();
            }
        }
        logins.insert(user.to_owned(), BTreeSet::from([expires]));
        Some("login")
    }

    /// A token was refused.
    pub fn token_refused(&self, problem: &Problem) {
        let Some(left_out) = self.tell_refusal(clock::elapsed()) else { return };
        let (code, why) = (problem.code.as_str(), problem.detail.as_str());
        tracing::info!(target: "ript::audit", action = "token-refused", code, why, left_out);
    }

    /// Whether a refusal is told, and how many were not since the last one that was.
    fn tell_refusal(&self, now: Duration) -> Option<u64> {
        if self.refusals.take(now, "", REFUSED).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
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

    /// A customer's TG was registered or removed, or was to be. Only the host of `target` is told: before it is checked a
    /// URI may hold passwords, numbers and addresses.
    pub fn trunk(&self, user: &str, change: TrunkChange, target: Option<&str>, refused: Option<Code>) {
        let action = match (change, refused) {
            (TrunkChange::Registered, None) => "trunk-registered",
            (TrunkChange::Registered, Some(_)) => "trunk-refused",
            (TrunkChange::Removed, None) => "trunk-removed",
            (TrunkChange::Removed, Some(_)) => "trunk-removal-refused",
        };
        let code = refused.map(Code::as_str);
        let host = target.and_then(|target| Url::parse(target).ok()?.host_str().map(str::to_owned));
        tracing::info!(target: "ript::audit", action, user, host, code);
    }

    /// A call was refused before anybody rang.
    pub fn call_refused(&self, user: &str, tg: &str, to: &str, problem: &Problem) {
        let to = self.numbers.then(|| to.chars().take(MAX_NUMBER).collect::<String>());
        let code = problem.code.as_str();
        tracing::info!(target: "ript::audit", action = "call-refused", user, tg, to, code);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            lock(&self.0).write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that something writes.
    fn lines(what: impl FnOnce()) -> Vec<Value> {
        let log = Log::default();
        let writer = log.clone();
        let builder = tracing_subscriber::fmt().json().flatten_event(true);
        let subscriber = builder.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, what);
        let text = String::from_utf8(lock(&log.0).clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.iter().all(|line| line["target"] == "ript::audit" && line["level"] == "INFO"));
        lines
    }

    fn principal(subject: &str, expires: u64) -> Principal {
        Principal {
            issuer: "https://id.example".into(),
            subject: subject.into(),
            numbers: vec!["+14085550001".into()],
            tgs: vec![],
            scopes: [].into(),
            expires: Timestamp::from_millis(expires),
        }
    }

    #[test]
    fn two_devices_whose_requests_take_turns_are_told_once_each() {
        let audit = Audit::default();
        let (phone, desk) = (principal("a@example.com", 9_000), principal("a@example.com", 5_000));
        let told = lines(|| {
            for _ in 0..100 {
                audit.login(&phone);
                audit.login(&desk);
            }
            audit.login(&principal("b@example.com", 5_000));
        });
        let actions: Vec<&Value> = told.iter().map(|line| &line["action"]).collect();
        assert_eq!(actions, ["login", "login-renewed", "login"]);
        assert_eq!(told[0]["user"], told[1]["user"]);
        assert_ne!(told[0]["user"], told[2]["user"]);
        for line in told {
            let line = line.to_string();
            assert!(!line.contains("@example.com") && !line.contains("1408555"), "{line}");
        }
    }

    #[test]
    fn however_many_tokens_of_a_user_take_turns_none_is_told_twice_and_few_are_kept() {
        let audit = Audit::default();
        let told = (0..3000u64).filter(|n| audit.first_seen("a", Timestamp::from_millis(n % 100)).is_some());
        assert_eq!(told.count(), 100);
        assert_eq!(lock(&audit.logins)["a"].len(), MAX_TOKENS);
    }

    #[test]
    fn however_many_users_there_are_so_many_are_kept() {
        let audit = Audit::default();
        for user in 0..=MAX_USERS {
            assert_eq!(audit.first_seen(&user.to_string(), Timestamp::from_millis(5)), Some("login"));
            assert!(lock(&audit.logins).len() <= MAX_USERS);
        }
    }

    #[test]
    fn another_servers_token_is_a_login_without_an_end() {
        let peer = Principal {
            issuer: crate::identity::principal::TRUNK.into(),
            ..principal("provider.example", u64::MAX / 2)
        };
        let audit = Audit::default();
        let told = lines(|| (0..3).for_each(|_| audit.login(&peer)));
        assert_eq!((told.len(), &told[0]["action"], told[0].get("until")), (1, &json!("login"), None));
    }

    #[test]
    fn refused_tokens_beyond_some_a_second_are_only_counted() {
        let audit = Audit::default();
        let now = Duration::from_secs(7);
        let told: Vec<u64> = (0..100).filter_map(|_| audit.tell_refusal(now)).collect();
        assert_eq!(told, [0; 20]);
        let later: Vec<u64> =
            (0..100).filter_map(|_| audit.tell_refusal(now + Duration::from_secs(1))).collect();
        assert_eq!(later, [[80].as_slice(), &[0; 9]].concat());
    }

    #[test]
    fn a_trunks_line_names_its_host_and_nothing_else_of_its_uri() {
        let audit = Audit::new(true);
        let uris = [
            "https://bob:hunter2@sip.example:8443/tgs/+14085550001?token=abc#eyJ",
            "+14085550001 bob@example.com",
            "mailto:bob@example.com",
        ];
        let told = lines(|| {
            for uri in uris {
                audit.trunk("u", TrunkChange::Registered, Some(uri), Some(Code::BadTargetUri));
            }
            audit.trunk("u", TrunkChange::Removed, None, None);
        });
        let hosts: Vec<Option<&str>> = told.iter().map(|line| line.get("host")?.as_str()).collect();
        assert_eq!(hosts, [Some("sip.example"), None, None, None]);
        let actions: Vec<&Value> = told.iter().map(|line| &line["action"]).collect();
        assert_eq!(actions, ["trunk-refused", "trunk-refused", "trunk-refused", "trunk-removed"]);
        for line in told {
            let line = line.to_string();
            assert!(["bob", "hunter2", "1408555", "abc", "eyJ"].iter().all(|s| !line.contains(s)), "{line}");
        }
    }

    #[test]
    fn numbers_of_refused_calls_and_enrolments_are_told_if_asked_for_and_no_longer_than_numbers_are() {
        let long = "1".repeat(60_000);
        let problem = Problem::new(Code::Unreachable, "x");
        let all = |audit: &Audit| {
            audit.call_refused("u", "main", "+14085550001", &problem);
            audit.call_refused("u", "main", &long, &problem);
            audit.enrolment("u", Some("+14085550001"), None);
            audit.enrolment("u", Some("+14085550001"), Some(Code::NumberNotAllowed));
        };
        let quiet = lines(|| all(&Audit::new(false)));
        assert_eq!(quiet.len(), 4);
        assert!(quiet.iter().all(|line| line.get("to").is_none() && line.get("number").is_none()));
        let told = lines(|| all(&Audit::new(true)));
        assert_eq!((&told[0]["to"], &told[0]["code"]), (&json!("+14085550001"), &json!("unreachable")));
        assert_eq!(told[1]["to"].as_str().unwrap().len(), MAX_NUMBER);
        assert!(told[2..].iter().all(|line| line["number"] == "+14085550001"));
    }
}
