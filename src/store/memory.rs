//! A store that forgets: for tests of the layers above.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::{BoxFuture, FutureExt as _, ready};

use super::{Records, Store, StoreError, Table, Write, check_limits};

/// Keeps everything in memory, and fails when told to.
#[derive(Debug, Default)]
pub struct MemoryStore {
    records: Mutex<BTreeMap<(Table, String), Vec<u8>>>,
    failing: AtomicBool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every request fails as if the disk had gone, or no longer does.
    pub fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable("told to fail".into()));
        }
        Ok(())
    }
}

impl Store for MemoryStore {
    fn load(&self, table: Table) -> BoxFuture<'static, Result<Records, StoreError>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let found = records.iter().filter(|((of, _), _)| *of == table);
        let found = found.map(|((_, key), value)| (key.clone(), value.clone())).collect();
        ready(self.check().map(|()| found)).boxed()
    }

    fn write(&self, batch: Vec<Write>) -> BoxFuture<'static, Result<(), StoreError>> {
        let done = check_limits(&batch).and_then(|()| self.check());
        if done.is_ok() {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            for write in batch {
                match write {
                    Write::Put { table, key, value } => records.insert((table, key), value),
                    Write::Delete { table, key } => records.remove(&(table, key)),
                };
            }
        }
        ready(done).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_keeps_replaces_removes_and_fails_as_told() {
        let store = MemoryStore::new();
        let put = |value: &str| Write::put(Table::Calls, "c", value);
        store.write(vec![put("1"), put("2"), Write::put(Table::Meta, "m", "x")]).await.unwrap();
        assert_eq!(store.load(Table::Calls).await.unwrap(), [("c".to_owned(), b"2".to_vec())]);
        store.set_failing(true);
        assert!(matches!(store.write(vec![put("3")]).await, Err(StoreError::Unavailable(_))));
        assert!(store.load(Table::Calls).await.is_err());
        store.set_failing(false);
        store.write(vec![Write::delete(Table::Calls, "c")]).await.unwrap();
        assert_eq!(store.load(Table::Calls).await.unwrap(), []);
    }
}
