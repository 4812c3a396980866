//! Who is told of registrations that have ended, and the task that ends them in time.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::{Registration, Shared};
use crate::clock;
use crate::service::lock;

/// Why a registration is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum End {
    /// Its time has passed.
    Expired,
    /// Its owner deleted it.
    Deleted,
    /// The network no longer knows its number as ours.
    Lost,
}

/// Called once with each registration that has ended, while no lock is held; it must not wait.
pub(in super::super) type Ended = Box<dyn Fn(&Registration, End) + Send + Sync>;

/// The task that watches the clock; it ends with this handle.
#[derive(Debug)]
pub(in super::super) struct Watcher(AbortHandle);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watcher {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        Self(tokio::spawn(watch(shared)).abort_handle())
    }
}

async fn watch(shared: Arc<Shared>) {
    loop {
        let next = {
            let mut book = lock(&shared.book);
            book.expire(clock::now());
            shared.tidy(&mut book);
            book.next_end()
        };
        shared.tell();
        // A registration that is made, refreshed or removed meanwhile may move the next end.
        let changed = shared.changed.notified();
        match next {
            Some(end) => {
                let rest = tokio::time::sleep(end.since(clock::now()));
                tokio::select! { () = rest => {}, () = changed => {} }
            }
            None => changed.await,
        }
    }
}
