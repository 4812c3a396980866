//! L5: trunks. Here this server is another server's client: calls leave for a provider that it joined, and for customers
//! that registered their own TGs.
//!
//! | to find | look in |
//! |---|---|
//! | joining a provider | `join` |
//! | the providers that were joined, and what they call back with | `joined` |
//! | the one connection to another server | `peer` |
//! | a call's events, passed on one for one | `line` |
//! | a call's chunks, passed on as they are | `media` |

mod join;
mod joined;
mod line;
mod media;
mod peer;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell};

use crate::identity::principal::{Principal, UserId};
use crate::protocol::network::Network;
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::service::consumers::Consumer;
use crate::service::gateway::{Departed, Departure, Gateway, Line, Pending, Target};

pub use join::{JoinError, Own, join, leave};
pub use joined::{Joined, Joins, TOKEN_PREFIX, hashed};
use line::TrunkLine;
use peer::Peer;

/// wire §1: at most 200 calls share a connection, for they share its congestion window.
const CALLS_PER_CONNECTION: usize = 200;
/// How long a customer's TG may take to show itself.
const CHECK: Duration = Duration::from_secs(8);

/// What trunks are made from.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The folder of joined providers and their logins.
    pub folder: PathBuf,
    /// Roots besides the system's, as PEM.
    pub roots: Option<Vec<u8>>,
    /// Networks that customers' servers may stand in though they are not public.
    pub allow: Vec<Network>,
}

/// Where a call went, as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Place {
    Provider(String),
    Customer(Consumer),
}

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    place: Place,
    call: String,
    advertisement: String,
}

/// All trunks of a server.
#[derive(Debug)]
pub struct Trunks {
    settings: Settings,
    pseudonym: String,
    joins: RwLock<Joins>,
    peers: Mutex<HashMap<String, Arc<OnceCell<Arc<Peer>>>>>,
}

impl Trunks {
    /// Reads which providers were joined, and looks again whenever that changes.
    pub fn start(settings: Settings) -> Arc<Self> {
        let joins = RwLock::new(Joins::read(&settings.folder));
        let pseudonym = format!("ript-{}", uuid::Uuid::new_v4().simple());
        let trunks = Arc::new(Self { settings, pseudonym, joins, peers: Mutex::default() });
        tokio::spawn(joined::watch(Arc::downgrade(&trunks)));
        trunks
    }

    fn joins(&self) -> std::sync::RwLockReadGuard<'_, Joins> {
        self.joins.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The connection to a place that all its calls share, opened if there is none; another one once it has enough.
    async fn peer(&self, place: &Place) -> Result<Arc<Peer>, Problem> {
        let mut number = 0;
        loop {
            let peer = self.connection(place, number).await?;
            // Each call holds it, and so do its cell and we.
            if Arc::strong_count(&peer) <= CALLS_PER_CONNECTION + 2 {
                return Ok(peer);
            }
            number += 1;
        }
    }

    async fn connection(&self, place: &Place, number: usize) -> Result<Arc<Peer>, Problem> {
        let name = match place {
            Place::Provider(domain) => {
                let tg = self.joins().get(domain).map(|joined| joined.tg.clone());
                format!("provider {domain} {}", tg.unwrap_or_default())
            }
            Place::Customer(customer) => {
                format!("customer {} {}", customer.target_uri, hashed(&customer.token))
            }
        };
        let cell = {
            let mut peers = self.peers.lock().await;
            // One that no call uses and nobody waits for is in nobody's way, until there are many. A try that failed
            // leaves an empty cell.
            if peers.len() >= 64 {
                let in_use = |peer: &Arc<Peer>| Arc::strong_count(peer) > 1;
                peers.retain(|_, cell| Arc::strong_count(cell) > 1 || cell.get().is_some_and(in_use));
            }
            peers.entry(format!("{number} {name}")).or_default().clone()
        };
        let connect = || async {
            match place {
                Place::Provider(domain) => {
                    let joined = self.joins().get(domain).cloned();
                    let gone = || Problem::new(Code::Unreachable, "this server left that provider");
                    Peer::of_provider(&self.settings, &self.pseudonym, &joined.ok_or_else(gone)?).await
                }
                Place::Customer(customer) => {
                    Peer::of_customer(&self.settings, &self.pseudonym, customer).await
                }
            }
        };
        cell.get_or_try_init(connect).await.cloned()
    }

