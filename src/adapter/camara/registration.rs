//! What is registered: pure state in virtual time, and beside it the store that outlives the process.

mod book;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

use super::phone::PhoneNumber;
use crate::identity::principal::UserId;
use crate::protocol::number::Number;
use crate::protocol::time::Timestamp;
use crate::service::{StoreHandle, lock};
use crate::store::{MAX_BATCH_WRITES, StoreError, Table, Write};
use book::Book;
pub(super) use watch::{End, Ended, Watcher};

/// webrtc-registration.yaml, getRegistrationsByDeviceId: the longest list of a device's registrations.
const PER_DEVICE: usize = 10;
/// Registrations altogether: what memory is for.
const ALL: usize = 1_000_000;

/// How long registrations live, and how many there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The shortest life that may be asked for.
    pub shortest: Duration,
    /// The longest; who asks for more gets this.
    pub longest: Duration,
    /// Where nothing is asked for.
    pub usual: Duration,
    /// Active registrations of one phone number.
    pub per_number: usize,
    /// Devices of one user with active registrations.
    pub devices_per_user: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(60),
            longest: Duration::from_secs(24 * 3600),
            // webrtc-registration.yaml, updateRegistrationById: "TTL_cfg, e.g. 3600 s".
            usual: Duration::from_secs(3600),
            per_number: 10,
            devices_per_user: 10,
        }
    }
}

/// A device's registration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Registration {
    /// The server's name for it.
    pub(super) id: Uuid,
    /// Whose it is.
    pub(super) user: UserId,
    /// The device's own name.
    pub(super) device: Uuid,
    /// The number that the device is registered for.
    pub(super) number: PhoneNumber,
    /// When it ends.
    pub(super) expires: Timestamp,
}

/// What a device asks for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) user: UserId,
    pub(super) device: Uuid,
    pub(super) number: PhoneNumber,
    pub(super) expires: Option<Timestamp>,
}

/// Why a registration is not made, kept or found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It would end too soon.
    #[error("registrationExpireTime: {least} is the earliest possible now; leave it out for the usual time")]
    TooSoon {
        /// The earliest end.
        least: Timestamp,
    },
    /// The device is registered for that number.
    #[error(
        "an active registration exists for this deviceId and the phoneNumber of the access token; \
         GET /sessions?deviceId=… finds it: refresh it by PUT, or DELETE it first"
    )]
    AlreadyExists,
    /// The number has as many as it may.
    #[error("a phone number has at most {0} active registrations; DELETE one that is no longer used")]
    PerNumber(usize),
    /// The device has as many as a list may hold.
    #[error("a user has at most {0} active registrations on one device; DELETE one that is no longer used")]
    PerDevice(usize),
    /// The user has as many devices as may be.
    #[error("a user has at most {0} devices with active registrations; DELETE those of one no longer used")]
    Devices(usize),
    /// There is none, or it has ended, or it belongs to another user.
    #[error("registrationId: there is no such active registration; POST /sessions makes one")]
    NotFound,
    /// There is no room for more.
    #[error("the server has as many registrations as it can hold; try again later")]
    Full,
    /// The store takes no changes now.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All registrations, in memory and in the store.
#[derive(Debug)]
pub(super) struct Registrations {
    shared: Arc<Shared>,
}

/// What the watcher has at hand too.
struct Shared {
    store: StoreHandle,
    /// Writes are handed to the store while this is held, so that both see changes in one order.
    book: Mutex<Book>,
    /// The next end may be another one.
    changed: Notify,
    ended: Ended,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("book", &self.book).finish_non_exhaustive()
    }
}

impl Registrations {
    /// Reads what the store holds; what has ended is deleted there, and told.
    pub(super) async fn load(
        store: StoreHandle,
        limits: Limits,
        now: Timestamp,
        ended: Ended,
    ) -> Result<Self, StoreError> {
        let mut book = Book::new(limits);
        for (key, value) in store.0.load(Table::Registrations).await? {
            match serde_json::from_slice::<Registration>(&value) {
                Ok(registration) => book.restore(now, registration),
                Err(error) => {
                    tracing::error!(key, %error, "a stored registration can't be read; it is left out")
                }
            }
        }
        while !book.gone.is_empty() {
            store.0.write(deletions(&mut book)).await?;
        }
        let shared = Arc::new(Shared { store, book: Mutex::new(book), changed: Notify::new(), ended });
        Ok(Self { shared })
    }

