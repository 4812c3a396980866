//! webrtc-events.yaml: subscriptions, and the webhooks that they are served by.
//!
//! | for | look in |
//! |---|---|
//! | the routes | `routes` |
//! | bodies, and what is refused in them | `body`, `sink` |
//! | what waits for a sink, in which order, and when a subscription ends | `line` |
//! | what an answer means, and when to try again | `retry` |
//! | the task that sends | `owner` |
//!
//! Each sink has its own queue and its own task, so that a dead one slows nobody. Events are sent at least once, in
//! order, with an id that stays. What waits is in memory only: after a restart the sink hears of what happens then, and
//! of subscriptions that have ended.

mod body;
mod line;
mod owner;
mod record;
mod retry;
mod routes;
mod sink;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use uuid::Uuid;

use self::body::{Change, Wanted};
use self::line::Line;
use self::record::{Ended, Kind, Record};
pub(super) use self::routes::routes;
use super::SinkSettings;
use super::cloudevent::SubscriptionEnd;
use super::error::{Code, Failure};
use super::notice::Notice;
use crate::clock;
use crate::identity::principal::UserId;
use crate::protocol::problem::Problem;
use crate::protocol::time::Timestamp;
use crate::service::fetch::Fetcher;
use crate::service::{StoreHandle, lock};
use crate::store::{StoreError, Table, Write};

/// Where the API is: its last version, the one of its flow documents, and the one in work.
const BASES: [&str; 3] = ["/webrtc-events/v0.3", "/webrtc-events/v0.2", "/webrtc-events/vwip"];
/// webrtc-events.yaml, Source: a relative reference, for the server doesn't know under which names it is reached.
const SOURCE: &str = "/webrtc-events/v0.3";
/// Subscriptions altogether: what memory is for.
const ALL: usize = 100_000;

/// Why a subscription is not made, kept or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error(
        "a subscription of yours to these events of this device at this sink exists; GET /subscriptions finds \
         it: change it by PUT, or DELETE it first"
    )]
    AlreadyExists,
    #[error(
        "a user has at most {0} subscriptions, those included whose end is being told; DELETE one that is no \
         longer used"
    )]
    PerUser(usize),
    #[error("subscriptionId: there is no such active subscription; POST /subscriptions makes one")]
    NotFound,
    #[error("the server has as many subscriptions as it can hold; try again later")]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::AlreadyExists => Code::AlreadyExists,
            Refusal::PerUser(_) => Code::QuotaExceeded,
            Refusal::NotFound => Code::NotFound,
            Refusal::Full => Code::Unavailable,
            Refusal::Store(error) => return Problem::from(error.clone()).into(),
        };
        Self::new(code, refusal.to_string())
    }
}

/// All subscriptions.
#[derive(Debug)]
pub(super) struct Subscriptions {
    inner: Arc<Inner>,
}

/// What the owners' tasks have at hand too.
#[derive(Debug)]
struct Inner {
    store: StoreHandle,
    fetcher: Fetcher,
    per_user: usize,
    longest: Duration,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Those too whose end is being told.
    all: HashMap<Uuid, (Arc<Held>, Task)>,
    /// (user, deviceId, subscription).
    owners: BTreeSet<(UserId, Uuid, Uuid)>,
}

/// A subscription's line, and how its owner is woken. Locked after the book, where both are.
#[derive(Debug)]
struct Held {
    line: Mutex<Line>,
    wake: Notify,
}

