//! What a login gave, and when it has to be renewed.

use std::fmt;
use std::time::Duration;

use oauth2::TokenResponse as _;
use oauth2::basic::{BasicTokenResponse, BasicTokenType};
use serde::{Deserialize, Serialize};

use super::{Discovery, LoginError};
use crate::protocol::time::Timestamp;

/// A text that no log shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes it in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// What a login at a domain gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The domain.
    pub domain: String,
    /// Where it came from: a renewal goes there, whatever the domain says by then.
    pub discovery: Discovery,
    /// The bearer token.
    pub access_token: Secret,
    /// What buys the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<Secret>,
    /// When the token was asked for.
    pub issued: Timestamp,
    /// When it ends, if the provider told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl Login {
    /// Takes a provider's answer to a request that was sent at `asked`.
    pub(super) fn from_answer(
        domain: &str,
        discovery: &Discovery,
        answer: &BasicTokenResponse,
        asked: Timestamp,
    ) -> Result<Self, LoginError> {
        if *answer.token_type() != BasicTokenType::Bearer {
            // RFC 6749 §7.1: a type that isn't understood must not be used.
            return Err(LoginError::protocol("the identity provider's answer", "token_type isn't Bearer"));
        }
        Ok(Self {
            domain: domain.to_owned(),
            discovery: discovery.clone(),
            access_token: Secret::new(answer.access_token().secret()),
            refresh_token: answer.refresh_token().map(|token| Secret::new(token.secret())),
            issued: asked,
            expires: answer.expires_in().map(|life| asked + life),
        })
    }

    /// The login after a renewal.
    pub(super) fn renewed(&self, fresh: Self) -> Self {
        // RFC 6749 §6: an answer without a refresh token leaves the old one good.
        let refresh_token = fresh.refresh_token.or_else(|| self.refresh_token.clone());
        Self { refresh_token, ..fresh }
    }

    /// When to renew it: four fifths of its life leave time for second tries.
    pub fn due(&self) -> Option<Timestamp> {
        let life = self.expires?.since(self.issued);
        Some(self.issued + life.mul_f64(0.8))
    }

    /// How long until it is to be renewed; nothing if the provider told no end.
    pub(super) fn due_in(&self, now: Timestamp) -> Option<Duration> {
        Some(self.due()?.since(now))
    }

    /// Whether the token has ended.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::super::discovery::tests::document;
    use super::*;

    pub(in super::super) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    pub(in super::super) fn login(answer: Value) -> Result<Login, LoginError> {
        let discovery = serde_json::from_value(document()).unwrap();
        let answer: BasicTokenResponse = serde_json::from_value(answer).unwrap();
        Login::from_answer("ript.example", &discovery, &answer, NOW)
    }

    fn bearer(more: Value) -> Value {
        let mut answer = json!({"access_token": "acc-1", "token_type": "Bearer"});
        answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        answer
    }

    #[test]
    fn a_token_is_renewed_after_four_fifths_of_its_life() {
        let login = login(bearer(json!({"expires_in": 300}))).unwrap();
        let after = |seconds| NOW + Duration::from_secs(seconds);
        assert_eq!(login.due(), Some(after(240)));
        assert_eq!(login.due_in(after(200)), Some(Duration::from_secs(40)));
        assert_eq!(login.due_in(after(999)), Some(Duration::ZERO));
        assert!(!login.is_expired(after(299)) && login.is_expired(after(300)));
    }

    #[test]
    fn a_token_without_an_end_waits_for_a_refusal() {
        let login = login(bearer(json!({}))).unwrap();
        assert_eq!((login.due(), login.due_in(NOW)), (None, None));
        assert!(!login.is_expired(NOW + Duration::from_secs(1 << 30)));
    }

    #[test]
    fn the_old_refresh_token_stays_where_the_answer_has_none() {
        let old = login(bearer(json!({"refresh_token": "ref-1"}))).unwrap();
        let kept = old.renewed(login(bearer(json!({"access_token": "acc-2"}))).unwrap());
        assert_eq!((kept.access_token.expose(), kept.refresh_token), ("acc-2", Some(Secret::new("ref-1"))));
        let rotated = old.renewed(login(bearer(json!({"refresh_token": "ref-2"}))).unwrap());
        assert_eq!(rotated.refresh_token, Some(Secret::new("ref-2")));
    }

    #[test]
    fn a_token_that_is_no_bearer_is_refused_and_none_is_shown() {
        let mut answer = bearer(json!({"refresh_token": "ref-1"}));
        let shown = format!("{:?}", login(answer.clone()).unwrap());
        assert!(!shown.contains("acc-1") && !shown.contains("ref-1"), "{shown}");
        answer["token_type"] = json!("DPoP");
        assert!(matches!(login(answer), Err(LoginError::Protocol { .. })));
    }
}
