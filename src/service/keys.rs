//! The issuers' keys: found by discovery, kept as long as they say, looked for again when a token names a new one.
//!
//! Only what the configuration names is ever fetched, and what those documents name; never what a token says.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use super::fetch::{FetchError, Fetcher};
use super::introspection::Introspection;
use super::settings::{Login, OAuth};
use super::{read, write};
use crate::clock;
use crate::identity::jwk::JwkSet;
use crate::identity::principal::Principal;
use crate::identity::token::{TokenError, TokenPolicy};
use crate::protocol::problem::{Code, Problem};
use crate::protocol::time::Timestamp;

/// How long keys are kept where nothing is said, and the bounds of what may be said.
const USUAL: Duration = Duration::from_secs(300);
const LEAST: Duration = Duration::from_secs(60);
const MOST: Duration = Duration::from_secs(3600);

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VerifyError {
    /// The token is to blame.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its issuer can't be asked, so nobody knows.
    #[error("the token's issuer can't be reached now; try again")]
    Unavailable,
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        match error {
            // RFC 6750 §3.1: `invalid_token`; the field is what tells it from a missing one.
            VerifyError::Token(error) => {
                Self::new(Code::Unauthorized, error.error_description()).field("Authorization")
            }
            VerifyError::Unavailable => Self::new(Code::IssuerUnavailable, error.to_string()),
        }
    }
}

/// What an issuer publishes about itself (RFC 8414 §2).
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    /// Must be the issuer's name, letter by letter.
    pub issuer: String,
    /// Its keys.
    pub jwks_uri: Option<String>,
    /// Where people log in.
    pub authorization_endpoint: Option<String>,
    /// Where programs get tokens.
    pub token_endpoint: Option<String>,
    /// Where devices without a browser begin.
    pub device_authorization_endpoint: Option<String>,
    /// Where opaque tokens are asked about.
    pub introspection_endpoint: Option<String>,
}

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    policy: TokenPolicy,
    fetcher: Option<Fetcher>,
    issuers: HashMap<String, Discovered>,
    introspection: Introspection,
    login: Option<Login>,
    pause: Duration,
}

/// What was found out about one issuer.
#[derive(Debug, Default)]
struct Discovered {
    found: RwLock<Option<Found>>,
    /// Held while somebody looks; when that was last.
    looking: tokio::sync::Mutex<Option<Timestamp>>,
}

#[derive(Clone, Debug)]
struct Found {
    metadata: Arc<Metadata>,
    /// The issuer's own policy with its keys.
    policy: Arc<TokenPolicy>,
    until: Timestamp,
}

impl Tokens {
    /// Checks by this policy; an issuer in it without keys is discovered.
    pub fn new(policy: TokenPolicy, oauth: &OAuth) -> Result<Self, FetchError> {
        let asked = |name: &str| {
            oauth.introspection.iter().any(|(issuer, _)| issuer == name)
                || oauth.login.as_ref().is_some_and(|login| login.issuer == name)
        };
        let remote = policy.issuers.iter().filter(|i| i.keys.keys().is_empty() || asked(&i.issuer));
        let issuers: HashMap<_, _> = remote.map(|i| (i.issuer.clone(), Discovered::default())).collect();
        let fetcher = if issuers.is_empty() { None } else { Some(Fetcher::new(&oauth.fetch)?) };
        Ok(Self {
            policy,
            fetcher,
            issuers,
            introspection: Introspection::new(oauth.introspection.clone()),
            login: oauth.login.clone(),
            pause: oauth.pause,
        })
    }

    /// Who holds a token.
    pub async fn verify(&self, token: &str) -> Result<Principal, VerifyError> {
        if !is_jwt(token) && !self.introspection.is_empty() {
            return self.introspect(token).await;
        }
        let issuer = self.policy.issuer_of(token)?;
        if !issuer.keys.keys().is_empty() {
            return Ok(self.policy.verify(token, clock::now())?);
        }
        let found = self.found(&issuer.issuer).await?;
        match found.policy.verify(token, clock::now()) {
            // After a rotation the new key is not known yet.
            Err(TokenError::UnknownKey) => {
                let found = self.look(&issuer.issuer).await?;
                Ok(found.policy.verify(token, clock::now())?)
            }
            checked => Ok(checked?),
        }
    }

    /// Where users log in, and as which client; none is configured where there is none.
    pub async fn login(&self) -> Result<Option<(&Login, Arc<Metadata>)>, VerifyError> {
        let Some(login) = &self.login else { return Ok(None) };
        Ok(Some((login, self.found(&login.issuer).await?.metadata)))
    }

    /// The issuers whose tokens are taken.
    pub fn issuers(&self) -> impl Iterator<Item = &str> {
        self.policy.issuers.iter().map(|policy| policy.issuer.as_str())
    }