    async fn place_at(&self, place: Place, call: Departure) -> Result<Departed, Problem> {
        let peer = self.peer(&place).await?;
        let advertisement = call.advertisement.to_string();
        let placed = peer.place(&advertisement, &call.to, call.passport).await?;
        let record = Record { place, call: placed.uri().to_owned(), advertisement };
        let record = serde_json::to_value(&record)
            .map_err(|error| Problem::new(Code::Internal, format!("a trunk's call can't be named: {error}")));
        let far = line::far_side(&placed);
        let line = Box::new(TrunkLine::new(peer, placed));
        match (far, record) {
            (Ok(advertisement), Ok(record)) => Ok(Departed { advertisement, record, line }),
            // Nobody here would hear it ring there.
            (Err(problem), _) | (_, Err(problem)) => {
                line.abandon().await;
                Err(problem)
            }
        }
    }
}

impl Gateway for Trunks {
    fn route(&self, to: &Number) -> Option<Target> {
        self.joins().route(to).map(|joined| Target::Provider(joined.domain.clone()))
    }

    fn leads_to(&self, target: &Target) -> bool {
        matches!(target, Target::Provider(_) | Target::Customer(_))
    }

    fn place(self: Arc<Self>, target: Target, call: Departure) -> Pending<Result<Departed, Problem>> {
        let place = match target {
            Target::Provider(domain) => Place::Provider(domain),
            Target::Customer(customer) => Place::Customer(Consumer::clone(&customer)),
            Target::Operator | Target::Telephony(_) => {
                let none = Problem::new(Code::Unreachable, "no trunk of RIPT leads there");
                return Box::pin(std::future::ready(Err(none)));
            }
        };
        Box::pin(async move { self.place_at(place, call).await })
    }

    fn resume(self: Arc<Self>, record: Value) -> Pending<Option<Box<dyn Line>>> {
        Box::pin(async move {
            let Record { place, call, advertisement } = serde_json::from_value(record).ok()?;
            loop {
                let found = match self.peer(&place).await {
                    Ok(peer) => peer.find(&advertisement, &call).await.map(|found| (peer, found)),
                    Err(problem) => Err(problem),
                };
                match found {
                    Ok((peer, Some(call))) => {
                        return Some(Box::new(TrunkLine::new(peer, call)) as Box<dyn Line>);
                    }
                    Ok((_, None)) => return None,
                    // Without a byway our own side ends by itself after a while.
                    Err(problem) => {
                        tracing::debug!(code = problem.code.as_str(), "a trunk's call is not back yet");
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                }
            }
        })
    }

    fn check(self: Arc<Self>, consumer: Arc<Consumer>) -> Pending<Result<(), Problem>> {
        Box::pin(async move {
            let looked = peer::check(&self.settings, &self.pseudonym, &consumer);
            tokio::time::timeout(CHECK, looked).await.unwrap_or_else(|_| {
                let why = format!("your TG did not answer over HTTP/3 within {CHECK:?}");
                Err(Problem::new(Code::BadTargetUri, why).field("target-uri"))
            })
        })
    }

    fn enrol(self: Arc<Self>, csr: Vec<u8>, number: Number) -> Pending<Result<String, Problem>> {
        Box::pin(async move {
            let domain = self.joins().of_number(&number).map(|joined| joined.domain.clone());
            let none = || Problem::new(Code::NotFound, "no provider of this server enrols that number");
            let peer = self.peer(&Place::Provider(domain.ok_or_else(none)?)).await?;
            peer.enrol(csr).await
        })
    }

    fn pseudonym(&self) -> Option<&str> {
        Some(&self.pseudonym)
    }

    fn is_peer(&self, user: &str) -> bool {
        self.joins()
            .all()
            .any(|joined| UserId::derive(crate::identity::principal::TRUNK, &joined.domain).as_str() == user)
    }

    fn holder(&self, token: &str) -> Option<Principal> {
        token.starts_with(TOKEN_PREFIX).then(|| self.joins().holder(token)).flatten()
    }
}

/// Reads the folder again; the watcher's part.
fn reread(trunks: &Weak<Trunks>) -> Option<Arc<Trunks>> {
    let trunks = trunks.upgrade()?;
    let fresh = Joins::read(&trunks.settings.folder);
    *trunks.joins.write().unwrap_or_else(std::sync::PoisonError::into_inner) = fresh;
    Some(trunks)
}
