//! Who sends a request, and what they may do.

use std::collections::BTreeSet;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::canonical::Identity;
use super::sha256;
use crate::protocol::time::Timestamp;

/// The issuer of the tokens that this server gives to other servers, for calls to its own users.
pub const TRUNK: &str = "urn:ript:trunk";

/// The holder of a verified token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who vouches for the subject.
    pub issuer: String,
    /// The subject's name at that issuer.
    pub subject: String,
    /// Numbers and patterns: `+14085551000`, `+1408555*`, `4711@example.com`, `a@example.com`, `*@example.com`, `*`.
    pub numbers: Vec<String>,
    /// Trunk groups; `*` is all.
    pub tgs: Vec<String>,
    /// What the token was issued for.
    pub scopes: BTreeSet<String>,
    /// When the token ends.
    pub expires: Timestamp,
}

impl Principal {
    /// The name under which this user is stored and logged.
    pub fn user(&self) -> UserId {
        UserId::derive(&self.issuer, &self.subject)
    }

    /// Whether this user may call from, and be called at, a number.
    pub fn may_use_number(&self, number: &str) -> bool {
        self.is_trunk()
            || Identity::from_number(number).is_some_and(|number| number.is_covered_by(&self.numbers))
    }

    /// Whether this is another server. It calls from any number that a PASSporT proves, is called at none, and its calls
    /// go to users of this server only.
    pub fn is_trunk(&self) -> bool {
        self.issuer == TRUNK
    }

    /// Whether this user may use a trunk group.
    pub fn may_use_tg(&self, tg: &str) -> bool {
        self.tgs.iter().any(|own| own == tg || own == "*")
    }

    /// Whether the token was issued for this scope.
    pub fn has_scope(&self, scope: &str) -> bool {
        self.scopes.contains(scope)
    }
}

/// A user, over all of their tokens and devices; opaque, safe to print and to store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

impl UserId {
    /// The user that `issuer` calls `subject`.
    pub fn derive(issuer: &str, subject: &str) -> Self {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        let text = format!("{}:{issuer}{subject}", issuer.len());
        Self(URL_SAFE_NO_PAD.encode(&sha256(text.as_bytes())[..24]))
    }

    /// The identifier's text: 32 letters of base64url.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<UserId> for String {
    fn from(user: UserId) -> Self {
        user.0
    }
}

impl TryFrom<String> for UserId {
    type Error = NotAUserId;

    fn try_from(text: String) -> Result<Self, NotAUserId> {
        let fits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if fits { Ok(Self(text)) } else { Err(NotAUserId) }
    }
}

/// The text is no user identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a user identifier")]
pub struct NotAUserId;

#[cfg(test)]
mod tests {
    use super::*;

    fn principal() -> Principal {
        Principal {
            issuer: "https://id.example.com".into(),
            subject: "alice".into(),
            numbers: vec!["+1408555*".into(), "4711@example.com".into()],
            tgs: vec!["lab".into()],
            scopes: BTreeSet::from(["ript".to_owned()]),
            expires: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn rights_are_what_the_token_says_and_nothing_else() {
        let alice = principal();
        assert!(alice.may_use_number("+14085551000"));
        assert!(alice.may_use_number("4711@EXAMPLE.com"));
        assert!(!alice.may_use_number("+14095551000"));
        assert!(!alice.may_use_number("+1408555*"));
        assert!(!alice.may_use_number("nonsense"));
        assert!(alice.may_use_tg("lab"));
        assert!(!alice.may_use_tg("la"));
        assert!(!alice.may_use_tg("*"));
        assert!(alice.has_scope("ript"));
        assert!(!alice.has_scope("rip"));
        let nobody = Principal { numbers: vec![], tgs: vec![], scopes: BTreeSet::new(), ..alice };
        assert!(!nobody.may_use_number("+14085551000") && !nobody.may_use_tg("lab") && !nobody.has_scope(""));
    }

    #[test]
    fn a_user_id_tells_issuers_and_subjects_apart_and_hides_both() {
        let id = principal().user();
        assert_eq!(id, UserId::derive("https://id.example.com", "alice"));
        assert_ne!(id, UserId::derive("https://id.example.com", "bob"));
        assert_ne!(UserId::derive("ab", "c"), UserId::derive("a", "bc"));
        assert!(!id.to_string().contains("alice"));
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<UserId>(&text).unwrap(), id);
        assert!(serde_json::from_str::<UserId>("\"../../etc/passwd\"").is_err());
    }
}
