//! What a TG allows, kept for a while: calls that the server would refuse are refused here, before anything is sent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::login::Secret;
use super::{ClientError, Refusal};
use crate::identity::canonical::Identity;
use crate::protocol::number::Number;
use crate::protocol::problem::Code;
use crate::protocol::resource::TgDescription;

/// No description is kept for longer, whatever the server says.
const MOST: Duration = Duration::from_secs(300);
/// A younger description is not asked for again before a call is refused by it.
const YOUNG: Duration = Duration::from_secs(5);

/// A TG's description, and for whom and since when it holds.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) tg: Arc<TgDescription>,
    pub(super) fetched: Instant,
    /// How long the server lets it be kept.
    pub(super) max_age: Duration,
    /// What it was asked with: `numbers` are those of a token.
    pub(super) token: Option<Secret>,
}

impl Known {
    /// Whether it may still be kept.
    pub(super) fn holds(&self, now: Instant, token: Option<&Secret>) -> bool {
        self.is_younger(now, self.max_age.min(MOST), token)
    }

    /// Whether a call may be refused by it without asking again.
    pub(super) fn may_refuse(&self, now: Instant, token: Option<&Secret>) -> bool {
        self.is_younger(now, YOUNG, token)
    }

    fn is_younger(&self, now: Instant, age: Duration, token: Option<&Secret>) -> bool {
        now.saturating_duration_since(self.fetched) < age && self.token.as_ref() == token
    }

    /// Whether the TG takes a call, checked in the server's order and told in its words.
    pub(super) fn check(&self, from: &Number, to: &Number) -> Result<(), ClientError> {
        let caller = Identity::from_number(&from.to_string());
        if !caller.is_some_and(|caller| caller.is_covered_by(&self.tg.numbers)) {
            return Err(refused(
                Code::NumberNotAllowed,
                "this token may not call from the PASSporT's `orig`; the TG's description lists `numbers`",
                "passport",
            ));
        }
        if !self.tg.outbound.destinations.allow(to) {
            return Err(refused(
                Code::DestinationNotAllowed,
                "this TG takes no calls to that destination; its description lists `destinations`",
                "destination",
            ));
        }
        Ok(())
    }
}

/// Reads whom to call.
pub(super) fn destination(text: &str) -> Result<Number, ClientError> {
    text.parse().map_err(|error: crate::protocol::number::BadNumber| {
        refused(Code::BadNumber, &error.to_string(), "destination")
    })
}

fn refused(code: Code, detail: &str, field: &str) -> ClientError {
    ClientError::Refused(Box::new(Refusal {
        status: code.status(),
        code: code.as_str().to_owned(),
        detail: detail.to_owned(),
        field: Some(field.to_owned()),
        retry_after: None,
        date: None,
        local: true,
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock;

    fn known(fetched: Instant, max_age: u64) -> Known {
        let tg = json!({
            "uri": "u", "name": "n", "description": "d", "outbound": {"destinations": ["*", "!+1900*"]},
            "numbers": ["+1408*"], "advertisement": "", "retry-backoff": 1, "media-timeout": 1, "keepalive": 1,
            "answer-timeout": 1, "media-encodings": []
        });
        let tg = Arc::new(serde_json::from_value(tg).unwrap());
        Known { tg, fetched, max_age: Duration::from_secs(max_age), token: Some(Secret::new("a")) }
    }

    #[test]
    fn the_caller_is_looked_at_before_the_destination() {
        let known = known(clock::instant(), 300);
        let check = |from: &str, to: &str| known.check(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(check("+14085550001", "+14085550002").is_ok());
        for (from, to, code, field) in [
            ("+14085550001", "+19005550002", "destination-not-allowed", "destination"),
            ("+14095550001", "+14085550002", "number-not-allowed", "passport"),
            ("+14095550001", "+19005550002", "number-not-allowed", "passport"),
        ] {
            let error = check(from, to).unwrap_err();
            let refusal = error.refusal().unwrap();
            assert_eq!((refusal.code.as_str(), refusal.field.as_deref()), (code, Some(field)));
            assert!(refusal.local && refusal.status == 403);
        }
    }

    #[test]
    fn an_old_description_or_one_of_another_token_refuses_nothing_by_itself() {
        let start = clock::instant();
        let (a, b) = (Secret::new("a"), Secret::new("b"));
        let after = |seconds| start + Duration::from_secs(seconds);
        let known = |max_age| known(start, max_age);
        assert!(known(300).may_refuse(after(4), Some(&a)) && !known(300).may_refuse(after(5), Some(&a)));
        assert!(!known(300).may_refuse(after(0), Some(&b)) && !known(300).may_refuse(after(0), None));
        assert!(known(300).holds(after(299), Some(&a)) && !known(300).holds(after(300), Some(&a)));
        assert!(!known(9999).holds(after(300), Some(&a)), "five minutes are the most");
        assert!(!known(0).holds(after(0), Some(&a)));
        assert!(!known(300).holds(after(0), Some(&b)));
    }
}
