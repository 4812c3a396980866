//! Requests of dialogs that a starting server may know from before, until it has taken its calls up again: 481 would end them.

use std::sync::{Arc, Weak};

use rsipstack::sip::Method;
use rsipstack::transaction::Transaction;
use tokio::sync::{Semaphore, watch};

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

    /// What has the request looked at again when all calls are there; it comes back where there is no room.
    pub(super) fn wait(
        &self,
        stack: Weak<Stack>,
        mut transaction: Transaction,
    ) -> Result<impl Future<Output = ()> + Send + 'static, Transaction> {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else { return Err(transaction) };
        let mut whole = self.whole.subscribe();
        Ok(async move {
            if transaction.original.method == Method::Invite {
                // RFC 3261 §17.2.1
                let _ = transaction.send_trying().await;
            }
            let there = whole.wait_for(|whole| *whole).await.is_ok();
            drop(room);
            if let (true, Some(stack)) = (there, stack.upgrade()) {
                stack.within(transaction);
            }
        })
    }
}