/// An owner's task; it ends with this handle.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subscriptions {
    /// Reads what the store holds. What ended meanwhile says so.
    pub(super) async fn load(store: StoreHandle, settings: &SinkSettings) -> Result<Self, StoreError> {
        let no_https = |error| StoreError::Unavailable(format!("webhooks' HTTPS: {error}"));
        let fetcher = Fetcher::new(&settings.fetch).map_err(no_https)?;
        Self::loaded(store, settings, fetcher).await
    }

    async fn loaded(
        store: StoreHandle,
        settings: &SinkSettings,
        fetcher: Fetcher,
    ) -> Result<Self, StoreError> {
        let records = store.0.load(Table::Subscriptions).await?;
        let SinkSettings { per_user, longest, .. } = *settings;
        let inner = Inner { store, fetcher, per_user, longest, book: Mutex::default() };
        let all = Self { inner: Arc::new(inner) };
        let mut book = lock(&all.inner.book);
        for (key, value) in records {
            match serde_json::from_slice::<Record>(&value) {
                Ok(mut record) => {
                    // Time in which no server ran is none in which its end was tried.
                    record.ended.iter_mut().for_each(|ended| ended.at = clock::now());
                    all.inner.insert(&mut book, record);
                }
                // The error's text could repeat a token.
                Err(_) => tracing::error!(key, "a stored subscription can't be read; it is left out"),
            }
        }
        drop(book);
        Ok(all)
    }

    fn fetcher(&self) -> &Fetcher {
        &self.inner.fetcher
    }

    /// Something happened to a user's device.
    pub(super) fn hear(&self, user: &UserId, device: Uuid, notice: &Arc<Notice>) {
        let now = clock::now();
        let book = lock(&self.inner.book);
        for (held, _) in book.on_device(user, device) {
            let mut line = lock(&held.line);
            if line.hear(now, notice) {
                self.inner.note(&line.record);
            }
            held.wake.notify_one();
        }
    }

    async fn create(
        &self,
        now: Timestamp,
        user: UserId,
        kind: Kind,
        wanted: Wanted,
    ) -> Result<Record, Refusal> {
        let Wanted { device, sink, credential, headers, method, expires, max_events, initial, .. } = wanted;
        let latest = now + self.inner.longest;
        let made = Record {
            id: Uuid::new_v4(),
            user,
            device,
            kind,
            sink,
            credential,
            headers,
            method,
            expiry_asked: expires.is_some(),
            max_events,
            initial,
            starts: now,
            expires: expires.map_or(latest, |expires| expires.min(latest)),
            taken: 0,
            ended: None,
        };
        let written = {
            let mut book = lock(&self.inner.book);
            let same = |one: &Record| one.kind == kind && one.sink == made.sink && one.is_active(now);
            if book.on_device(&made.user, device).any(|(held, _)| same(&lock(&held.line).record)) {
                return Err(Refusal::AlreadyExists);
            }
            if book.of_user(&made.user).count() >= self.inner.per_user {
                return Err(Refusal::PerUser(self.inner.per_user));
            }
            if book.all.len() >= ALL {
                return Err(Refusal::Full);
            }
            let written = self.inner.put(&made);
            self.inner.insert(&mut book, made.clone());
            written
        };
        if let Err(error) = written.await {
            // The store may have it all the same.
            self.inner.forget(made.id);
            return Err(error.into());
        }
        Ok(made)
    }

    fn list(&self, now: Timestamp, user: &UserId) -> Vec<Record> {
        let book = lock(&self.inner.book);
        let mut found: Vec<_> = book.of_user(user).filter_map(|(held, _)| held.active(now)).collect();
        found.sort_by_key(|record| (record.starts, record.id));
        found
    }

    fn get(&self, now: Timestamp, user: &UserId, id: Uuid) -> Result<Record, Refusal> {
        self.held(user, id)?.active(now).ok_or(Refusal::NotFound)
    }

    async fn update(
        &self,
        now: Timestamp,
        user: &UserId,
        id: Uuid,
        change: Change,
    ) -> Result<Record, Refusal> {
        let held = self.held(user, id)?;
        let Change { credential, expires } = change;
        let (before, after, written) = {
            let mut line = lock(&held.line);
            if line.leaving || !line.record.is_active(now) {
                return Err(Refusal::NotFound);
            }
            let before = line.record.clone();
            if let Some(expires) = expires {
                line.record.expires = expires.min(now + self.inner.longest);
                line.record.expiry_asked = true;
            }
            if credential.is_some() {
                line.record.credential = credential;
                line.try_again(now);
            }
            let after = line.record.clone();
            (before, after.clone(), self.inner.put(&after))
        };
        held.wake.notify_one();
        if let Err(error) = written.await {
            let mut line = lock(&held.line);
            // Unless another change came after it; what was counted meanwhile stays.
            let own = (&after.credential, after.expires, after.expiry_asked);
            if (&line.record.credential, line.record.expires, line.record.expiry_asked) == own {
                line.record.credential = before.credential;
                (line.record.expires, line.record.expiry_asked) = (before.expires, before.expiry_asked);
                held.wake.notify_one();
            }
            return Err(error.into());
        }
        Ok(after)
    }

    async fn remove(&self, user: &UserId, id: Uuid) -> Result<(), Refusal> {
        let held = self.held(user, id)?;
        let inner = self.inner.clone();
        // In a task of its own: a client that hangs up leaves nothing half done.
        let removed = tokio::spawn(async move {
            let now = clock::now();
            let written = {
                let mut line = lock(&held.line);
                if line.leaving || !line.record.is_active(now) {
                    return Err(Refusal::NotFound);
                }
                line.leaving = true;
                let ended = Ended { why: SubscriptionEnd::Deleted, at: now, event: Uuid::new_v4() };
                inner.put(&Record { ended: Some(ended), ..line.record.clone() })
            };
            let written = written.await;
            let mut line = lock(&held.line);
            line.leaving = false;
            written?;
            line.end(clock::now(), SubscriptionEnd::Deleted);
            held.wake.notify_one();
            Ok(())
        });
        removed.await.unwrap_or_else(|_| Err(StoreError::Unavailable("it was not written".into()).into()))
    }

    /// A user's own.
    fn held(&self, user: &UserId, id: Uuid) -> Result<Arc<Held>, Refusal> {
        let book = lock(&self.inner.book);
        let (held, _) = book.all.get(&id).ok_or(Refusal::NotFound)?;
        let own = lock(&held.line).record.user == *user;
        if own { Ok(held.clone()) } else { Err(Refusal::NotFound) }
    }
}

