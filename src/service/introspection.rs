//! Opaque tokens: their issuers are asked about them (RFC 7662), and the answers kept for a moment.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use ring::digest::{SHA256, digest};
use tokio::sync::Semaphore;

use super::fetch::{FetchError, Fetcher};
use super::lock;
use super::settings::Credentials;
use crate::identity::principal::Principal;
use crate::identity::token::TokenError;
use crate::protocol::time::Timestamp;

/// How long an answer is kept; a withdrawn token works that much longer.
const KEEP: Duration = Duration::from_secs(60);
/// How many are kept.
const CAPACITY: usize = 10_000;
/// The longest opaque token.
const LONGEST: usize = 2048;
/// Questions open at once: made-up tokens must not make us a hammer.
const AT_ONCE: usize = 16;

type Answer = Result<Principal, TokenError>;

/// Answers about opaque tokens, by the tokens' hashes.
#[derive(Debug)]
pub(super) struct Introspection {
    issuers: Vec<(String, Credentials)>,
    kept: Mutex<HashMap<[u8; 32], (Answer, Timestamp)>>,
    asking: Semaphore,
}

impl Introspection {
    pub(super) fn new(issuers: Vec<(String, Credentials)>) -> Self {
        Self { issuers, kept: Mutex::default(), asking: Semaphore::new(AT_ONCE) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.issuers.is_empty()
    }

    pub(super) fn issuers(&self) -> &[(String, Credentials)] {
        &self.issuers
    }

    /// What is known of a token; what can be none is refused.
    pub(super) fn known(&self, token: &str, now: Timestamp) -> Result<Option<Answer>, TokenError> {
        // RFC 6750 §2.1: b64token.
        let form = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        if token.is_empty() || token.len() > LONGEST || !token.bytes().all(form) {
            return Err(TokenError::Malformed);
        }
        let kept = lock(&self.kept);
        Ok(kept.get(&hash(token)).filter(|(_, until)| now < *until).map(|(answer, _)| answer.clone()))
    }

    pub(super) async fn ask(
        &self,
        fetcher: &Fetcher,
        endpoint: &str,
        token: &str,
        credentials: &Credentials,
    ) -> Result<Bytes, FetchError> {
        let _turn = self.asking.acquire().await.map_err(|error| FetchError::Failed(error.to_string()))?;
        let form = [("token", token), ("token_type_hint", "access_token")];
        Ok(fetcher.post_form(endpoint, &form, credentials).await?.body)
    }

    pub(super) fn keep(&self, token: &str, answer: Answer, now: Timestamp) {
        let most = now + KEEP;
        // RFC 7662 §4: an answer is never good for longer than the token.
        let until = answer.as_ref().map_or(most, |principal| principal.expires.min(most));
        let mut kept = lock(&self.kept);
        if kept.len() >= CAPACITY {
            kept.retain(|_, (_, until)| now < *until);
            if kept.len() >= CAPACITY {
                kept.clear();
            }
        }
        kept.insert(hash(token), (answer, until));
    }
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}