    /// Ends registrations when their time has passed, as long as the handle lives.
    pub(super) fn watch(&self) -> Watcher {
        Watcher::start(self.shared.clone())
    }

    pub(super) async fn create(&self, now: Timestamp, wanted: Wanted) -> Result<Registration, Refusal> {
        let (made, written) = self.shared.with(|book| {
            let made = book.create(now, wanted, Uuid::new_v4())?;
            Ok::<_, Refusal>((made.clone(), self.shared.put(book, &made)))
        })?;
        if let Err(error) = written.await {
            self.shared.with(|book| {
                book.take_back(&made, None);
                // The store may have it all the same.
                book.gone.push(made.id);
            });
            return Err(error.into());
        }
        Ok(made)
    }

    pub(super) fn get(&self, now: Timestamp, user: &UserId, id: Uuid) -> Result<Registration, Refusal> {
        self.shared.with(|book| {
            let found = book.get(now, user, id);
            self.shared.tidy(book);
            found
        })
    }

    /// All that are active.
    pub(super) fn active(&self, now: Timestamp) -> Vec<Registration> {
        self.shared.with(|book| {
            book.expire(now);
            book.all.values().cloned().collect()
        })
    }

    /// A user's registrations on a device, whatever their numbers.
    pub(super) fn list(&self, now: Timestamp, user: &UserId, device: Uuid) -> Vec<Registration> {
        self.shared.with(|book| {
            let found = book.list(now, user, device);
            self.shared.tidy(book);
            found
        })
    }

    pub(super) async fn refresh(
        &self,
        now: Timestamp,
        user: &UserId,
        id: Uuid,
        expires: Option<Timestamp>,
    ) -> Result<Registration, Refusal> {
        let (before, after, written) = self.shared.with(|book| {
            let (before, after) = book.refresh(now, user, id, expires)?;
            let written = self.shared.put(book, &after);
            Ok::<_, Refusal>((before, after, written))
        })?;
        if let Err(error) = written.await {
            self.shared.with(|book| book.take_back(&after, Some(before)));
            return Err(error.into());
        }
        Ok(after)
    }

    /// Ends all registrations of a number that another network took away.
    pub(super) fn lose(&self, number: &Number) {
        self.shared.with(|book| {
            book.lose(number);
            self.shared.tidy(book);
        });
    }

    pub(super) async fn remove(&self, now: Timestamp, user: &UserId, id: Uuid) -> Result<(), Refusal> {
        let (removed, written) = self.shared.with(|book| {
            let removed = book.remove(now, user, id)?;
            book.gone.push(removed.id);
            Ok::<_, Refusal>((removed, self.shared.store.0.write(deletions(book))))
        })?;
        if let Err(error) = written.await {
            self.shared.with(|book| book.bring_back(removed));
            return Err(error.into());
        }
        (self.shared.ended)(&removed, End::Deleted);
        Ok(())
    }
}

impl Shared {
    /// Looks into the book, then tells what has ended meanwhile.
    fn with<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        let (done, moved) = {
            let mut book = lock(&self.book);
            let before = book.next_end();
            let done = look(&mut book);
            (done, before != book.next_end())
        };
        if moved {
            self.changed.notify_one();
        }
        self.tell();
        done
    }

    fn tell(&self) {
        let untold = std::mem::take(&mut lock(&self.book).untold);
        untold.iter().for_each(|(one, end)| (self.ended)(one, *end));
    }

    fn put(&self, book: &mut Book, one: &Registration) -> BoxFuture<'static, Result<(), StoreError>> {
        let value = match serde_json::to_vec(one) {
            Ok(value) => value,
            Err(error) => return ready(Err(StoreError::Unavailable(error.to_string()))).boxed(),
        };
        let mut batch = deletions(book);
        batch.push(Write::put(Table::Registrations, one.id.to_string(), value));
        self.store.0.write(batch)
    }

    /// Deletes some of what has ended, without waiting for it. What a failing store keeps goes at the next start.
    fn tidy(&self, book: &mut Book) {
        if !book.gone.is_empty() {
            drop(self.store.0.write(deletions(book)));
        }
    }
}

/// As many as leave room for one more change in the batch; the newest first.
fn deletions(book: &mut Book) -> Vec<Write> {
    let from = book.gone.len().saturating_sub(MAX_BATCH_WRITES - 1);
    let ids = book.gone.drain(from..);
    ids.map(|id| Write::delete(Table::Registrations, id.to_string())).collect()
}