impl Held {
    fn active(&self, now: Timestamp) -> Option<Record> {
        let line = lock(&self.line);
        (!line.leaving && line.record.is_active(now)).then(|| line.record.clone())
    }
}

impl Book {
    fn on_device(&self, user: &UserId, device: Uuid) -> impl Iterator<Item = &(Arc<Held>, Task)> {
        let range = (user.clone(), device, Uuid::nil())..=(user.clone(), device, Uuid::max());
        self.owners.range(range).filter_map(|(_, _, id)| self.all.get(id))
    }

    fn of_user(&self, user: &UserId) -> impl Iterator<Item = &(Arc<Held>, Task)> {
        let range = (user.clone(), Uuid::nil(), Uuid::nil())..=(user.clone(), Uuid::max(), Uuid::max());
        self.owners.range(range).filter_map(|(_, _, id)| self.all.get(id))
    }
}

impl Inner {
    /// Takes a subscription in and gives it its owner.
    fn insert(self: &Arc<Self>, book: &mut Book, record: Record) {
        let (id, owner) = (record.id, (record.user.clone(), record.device, record.id));
        let held = Arc::new(Held { line: Mutex::new(Line::new(record)), wake: Notify::new() });
        let weak: Weak<Self> = Arc::downgrade(self);
        let task = tokio::spawn(owner::own(weak, held.clone(), self.fetcher.clone()));
        book.owners.insert(owner);
        book.all.insert(id, (held, Task(task.abort_handle())));
    }

    /// Lets go of a subscription that is over.
    fn forget(&self, id: Uuid) {
        let mut book = lock(&self.book);
        if let Some((held, _)) = book.all.remove(&id) {
            let line = lock(&held.line);
            let owner = (line.record.user.clone(), line.record.device, id);
            drop(line);
            book.owners.remove(&owner);
            // What a failing store keeps says its end once more after a restart.
            drop(self.store.0.write(vec![Write::delete(Table::Subscriptions, id.to_string())]));
        }
    }

    /// Writes a change down without waiting for it.
    fn note(&self, record: &Record) {
        drop(self.put(record));
    }

    fn put(&self, record: &Record) -> BoxFuture<'static, Result<(), StoreError>> {
        match serde_json::to_vec(record) {
            Ok(value) => {
                let write = Write::put(Table::Subscriptions, record.id.to_string(), value);
                self.store.0.write(vec![write])
            }
            Err(error) => ready(Err(StoreError::Unavailable(error.to_string()))).boxed(),
        }
    }
}
