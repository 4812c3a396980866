//! Operators: here this server is a device at somebody else's CAMARA APIs. Calls leave by them as WebRTC sessions, and calls
//! to their accounts' numbers ring here.
//!
//! | for | look in |
//! |---|---|
//! | an account: its calls and its state | `account` |
//! | its token; its requests | `tokens`, `api` |
//! | staying registered; hearing events | `registrar`, `channel`; which call they are for: `book` |
//! | a call's events, passed on | `bridge`, started by `line`; its media: `media` |
//! | calls that come from there | `arriving` |

mod account;
mod api;
mod arriving;
mod backoff;
mod book;
mod bridge;
mod channel;
mod device;
mod http;
mod line;
mod media;
mod registrar;
mod settings;
mod tokens;

use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::adapter::mapping::Status;
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::service::gateway::{Departed, Departure, Gateway, Line, Pending, Target};
use crate::service::{Service, lock};
use account::Account;
pub use settings::{Access, AccountSettings, Secret, Settings};

/// Why an account can't be used.
#[derive(Debug, thiserror::Error)]
#[error("operator {url}: {why}")]
pub struct StartError {
    url: String,
    why: String,
}

/// Where a call went or came from, as it is written down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Record {
    operator: String,
    session: Uuid,
}

/// All accounts of a server.
#[derive(Debug)]
pub struct Operators {
    accounts: Vec<Arc<Account>>,
    /// Aborts its tasks when dropped.
    tasks: Mutex<JoinSet<()>>,
}

impl Operators {
    /// Prepares the accounts; nothing is asked for yet.
    pub fn new(settings: &Settings) -> Result<Arc<Self>, StartError> {
        let accounts = settings.accounts.iter();
        let accounts = accounts.map(|account| Account::new(&settings.folder, account).map(Arc::new));
        Ok(Arc::new(Self { accounts: accounts.collect::<Result<_, _>>()?, tasks: Mutex::default() }))
    }

    /// Registers the accounts and listens, for this server's calls; once.
    pub fn start(&self, service: &Arc<Service>) {
        if !self.accounts.is_empty() && service.settings.enroller.is_none() {
            tracing::warn!(
                "calls from operators ring only where [certs] lets this server vouch for who calls"
            );
        }
        let mut tasks = lock(&self.tasks);
        for account in &self.accounts {
            if account.service.set(Arc::downgrade(service)).is_ok() {
                tasks.spawn(registrar::keep(account.clone()));
                tasks.spawn(channel::listen(account.clone()));
            }
        }
    }

    /// Whether a number is one of the accounts' own.
    fn is_own(&self, number: &Number) -> bool {
        self.accounts.iter().any(|account| account.number == *number)
    }

    /// The account for a call: the caller's own, or the first.
    fn account(&self, from: &Number, to: &Number) -> Option<&Arc<Account>> {
        let fits = || self.accounts.iter().filter(|account| account.destinations.allow(to));
        fits().find(|account| account.number == *from).or_else(|| fits().next())
    }
}

impl Gateway for Operators {
    fn route(&self, to: &Number) -> Option<Target> {
        // A number of our own that nobody answers here is not asked for elsewhere.
        let away = !self.is_own(to) && self.accounts.iter().any(|account| account.destinations.allow(to));
        away.then_some(Target::Operator)
    }

    fn leads_to(&self, target: &Target) -> bool {
        matches!(target, Target::Operator)
    }

    fn place(self: Arc<Self>, _: Target, call: Departure) -> Pending<Result<Departed, Problem>> {
        Box::pin(async move {
            let none = || Problem::new(Code::Unreachable, "no operator takes calls to that destination");
            self.account(&call.from, &call.to).ok_or_else(none)?.clone().place(&call).await
        })
    }

    /// Keys of media are in no store: a call doesn't outlive its server, and the operator is told so.
    fn resume(self: Arc<Self>, record: Value) -> Pending<Option<Box<dyn Line>>> {
        Box::pin(async move {
            let Record { operator, session } = serde_json::from_value(record).ok()?;
            let account =
                self.accounts.iter().find(|account| account.number.to_string() == operator)?.clone();
            lock(&self.tasks).spawn(async move { account.end(session, Status::Terminated).await });
            None
        })
    }
}
