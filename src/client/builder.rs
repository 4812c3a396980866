//! A client and what it is made from.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::HeaderValue;

use super::ClientError;
use super::enrol::{Credential, Credentials};
use super::link::{Dial, Link, LinkWatch};
use super::login::{self, Bearer, Keeper, LoginError, Secret, TokenSource};
use super::task::lock;
use super::uri::Origin;
use crate::clock;
use crate::identity::canonical::Identity;
use crate::identity::certificate::{self, Chain};
use crate::identity::jwk::SigningKey;
use crate::identity::passport::{Passport, Ppt};
use crate::protocol::number::Number;
use crate::protocol::time::Timestamp;
use crate::transport::tls;

/// What a client is made from.
#[derive(Debug)]
pub struct Builder {
    server: String,
    token: Option<Secret>,
    login: Option<TokenSource>,
    roots: Option<Vec<u8>>,
    passport_key: Option<Secret>,
    passport_chain: Option<Vec<u8>>,
    via: Option<HeaderValue>,
    guard: Option<Guard>,
}

/// Says which addresses may be connected to.
#[derive(Clone)]
pub(crate) struct Guard(pub(crate) Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard")
    }
}

impl Builder {
    /// The bearer token for every request.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(Secret::new(token));
        self
    }

    /// Bearer tokens of a login at this server, in place of [`Builder::token`]: each is renewed ahead of its end.
    #[must_use]
    pub fn login(mut self, source: TokenSource) -> Self {
        self.login = Some(source);
        self
    }

    /// Trust roots as PEM, in place of the system's.
    #[must_use]
    pub fn roots(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots = Some(pem.into());
        self
    }

    /// The key that PASSporTs are signed with, as PKCS#8 PEM; without one, the client makes keys and enrols them.
    #[must_use]
    pub fn passport_key(mut self, pem: impl Into<String>) -> Self {
        self.passport_key = Some(Secret::new(pem));
        self
    }

    /// The certificates of that key as PEM, leaf first (RFC 8226): who does not know the key verifies by them. A root
    /// among them is left out.
    #[must_use]
    pub fn passport_chain(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.passport_chain = Some(pem.into());
        self
    }

    /// RFC 9110 §7.6.3: every request says that this server passes it on.
    #[must_use]
    pub(crate) fn via(mut self, pseudonym: &str) -> Self {
        self.via = HeaderValue::from_str(&format!("3 {pseudonym}")).ok();
        self
    }

    /// Connects to addresses only that this allows.
    #[must_use]
    pub(crate) fn guard(mut self, guard: Guard) -> Self {
        self.guard = Some(guard);
        self
    }

    /// Connects; a failure is told at once, later losses are repaired silently.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let origin = Origin::parse(&self.server)?;
        let roots = match &self.roots {
            Some(pem) => read_roots(pem)?,
            None => tls::roots(None).map_err(|e| ClientError::input("the system's trust roots", e))?,
        };
        let config = tls::quic_client(roots).map_err(|e| ClientError::input("TLS", e))?;
        let key = self.passport_key.as_ref().map(|pem| SigningKey::from_pem(pem.expose())).transpose();
        let key = key.map_err(|error| ClientError::input("PASSporT key", error))?;
        let chain = self.passport_chain.as_deref().map(read_chain).transpose()?.unwrap_or_default();
        let given = key.map(|key| Arc::new(Credential { key, chain }));
        let credentials = Credentials { given, ..Credentials::default() };
        let bearer = Arc::new(Bearer::default());
        if let Some(token) = self.token {
            bearer.set(token);
        }
        let keeper = match self.login {
            Some(source) => {
                // wire §6: the bearer never goes anywhere else.
                if source.domain() != login::authority(&self.server).map_err(Arc::new)? {
                    let why = format!("it is for {}, and goes nowhere else", source.domain());
                    return Err(ClientError::input("login", why));
                }
                let http = login::provider_http(self.roots.as_deref()).map_err(Arc::new)?;
                Some(Keeper::start(source, http, Arc::clone(&bearer)).await.map_err(Arc::new)?)
            }
            None => None,
        };
        let link = Link::connect(Dial::new(origin.clone(), config, self.guard)).await?;
        Ok(Client(Arc::new(Inner {
            origin,
            link,
            bearer,
            keeper,
            credentials,
            via: self.via,
            skew: Mutex::new(0),
        })))
    }
}

fn read_chain(pem: &[u8]) -> Result<Vec<Vec<u8>>, ClientError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let wrong = |why: &dyn std::fmt::Display| ClientError::input("PASSporT certificates", why);
    let all = CertificateDer::pem_slice_iter(pem).map(|der| der.map(|der| der.to_vec()));
    let mut all = all.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(&error))?;
    all.retain(|der| !certificate::is_self_issued(der));
    Chain::new(all.clone()).map_err(|error| wrong(&error))?;
    Ok(all)
}

