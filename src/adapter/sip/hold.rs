//! Requests of dialogs that a starting server may know from before, until it has taken its calls up again: 481 would end them.

use std::sync::{Arc, Weak};

use rsipstack::sip::Method;
use rsipstack::transaction::Transaction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::stack::Stack;

/// Requests that may wait; more are refused for now.
const WAITING: usize = 1_024;

/// Whether a start is under way.
#[derive(Debug)]
pub(super) struct Hold {
    whole: watch::Sender<bool>,
    room: Arc<Semaphore>,
}

impl Default for Hold {
    fn default() -> Self {
        Self { whole: watch::Sender::new(true), room: Arc::new(Semaphore::new(WAITING)) }
    }
}

impl Hold {
    /// From now on, or no longer.
    pub(super) fn set(&self, holds: bool) {
        self.whole.send_replace(!holds);
    }

    pub(super) fn is_on(&self) -> bool {
        !*self.whole.borrow()
    }

    pub(super) fn waiting(&self) -> usize {
        WAITING - self.room.available_permits()
    }

    /// Room for one that waits.
    pub(super) fn room(&self) -> Option<Room> {
        let permit = Arc::clone(&self.room).try_acquire_owned().ok()?;
        Some(Room { whole: self.whole.subscribe(), _permit: permit })
    }
}

/// Room for a request.
pub(super) struct Room {
    whole: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// Has the request looked at again when all calls are there.
    pub(super) async fn wait(mut self, stack: Weak<Stack>, mut transaction: Transaction) {
        if transaction.original.method == Method::Invite {
            // RFC 3261 §17.2.1
            let _ = transaction.send_trying().await;
        }
        let there = self.whole.wait_for(|whole| *whole).await.is_ok();
        if let (true, Some(stack)) = (there, stack.upgrade()) {
            stack.within(transaction);
        }
    }
}
