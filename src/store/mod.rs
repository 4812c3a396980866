//! L2: what survives a restart.
//!
//! [`Store`] is all that the layers above know: a few tables, read whole at the start, and batches that are
//! applied whole or not at all. [`embedded`] keeps them in a file for one node, [`memory`] for tests. The limits
//! below are those of a replicated store (etcd: 128 operations and 1.5 MiB a transaction), so that what works on
//! one node works on a cluster.

pub mod embedded;
pub mod memory;

use std::path::PathBuf;

use futures_util::future::BoxFuture;
use thiserror::Error;

/// The most writes in one batch.
pub const MAX_BATCH_WRITES: usize = 100;
/// The most bytes, keys and values, in one batch.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// The longest key, in bytes.
pub const MAX_KEY: usize = 1024;

/// A keyed set of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Registered devices.
    Handlers,
    /// Calls, live and lately ended.
    Calls,
    /// What the server itself must remember.
    Meta,
    /// CAMARA's device registrations.
    Registrations,
    /// CAMARA's event subscriptions.
    Subscriptions,
    /// CAMARA's media sessions.
    Sessions,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 6] =
        [Self::Handlers, Self::Calls, Self::Meta, Self::Registrations, Self::Subscriptions, Self::Sessions];

    /// The table's name on disk.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handlers => "handlers",
            Self::Calls => "calls",
            Self::Meta => "meta",
            Self::Registrations => "registrations",
            Self::Subscriptions => "subscriptions",
            Self::Sessions => "sessions",
        }
    }
}

/// What a table holds, by key.
pub type Records = Vec<(String, Vec<u8>)>;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets a record, whether it was there or not.
    Put {
        /// Where.
        table: Table,
        /// Under which name.
        key: String,
        /// What.
        value: Vec<u8>,
    },
    /// Removes a record; one that is not there is fine.
    Delete {
        /// Where.
        table: Table,
        /// Under which name.
        key: String,
    },
}

impl Write {
    /// Sets a record.
    pub fn put(table: Table, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self::Put { table, key: key.into(), value: value.into() }
    }

    /// Removes a record.
    pub fn delete(table: Table, key: impl Into<String>) -> Self {
        Self::Delete { table, key: key.into() }
    }
}

/// Why a store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// More is waiting than the store takes; nothing of this request was done. Try again later.
    #[error("too many writes are waiting for the store")]
    Overloaded,
    /// The store failed; whether this batch is there is unknown until it is read again.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A batch beyond the limits; a mistake of this program.
    #[error(
        "a batch of at most {MAX_BATCH_WRITES} writes, {MAX_BATCH_BYTES} bytes and keys of 1 to {MAX_KEY} bytes is taken"
    )]
    TooLarge,
    /// Another process has the file.
    #[error("{} is in use by another process; stop that one, or give this one a file of its own", .0.display())]
    Locked(PathBuf),
    /// A later version of this program wrote the file.
    #[error("{} has format {found}, this program knows up to {known}; run the newer program, or move the file away to start empty", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this program knows.
        known: u64,
    },
    /// The file is no store, or a damaged one.
    #[error("{} can't be read as a store ({why}); restore it from a backup, or move it away to start empty", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The file can't be opened or made.
    #[error("{} can't be opened: {why}; check the directory, its permissions and free space", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// Where call state, handlers and numbers are kept. Both methods hand over their request before they return: the
/// future only waits for the answer, and dropping it takes nothing back. Requests are done in the order in which
/// they were handed over.
pub trait Store: Send + Sync + 'static {
    /// All records of a table, by key; every write handed over before is in it.
    fn load(&self, table: Table) -> BoxFuture<'static, Result<Records, StoreError>>;

    /// Applies a batch, whole or not at all; durable once this resolves. Of several writes to one key the last counts.
    fn write(&self, batch: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>>;
}

/// The limits that every store keeps.
fn check_limits(batch: &[Write]) -> Result<(), StoreError> {
    let mut bytes = 0;
    for write in batch {
        let (key, value) = match write {
            Write::Put { key, value, .. } => (key.len(), value.len()),
            Write::Delete { key, .. } => (key.len(), 0),
        };
        if !(1..=MAX_KEY).contains(&key) {
            return Err(StoreError::TooLarge);
        }
        bytes += key + value;
    }
    if batch.len() > MAX_BATCH_WRITES || bytes > MAX_BATCH_BYTES {
        return Err(StoreError::TooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_beyond_the_limits_are_refused() {
        let put = |key: usize, value: usize| Write::put(Table::Meta, "k".repeat(key), vec![0; value]);
        assert_eq!(check_limits(&[]), Ok(()));
        assert_eq!(check_limits(&[put(MAX_KEY, MAX_BATCH_BYTES - MAX_KEY)]), Ok(()));
        assert_eq!(check_limits(&vec![put(1, 1); MAX_BATCH_WRITES]), Ok(()));
        for batch in [
            vec![put(0, 1)],
            vec![put(MAX_KEY + 1, 1)],
            vec![put(1, MAX_BATCH_BYTES)],
            vec![put(1, 1); MAX_BATCH_WRITES + 1],
        ] {
            assert_eq!(check_limits(&batch), Err(StoreError::TooLarge));
        }
    }
}
