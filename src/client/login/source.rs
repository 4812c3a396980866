//! A client's token, renewed ahead of its end and when the server refuses it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::flow::Flow;
use super::http::Http;
use super::{Login, LoginError, LoginStore, Secret};
use crate::client::task::Owned;
use crate::clock;

/// Renewals don't follow each other faster, however short a token lives.
const FLOOR: Duration = Duration::from_secs(1);
/// A fresh token that is refused won't be taken if it is fresher.
const FRESH: Duration = Duration::from_secs(5);
/// After a failed renewal, doubled up to the next.
const BACKOFF: Duration = Duration::from_secs(1);
/// No pause is longer; this often, an ended login looks whether there is another.
const MAX_BACKOFF: Duration = Duration::from_secs(30);

/// Where a client's tokens come from.
#[derive(Clone, Debug)]
pub struct TokenSource {
    login: Login,
    store: Option<LoginStore>,
}

impl TokenSource {
    /// The tokens of a login that is kept nowhere else.
    pub fn new(login: Login) -> Self {
        Self { login, store: None }
    }

    /// The tokens of the login at a domain; what renewals bring is kept in the store, too.
    pub fn stored(store: &LoginStore, domain: &str) -> Result<Self, LoginError> {
        let none = || LoginError::None { domain: domain.to_owned() };
        Ok(Self { login: store.load(domain)?.ok_or_else(none)?, store: Some(store.clone()) })
    }

    /// The domain that the tokens are for.
    pub fn domain(&self) -> &str {
        &self.login.domain
    }
}

/// The token that requests carry now.
#[derive(Debug, Default)]
pub(in super::super) struct Bearer(RwLock<Option<Secret>>);

impl Bearer {
    pub(in super::super) fn set(&self, token: Secret) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    pub(in super::super) fn get(&self) -> Option<Secret> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How renewals stand.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Counts up with every try, also one that was not worth it.
    tries: u64,
    /// Why there will be no other token.
    ended: Option<Arc<LoginError>>,
}

/// Keeps a client's token fresh until it is dropped.
#[derive(Debug)]
pub(in super::super) struct Keeper {
    standing: watch::Receiver<Standing>,
    orders: mpsc::Sender<Secret>,
    bearer: Arc<Bearer>,
    _task: Owned,
}

impl Keeper {
    /// Starts with a token that is good now; the first failure to get one is told at once.
    pub(in super::super) async fn start(
        source: TokenSource,
        http: Http,
        bearer: Arc<Bearer>,
    ) -> Result<Self, LoginError> {
        let TokenSource { login, store } = source;
        bearer.set(login.access_token.clone());
        let mut keeping = Keeping { login, store, http, bearer: Arc::clone(&bearer), ended: None };
        let mut failures = 0;
        if keeping.login.due_in(clock::now()) == Some(Duration::ZERO)
            && let Err(error) = keeping.renew().await
        {
            if keeping.login.is_expired(clock::now()) {
                return Err(error);
            }
            tracing::debug!(%error, "the token was not renewed");
            failures = 1;
        }
        let (say, standing) = watch::channel(Standing::default());
        let (orders, inbox) = mpsc::channel(4);
        let task = Owned::spawn(keeping.run(inbox, say, failures));
        Ok(Self { standing, orders, bearer, _task: task })
    }

    /// The server refused this token: whether there is another now.
    pub(in super::super) async fn renewed(&self, stale: &Secret, patience: Duration) -> bool {
        let other = || self.bearer.get().is_some_and(|token| token != *stale);
        if other() {
            return true;
        }
        let mut standing = self.standing.clone();
        let seen = standing.borrow_and_update().tries;
        self.nudge(stale.clone());
        // Whichever way the wait ends, the token tells.
        let _ = tokio::time::timeout(patience, standing.wait_for(|now| now.tries > seen)).await;
        other()
    }

    /// The server refused this token: get another meanwhile.
    pub(in super::super) fn nudge(&self, stale: Secret) {
        // A full queue means that others said so already.
        let _ = self.orders.try_send(stale);
    }

    /// Why there will be no other token.
    pub(in super::super) fn ended(&self) -> Option<Arc<LoginError>> {
        self.standing.borrow().ended.clone()
    }
}

/// Where another token came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Got {
    /// From the store.
    Kept,
    /// From the provider, just now.
    Renewed,
}

