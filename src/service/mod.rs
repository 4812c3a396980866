//! L2: what runs. One owner task per call; the registry of handlers; push channels; tickets; the media ports.
//! Tokio, but no HTTP and no QUIC.

pub mod actor;
pub mod arrive;
pub mod audit;
mod away;
mod bearer;
pub mod calls;
pub mod consumers;
mod directory;
pub mod fetch;
pub mod gateway;
pub mod gateways;
mod handing;
pub mod idempotency;
mod introspection;
mod joining;
pub mod keys;
mod moved;
mod origins;
mod pace;
pub mod ports;
pub mod push;
pub mod rate;
pub mod registry;
pub mod restore;
pub mod settings;
pub mod tickets;
mod word;
pub mod x5u;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::identity::replay::ReplayGuard;
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::store::{Store, StoreError};

pub use settings::{Settings, TgSettings};

/// Everything that runs, in one handle.
#[derive(Debug)]
pub struct Service {
    /// What it was told.
    pub settings: Settings,
    /// The handlers.
    pub registry: registry::Registry,
    /// Customers' own TGs.
    pub consumers: consumers::Consumers,
    /// The push channels.
    pub push: push::Push,
    /// Tickets and media cookies.
    pub tickets: tickets::Tickets,
    /// The tokens' checks, and the issuers' keys.
    pub tokens: keys::Tokens,
    pub(crate) origins: origins::Origins,
    /// The chains of PASSporTs that lie elsewhere.
    pub x5u: x5u::X5u,
    /// The media ports of all legs.
    pub ports: Arc<ports::Ports>,
    /// The log of who did what.
    pub audit: audit::Audit,
    /// How fast each user, and all users of each TG, place calls and enrol.
    pub(crate) rates: rate::Meter,
    pub(crate) placing: pace::Placing,
    pub(crate) directory: directory::Directory,
    pub(crate) idempotency: idempotency::Keys,
    pub(crate) replay: std::sync::Mutex<ReplayGuard>,
    pub(crate) store: StoreHandle,
    pub(crate) next_byway: AtomicU64,
    lost: tokio::sync::broadcast::Sender<Number>,
    ticker: tokio::task::AbortHandle,
}

/// A shared store that prints as nothing much.
#[derive(Clone)]
pub struct StoreHandle(pub Arc<dyn Store>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// Numbers that were lost and that some listener has not heard of yet.
const LOST: usize = 256;

impl Service {
    /// Another network no longer knows this number as ours: who is registered for it there is told.
    pub fn lose(&self, number: Number) {
        // Nobody may be listening.
        let _ = self.lost.send(number);
    }

    /// Numbers that other networks no longer know as ours.
    pub fn lost(&self) -> tokio::sync::broadcast::Receiver<Number> {
        self.lost.subscribe()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::warn!(%error, "the store refused a write");
        match error {
            StoreError::Overloaded => Self::new(Code::Overloaded, "too many changes at once; try again"),
            _ => Self::new(Code::StoreUnavailable, "the server can't write down changes now; try again"),
        }
    }
}

/// A lock that a panicking thread left behind is taken over: what it guards is only ever changed whole.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &std::sync::RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &std::sync::RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(std::sync::PoisonError::into_inner)
}