pub(super) fn read_roots(pem: &[u8]) -> Result<rustls::RootCertStore, ClientError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| ClientError::input("trust roots", error))?;
    let mut roots = rustls::RootCertStore::empty();
    match roots.add_parsable_certificates(all) {
        (0, _) => Err(ClientError::input("trust roots", "the PEM holds no usable certificate")),
        _ => Ok(roots),
    }
}

/// A client of one server; cheap to clone, and all clones share one connection.
#[derive(Clone)]
pub struct Client(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) origin: Origin,
    pub(super) link: Link,
    bearer: Arc<Bearer>,
    keeper: Option<Keeper>,
    pub(super) credentials: Credentials,
    pub(super) via: Option<HeaderValue>,
    /// How far the server's clock is ahead of ours, ms.
    skew: Mutex<i64>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("server", &self.0.origin).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at this URL: `https://host:port`.
    pub fn builder(server: impl Into<String>) -> Builder {
        Builder {
            server: server.into(),
            token: None,
            login: None,
            roots: None,
            passport_key: None,
            passport_chain: None,
            via: None,
            guard: None,
        }
    }

    /// Another token, from the next request on; calls go on.
    pub fn set_token(&self, token: impl Into<String>) {
        self.0.bearer.set(Secret::new(token));
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        self.0.link.generation().is_some()
    }

    /// How many connections there were, this one included; nothing while there is none.
    pub fn connection(&self) -> Option<u64> {
        self.0.link.generation()
    }

    /// The connection's round trip time.
    pub async fn rtt(&self) -> Option<Duration> {
        self.0.link.current(Duration::ZERO).await.ok().map(|connected| connected.h3.rtt())
    }

    /// QUIC's own statistics of the present connection.
    pub async fn quic_stats(&self) -> Option<quinn::ConnectionStats> {
        self.0.link.current(Duration::ZERO).await.ok().map(|connected| connected.h3.stats())
    }

    /// The absolute URI of a reference that the server gave.
    pub fn resolve(&self, reference: &str) -> Result<String, ClientError> {
        self.0.origin.resolve(reference)
    }

    pub(super) fn watch(&self) -> LinkWatch {
        self.0.link.watch()
    }

    pub(super) fn bearer(&self) -> Option<String> {
        self.token().map(|token| format!("Bearer {}", token.expose()))
    }

    pub(super) fn token(&self) -> Option<Secret> {
        self.0.bearer.get()
    }

    /// Why the login that this client was made with can't be renewed any more; requests are refused once its
    /// last token ends. `None` while it can, and for a client without a login.
    pub fn login_ended(&self) -> Option<Arc<LoginError>> {
        self.0.keeper.as_ref()?.ended()
    }

    /// A request with this `authorization` was refused by 401: whether another try would carry another token.
    pub(super) async fn renew_token(&self, authorization: Option<&HeaderValue>, patience: Duration) -> bool {
        let Some(keeper) = &self.0.keeper else { return false };
        let stale = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match stale {
            Some(stale) => keeper.renewed(&Secret::new(stale), patience).await,
            None => false,
        }
    }

    /// Whether this is a 401 that a renewed token may repair; asks for one.
    pub(super) fn may_recover(&self, error: &ClientError) -> bool {
        let refused = error.refusal().is_some_and(|refusal| refusal.status == 401);
        let (true, Some(keeper), Some(token)) = (refused, &self.0.keeper, self.0.bearer.get()) else {
            return false;
        };
        keeper.nudge(token);
        true
    }

    /// A PASSporT for a call on a TG, by the server's clock as far as it is known. Enrols if there is no key yet.
    pub async fn passport(&self, tg: &str, from: &Number, to: &Number) -> Result<String, ClientError> {
        let identity = |number: &Number| {
            let text = number.to_string();
            Identity::from_number(&text).ok_or_else(|| ClientError::input(text, "can't stand in a PASSporT"))
        };
        let from = identity(from)?;
        let credential = self.credential(tg, &from).await?;
        let now = clock::now().as_millis().saturating_add_signed(*lock(&self.0.skew));
        let now = Timestamp::from_millis(now);
        Passport::sign_with(&credential.key, &credential.chain, &from, &identity(to)?, &Ppt::Base, now)
            .map_err(|error| ClientError::input("PASSporT key", error))
    }

    /// Takes the server's clock from a refusal; whether it was far from ours.
    // wire §2: every 401 and 403 carries `Date`, so that a client can correct its clock and retry once.
    pub(super) fn correct_clock(&self, error: &ClientError) -> bool {
        let Some(date) = error.refusal().and_then(|refusal| refusal.date) else { return false };
        let ahead = date.as_millis() as i64 - clock::now().as_millis() as i64;
        let mut skew = lock(&self.0.skew);
        let far = (ahead - *skew).abs() > 5_000;
        if far {
            *skew = ahead;
        }
        far
    }
}