    async fn introspect(&self, token: &str) -> Result<Principal, VerifyError> {
        let fetcher = self.fetcher.as_ref().ok_or(VerifyError::Unavailable)?;
        let mut last = VerifyError::Token(TokenError::Malformed);
        if let Some(known) = self.introspection.known(token, clock::now())? {
            return known.map_err(VerifyError::Token);
        }
        for (issuer, credentials) in self.introspection.issuers() {
            let Some(policy) = self.policy.issuers.iter().find(|policy| policy.issuer == *issuer) else {
                continue;
            };
            let Ok(found) = self.found(issuer).await else {
                last = VerifyError::Unavailable;
                continue;
            };
            let Some(endpoint) = found.metadata.introspection_endpoint.as_deref() else { continue };
            let answer = match self.introspection.ask(fetcher, endpoint, token, credentials).await {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(issuer, %error, "a token could not be introspected");
                    last = VerifyError::Unavailable;
                    continue;
                }
            };
            match self.policy.introspected(policy, &answer, clock::now()) {
                Ok(principal) => {
                    self.introspection.keep(token, Ok(principal.clone()), clock::now());
                    return Ok(principal);
                }
                Err(error) if last != VerifyError::Unavailable => last = error.into(),
                Err(_) => {}
            }
        }
        if let VerifyError::Token(error) = last {
            self.introspection.keep(token, Err(error), clock::now());
        }
        Err(last)
    }

    /// What is known of an issuer; looked up if nothing is, or if it is old.
    async fn found(&self, issuer: &str) -> Result<Found, VerifyError> {
        match self.known(issuer) {
            Some(found) if clock::now() < found.until || self.is_looked_for(issuer) => Ok(found),
            _ => self.look(issuer).await,
        }
    }

    /// Whether somebody is at it; others go on with the old keys meanwhile.
    fn is_looked_for(&self, issuer: &str) -> bool {
        self.issuers.get(issuer).is_some_and(|slot| slot.looking.try_lock().is_err())
    }

    fn known(&self, issuer: &str) -> Option<Found> {
        read(&self.issuers.get(issuer)?.found).clone()
    }

    /// Looks again, unless that was done a moment ago; old keys stay while there are no new ones.
    async fn look(&self, issuer: &str) -> Result<Found, VerifyError> {
        let slot = self.issuers.get(issuer).ok_or(VerifyError::Unavailable)?;
        let fetcher = self.fetcher.as_ref().ok_or(VerifyError::Unavailable)?;
        let mut looked = slot.looking.lock().await;
        let now = clock::now();
        if looked.is_none_or(|at| now.since(at) >= self.pause) {
            *looked = Some(now);
            match self.discover(fetcher, issuer).await {
                Ok(found) => *write(&slot.found) = Some(found),
                Err(error) => tracing::warn!(issuer, %error, "an issuer's keys could not be fetched"),
            }
        }
        self.known(issuer).ok_or(VerifyError::Unavailable)
    }

    async fn discover(&self, fetcher: &Fetcher, issuer: &str) -> Result<Found, FetchError> {
        let own = self.policy.issuers.iter().find(|policy| policy.issuer == issuer).ok_or(FetchError::Url)?;
        let metadata = metadata(fetcher, issuer).await?;
        let mut own = own.clone();
        let mut keep = USUAL;
        if own.keys.keys().is_empty() {
            let uri = metadata.jwks_uri.as_deref().ok_or_else(|| no("the metadata name no jwks_uri"))?;
            let fetched = fetcher.get(uri).await?;
            let text = std::str::from_utf8(&fetched.body).map_err(|_| no("the key set is no text"))?;
            own.keys = JwkSet::from_jwks(text).map_err(|error| no(&error.to_string()))?;
            if own.keys.keys().is_empty() {
                return Err(no("the key set has no key that is of use here"));
            }
            keep = fetched.max_age.unwrap_or(USUAL).clamp(LEAST, MOST);
        }
        let policy = TokenPolicy { issuers: vec![own], leeway: self.policy.leeway };
        Ok(Found { metadata: Arc::new(metadata), policy: Arc::new(policy), until: clock::now() + keep })
    }
}

/// OpenID Connect Discovery 1.0 §4, then RFC 8414 §3.
async fn metadata(fetcher: &Fetcher, issuer: &str) -> Result<Metadata, FetchError> {
    let (openid, oauth) = well_known(issuer);
    let fetched = match fetcher.get(&openid).await {
        Err(FetchError::Status(_)) => fetcher.get(&oauth).await?,
        other => other?,
    };
    let metadata: Metadata =
        serde_json::from_slice(&fetched.body).map_err(|_| no("the metadata can't be read"))?;
    // RFC 8414 §3.3: metadata in another issuer's name are not used.
    if metadata.issuer != issuer { Err(no("the metadata are another issuer's")) } else { Ok(metadata) }
}

/// Where an issuer's metadata are: OpenID Connect puts the well-known part after the issuer's path, RFC 8414 §3.1
/// before it.
fn well_known(issuer: &str) -> (String, String) {
    let base = issuer.trim_end_matches('/');
    let host_ends = base.match_indices('/').nth(2).map_or(base.len(), |(at, _)| at);
    let (host, path) = base.split_at(host_ends);
    (
        format!("{base}/.well-known/openid-configuration"),
        format!("{host}/.well-known/oauth-authorization-server{path}"),
    )
}

fn no(why: &str) -> FetchError {
    FetchError::Failed(why.to_owned())
}

/// By form only: three parts.
fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|b| *b == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_are_where_the_standards_put_them() {
        for (issuer, openid, oauth) in [
            ("https://a.example", "https://a.example/O", "https://a.example/A"),
            ("https://a.example/", "https://a.example/O", "https://a.example/A"),
            ("https://a.example:8443/x/y", "https://a.example:8443/x/y/O", "https://a.example:8443/A/x/y"),
        ] {
            let whole = |text: &str| {
                text.replace("/O", "/.well-known/openid-configuration")
                    .replace("/A", "/.well-known/oauth-authorization-server")
            };
            assert_eq!(well_known(issuer), (whole(openid), whole(oauth)));
        }
    }

    #[test]
    fn a_token_with_three_parts_is_no_opaque_one() {
        assert!(is_jwt("a.b.c"));
        assert!(!is_jwt("opaque") && !is_jwt("a.b") && !is_jwt("a.b.c.d"));
    }
}
