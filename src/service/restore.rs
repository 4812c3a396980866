//! Starting: what the store holds comes back to life.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::actor::{Actor, Record};
use super::consumers::Consumers;
use super::idempotency::Keys;
use super::keys::Tokens;
use super::origins::Origins;
use super::ports::Ports;
use super::push::Push;
use super::registry::Registry;
use super::tickets::Tickets;
use super::x5u::X5u;
use super::{Service, Settings, StoreHandle, lock};
use crate::call::{Call, Input};
use crate::clock;
use crate::identity::replay::ReplayGuard;
use crate::protocol::time::Timestamp;
use crate::store::{Store, StoreError, Table, Write};

/// PASSporTs remembered within their window.
const REPLAY_CAPACITY: usize = 1_000_000;

impl Service {
    /// Starts the services on a store, with all that it holds.
    pub async fn start(settings: Settings, store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        let store = StoreHandle(store);
        let registry = Registry::load(store.clone(), settings.handlers_per_user).await?;
        let consumers = Consumers::load(store.clone()).await?;
        let tickets =
            Tickets::new().map_err(|_| StoreError::Unavailable("the system has no random numbers".into()))?;
        let no_https = |error| StoreError::Unavailable(format!("outbound HTTPS: {error}"));
        let tokens = Tokens::new(settings.tokens.clone(), &settings.oauth).map_err(no_https)?;
        let x5u = X5u::new(&settings.passports, &settings.oauth.fetch).map_err(no_https)?;
        let ports = Arc::new(Ports::default());
        let ticker = tokio::spawn(Ports::tick(Arc::downgrade(&ports))).abort_handle();
        let audit_numbers = settings.audit_numbers;
        let service = Arc::new(Self {
            settings,
            registry,
            consumers,
            push: Push::default(),
            tickets,
            tokens,
            x5u,
            origins: Origins::default(),
            ports,
            audit: super::audit::Audit::new(audit_numbers),
            rates: super::rate::Meter::default(),
            placing: super::pace::Placing::default(),
            directory: super::directory::Directory::default(),
            idempotency: Keys::default(),
            replay: Mutex::new(ReplayGuard::new(REPLAY_CAPACITY)),
            store,
            next_byway: AtomicU64::new(1),
            lost: tokio::sync::broadcast::channel(super::LOST).0,
            ticker,
        });
        service.restore().await?;
        Ok(service)
    }

    async fn restore(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = clock::now();
        let mut stale = Vec::new();
        for (key, value) in self.store.0.load(Table::Meta).await? {
            let Some(hash) = key.strip_prefix("replay:").and_then(from_hex) else { continue };
            let until = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
            let until = Timestamp::from_millis(until.unwrap_or_default());
            if until <= now || !lock(&self.replay).restore(hash, until) {
                stale.push(Write::delete(Table::Meta, key));
            }
        }
        let mut calls = 0;
        for (key, value) in self.store.0.load(Table::Calls).await? {
            let record: Record<Call> = match serde_json::from_slice(&value) {
                Ok(record) => record,
                Err(error) => {
                    tracing::error!(key, %error, "a stored call can't be read; it is left out");
                    continue;
                }
            };
            if let Some(used) = &record.idempotency {
                self.idempotency.restore(used.clone());
            }
            let mut call = record.call;
            calls += usize::from(!call.over());
            if call.handle(now, Input::Restored).is_err() {
                tracing::error!(key, "a stored call can't go on");
            }
            let over: Vec<_> = call.legs().filter(|l| l.ended()).map(|l| l.id).collect();
            let away = record.away.into_iter().map(|away| (away, None)).collect();
            Actor::start(self, call, record.idempotency, record.replay, away);
            over.into_iter().for_each(|leg| self.directory.ended(leg));
        }
        for writes in stale.chunks(crate::store::MAX_BATCH_WRITES) {
            self.store.0.write(writes.to_vec()).await?;
        }
        if calls > 0 {
            tracing::info!(calls, "live calls were taken up again");
        }
        Ok(())
    }

    /// Stops all calls' tasks; what they were at is in the store.
    pub fn stop(&self) {
        self.directory.abort_all();
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
    }
    Some(out)
}
