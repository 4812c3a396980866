//! Bearer tokens: JWTs (RFC 7519, RFC 9068) of configured issuers.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value};
use thiserror::Error;

use super::json;
use super::jwk::{JwkSet, KeyError, SigningKey};
use super::jws::{self, Compact, JwsError, numeric_date};
use super::principal::Principal;
use crate::protocol::time::Timestamp;

/// Whose tokens are taken.
#[derive(Clone, Debug)]
pub struct TokenPolicy {
    /// The issuers; one entry for each `iss`.
    pub issuers: Vec<IssuerPolicy>,
    /// How far clocks may differ.
    pub leeway: Duration,
}

/// One issuer, its keys, and how it writes its claims.
#[derive(Clone, Debug)]
pub struct IssuerPolicy {
    /// The `iss`, letter by letter.
    pub issuer: String,
    /// What `aud` must contain.
    pub audience: String,
    /// The keys that sign for this issuer, and for no other.
    pub keys: JwkSet,
    /// The claim with the user's numbers.
    pub numbers_claim: String,
    /// The claim with the user's trunk groups.
    pub tgs_claim: String,
}

impl IssuerPolicy {
    /// An issuer with the usual claim names.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, keys: JwkSet) -> Self {
        Self {
            issuer: issuer.into(),
            audience: audience.into(),
            keys,
            numbers_claim: "numbers".into(),
            tgs_claim: "tgs".into(),
        }
    }
}

/// Why a token was refused; never holds anything of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// Not a JWT that this server reads.
    #[error("the token is malformed")]
    Malformed,
    /// No such issuer is configured.
    #[error("the token's issuer is not trusted here")]
    UnknownIssuer,
    /// None of the issuer's keys fits; after a key change, fetching them again may help.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    BadSignature,
    /// Its issuer says that it does not hold.
    #[error("the token is not active")]
    Inactive,
    /// It has ended.
    #[error("the token has expired")]
    Expired,
    /// It has not begun.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// It was made for another server.
    #[error("the token is for another audience")]
    WrongAudience,
    /// A claim that must be there is not.
    #[error("the token lacks the claim {0}")]
    MissingClaim(&'static str),
    /// A claim has the wrong type.
    #[error("the token's claim {0} is malformed")]
    BadClaim(&'static str),
}

impl TokenError {
    /// The RFC 6750 `error_description`.
    pub fn error_description(self) -> String {
        self.to_string()
    }
}

impl TokenPolicy {
    /// The issuer that a JWT names, unchecked: whose keys to look for, never where.
    pub fn issuer_of(&self, token: &str) -> Result<&IssuerPolicy, TokenError> {
        let jws = Compact::parse(token).map_err(TokenError::from)?;
        let claims = json::object(jws.payload()).ok_or(TokenError::Malformed)?;
        let issuer = string(&claims, "iss")?;
        self.issuers.iter().find(|policy| policy.issuer == issuer).ok_or(TokenError::UnknownIssuer)
    }

    /// Reads an issuer's answer about an opaque token (RFC 7662 §2.2).
    pub fn introspected(
        &self,
        policy: &IssuerPolicy,
        answer: &[u8],
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        let mut claims = json::object(answer).ok_or(TokenError::Malformed)?;
        if claims.get("active") != Some(&Value::Bool(true)) {
            return Err(TokenError::Inactive);
        }
        if claims.get("iss").is_some_and(|issuer| *issuer != *policy.issuer) {
            return Err(TokenError::UnknownIssuer);
        }
        // RFC 9068 §2.2: where no user is involved the subject is the client.
        if let (false, Some(client)) = (claims.contains_key("sub"), claims.get("client_id").cloned()) {
            claims.insert("sub".to_owned(), client);
        }
        self.accept(policy, &claims, now)
    }

    /// Checks a token and tells who holds it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Principal, TokenError> {
        let jws = Compact::parse(token).map_err(TokenError::from)?;
        // RFC 8725 3.11: a PASSporT or another kind of JWT is no access token.
        if !jws.header().typ.as_deref().is_none_or(is_access_token) {
            return Err(TokenError::Malformed);
        }
        let claims = json::object(jws.payload()).ok_or(TokenError::Malformed)?;
        let issuer = string(&claims, "iss")?;
        let policy =
            self.issuers.iter().find(|policy| policy.issuer == issuer).ok_or(TokenError::UnknownIssuer)?;
        jws.verify(&policy.keys).map_err(TokenError::from)?;
        self.accept(policy, &claims, now)
    }

    /// What is checked of claims, however they came.
    fn accept(
        &self,
        policy: &IssuerPolicy,
        claims: &Map<String, Value>,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        let expires = self.check_times(claims, now)?;
        if !list(claims, "aud")?.ok_or(TokenError::MissingClaim("aud"))?.contains(&policy.audience) {
            return Err(TokenError::WrongAudience);
        }
        Ok(Principal {
            issuer: policy.issuer.clone(),
            subject: string(claims, "sub")?.to_owned(),
            numbers: words(claims, &policy.numbers_claim, "numbers")?,
            tgs: words(claims, &policy.tgs_claim, "tgs")?,
            scopes: words(claims, "scope", "scope")?
                .into_iter()
                .chain(words(claims, "scp", "scp")?)
                .collect(),
            expires,
        })
    }

    fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<Timestamp, TokenError> {
        let date = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match numeric_date(value) {
                Some(seconds) => Ok(Some(Timestamp::from_millis(seconds * 1000))),
                None => Err(TokenError::BadClaim(name)),
            },
        };
        let expires = date("exp")?.ok_or(TokenError::MissingClaim("exp"))?;
        // RFC 7519 4.1.4: the current time must be before `exp`.
        if now >= expires + self.leeway {
            return Err(TokenError::Expired);
        }
        let issued = date("iat")?;
        if [date("nbf")?, issued].into_iter().flatten().any(|from| from > now + self.leeway) {
            return Err(TokenError::NotYetValid);
        }
        if issued.is_some_and(|issued| issued > expires) {
            return Err(TokenError::BadClaim("iat"));
        }
        Ok(expires)
    }
}