struct Keeping {
    login: Login,
    store: Option<LoginStore>,
    http: Http,
    bearer: Arc<Bearer>,
    ended: Option<Arc<LoginError>>,
}

impl Keeping {
    async fn run(
        mut self,
        mut orders: mpsc::Receiver<Secret>,
        say: watch::Sender<Standing>,
        mut failures: u32,
    ) {
        let mut renewed_at: Option<Instant> = None;
        let mut next = self.next(failures);
        loop {
            let stale = tokio::select! {
                () = clock::until(next) => None,
                stale = orders.recv() => match stale {
                    Some(stale) => Some(stale),
                    None => return,
                },
            };
            let fresh = renewed_at.is_some_and(|at| clock::instant().duration_since(at) < FRESH)
                && !self.login.is_expired(clock::now());
            let worth = stale.is_none_or(|stale| {
                stale == self.login.access_token && !fresh && (failures == 0 || self.ended.is_some())
            });
            if worth {
                failures = match self.renew().await {
                    Ok(got) => {
                        tracing::debug!(domain = self.login.domain, "the token was renewed");
                        // What another process got may be about to end.
                        let now = (got == Got::Renewed).then(clock::instant);
                        (self.ended, renewed_at) = (None, now);
                        0
                    }
                    Err(error) => self.failed(error, failures),
                };
                next = self.next(failures);
            }
            say.send_modify(|standing| {
                standing.tries += 1;
                standing.ended.clone_from(&self.ended);
            });
        }
    }

    fn failed(&mut self, error: LoginError, failures: u32) -> u32 {
        if error.is_final() {
            if self.ended.is_none() {
                tracing::warn!(%error, "calls go on; new requests will be refused when the token ends");
                self.ended = Some(Arc::new(error));
            }
        } else {
            tracing::debug!(%error, "the token was not renewed");
        }
        failures.saturating_add(1)
    }

    /// When to try again; nothing if only a refusal can tell.
    fn next(&self, failures: u32) -> Option<Instant> {
        let pause = match failures {
            _ if self.ended.is_some() => MAX_BACKOFF,
            0 => self.login.due_in(clock::now())?.max(FLOOR),
            n => BACKOFF.saturating_mul(1 << n.min(6).saturating_sub(1)).min(MAX_BACKOFF),
        };
        clock::instant().checked_add(pause)
    }

    /// Gets another token: one that another process got, or one from the provider.
    async fn renew(&mut self) -> Result<Got, LoginError> {
        let domain = self.login.domain.clone();
        let _turn = match &self.store {
            Some(store) => Some(store.turn(&domain).await?),
            None => None,
        };
        loop {
            if let Some(kept) = self.other()? {
                // A login at the same domain, perhaps a new one after ours had ended.
                (self.login, self.ended) = (kept, None);
                if self.login.due_in(clock::now()) != Some(Duration::ZERO) {
                    self.bearer.set(self.login.access_token.clone());
                    return Ok(Got::Kept);
                }
            }
            if let Some(ended) = &self.ended {
                let code = "it was not renewed".to_owned();
                tracing::trace!(%ended, "still");
                return Err(LoginError::Ended { domain, code });
            }
            let fresh = Flow::of(&self.login, self.http.clone()).refresh(&self.login).await?;
            // Logging in and out waits for no provider: it may have happened meanwhile, and counts more.
            match self.other() {
                Err(error @ LoginError::None { .. }) => return Err(error),
                Ok(Some(_)) => continue,
                Ok(None) | Err(_) => {}
            }
            self.login = fresh;
            self.bearer.set(self.login.access_token.clone());
            if let Some(store) = &self.store
                && let Err(error) = store.save(&self.login).await
            {
                // The token is good all the same.
                tracing::warn!(%error, "the renewed login could not be kept");
            }
            return Ok(Got::Renewed);
        }
    }

    /// The login that is kept in place of ours; an error if there is none any more.
    fn other(&self) -> Result<Option<Login>, LoginError> {
        let Some(store) = &self.store else { return Ok(None) };
        let domain = &self.login.domain;
        // Who logged out meanwhile stays so.
        let kept = store.load(domain)?.ok_or_else(|| LoginError::None { domain: domain.clone() })?;
        Ok((kept.access_token != self.login.access_token).then_some(kept))
    }
}