impl From<JwsError> for TokenError {
    fn from(error: JwsError) -> Self {
        match error {
            JwsError::UnknownKey => Self::UnknownKey,
            JwsError::BadSignature => Self::BadSignature,
            JwsError::TooLong | JwsError::Malformed | JwsError::Critical | JwsError::Algorithm => {
                Self::Malformed
            }
        }
    }
}

/// What a development token says.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audience: String,
    /// `client_id`.
    pub client_id: String,
    /// `numbers`.
    pub numbers: Vec<String>,
    /// `tgs`.
    pub tgs: Vec<String>,
    /// `scope`.
    pub scopes: Vec<String>,
    /// How long it lives.
    pub lifetime: Duration,
}

/// Issues an access token in the RFC 9068 profile.
pub fn issue(key: &SigningKey, claims: &Claims, now: Timestamp) -> Result<String, KeyError> {
    let mut jti = [0; 16];
    SystemRandom::new().fill(&mut jti).map_err(|_| KeyError::Random)?;
    let header = serde_json::json!({ "alg": "ES256", "kid": key.kid(), "typ": "at+jwt" });
    let payload = serde_json::json!({
        "iss": claims.issuer,
        "sub": claims.subject,
        "aud": claims.audience,
        "client_id": claims.client_id,
        "iat": now.as_secs(),
        "exp": (now + claims.lifetime).as_secs(),
        "jti": URL_SAFE_NO_PAD.encode(jti),
        "scope": claims.scopes.join(" "),
        "numbers": claims.numbers,
        "tgs": claims.tgs,
    });
    jws::sign(key, &header, &payload)
}

fn is_access_token(typ: &str) -> bool {
    // RFC 7515 4.1.9: a media type, `application/` may be left out.
    let typ = typ.to_ascii_lowercase();
    matches!(typ.strip_prefix("application/").unwrap_or(&typ), "jwt" | "at+jwt")
}

fn string<'c>(claims: &'c Map<String, Value>, name: &'static str) -> Result<&'c str, TokenError> {
    let value = claims.get(name).ok_or(TokenError::MissingClaim(name))?;
    value.as_str().filter(|text| !text.is_empty()).ok_or(TokenError::BadClaim(name))
}

fn list(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Vec<String>>, TokenError> {
    strings(claims.get(name)).ok_or(TokenError::BadClaim(name))
}

/// All words of a claim that is a string or an array of strings.
fn words(claims: &Map<String, Value>, claim: &str, name: &'static str) -> Result<Vec<String>, TokenError> {
    let items = strings(claims.get(claim)).ok_or(TokenError::BadClaim(name))?.unwrap_or_default();
    Ok(items.iter().flat_map(|item| item.split_whitespace()).map(str::to_owned).collect())
}

/// A string or an array of strings; the outer `None` means neither.
#[expect(clippy::option_option, reason = "absent and malformed are different things here")]
fn strings(value: Option<&Value>) -> Option<Option<Vec<String>>> {
    match value {
        None => Some(None),
        Some(Value::String(one)) => Some(Some(vec![one.clone()])),
        Some(Value::Array(many)) => {
            many.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Some)
        }
        Some(_) => None,
    }
}
