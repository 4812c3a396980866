//! Which line an event of the operator's is for. Events may come before the answer that names their session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{Notify, mpsc};
use uuid::Uuid;

use super::account::Account;
use super::api::Told;
use crate::service::lock;

/// Events that wait for one line; a line that is further behind asks for its session instead.
const QUEUE: usize = 64;
/// Events whose session is not known yet; the oldest go first.
const EARLY: usize = 64;
/// Invitations that are told apart from repeated ones.
const INVITED: usize = 256;

#[derive(Debug)]
struct Handle {
    told: mpsc::Sender<Told>,
    look: Arc<Notify>,
}

/// An account's lines.
#[derive(Debug, Default)]
pub(super) struct Book {
    lines: HashMap<Uuid, Handle>,
    early: VecDeque<Told>,
    invited: VecDeque<Uuid>,
}

/// What a line hears of its session, until it is dropped.
#[derive(Debug)]
pub(super) struct Ear {
    account: Arc<Account>,
    pub(super) session: Uuid,
    pub(super) told: mpsc::Receiver<Told>,
    /// Events were missed: the session is to be asked for.
    pub(super) look: Arc<Notify>,
}

impl Ear {
    pub(super) fn open(account: &Arc<Account>, session: Uuid) -> Self {
        let (told, look) = lock(&account.book).open(session);
        Self { account: account.clone(), session, told, look }
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        lock(&self.account.book).lines.remove(&self.session);
    }
}

impl Book {
    fn open(&mut self, session: Uuid) -> (mpsc::Receiver<Told>, Arc<Notify>) {
        let (told, heard) = mpsc::channel(QUEUE);
        let look = Arc::new(Notify::new());
        self.lines.insert(session, Handle { told, look: look.clone() });
        for told in std::mem::take(&mut self.early) {
            self.hear(told);
        }
        (heard, look)
    }

    /// An event came.
    pub(super) fn hear(&mut self, told: Told) {
        if let Some(line) = self.lines.get(&told.session) {
            if line.told.try_send(told).is_err() {
                line.look.notify_one();
            }
            return;
        }
        if self.early.len() >= EARLY {
            self.early.pop_front();
        }
        self.early.push_back(told);
    }

    /// Whether an invitation is new.
    pub(super) fn invite(&mut self, session: Uuid) -> bool {
        if self.invited.contains(&session) {
            return false;
        }
        if self.invited.len() >= INVITED {
            self.invited.pop_front();
        }
        self.invited.push_back(session);
        true
    }

    /// Events may have been missed.
    pub(super) fn look(&self) {
        self.lines.values().for_each(|line| line.look.notify_one());
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::mapping::Status;

    fn told(session: u128, sequence: u32) -> Told {
        Told {
            session: Uuid::from_u128(session),
            status: Status::Ringing,
            offer: None,
            answer: None,
            reason: None,
            sequence: Some(sequence),
            originator: None,
        }
    }

    #[test]
    fn what_comes_early_is_heard_in_order_and_only_by_its_own_line() {
        let mut book = Book::default();
        for (session, sequence) in [(1, 1), (2, 1), (1, 2)] {
            book.hear(told(session, sequence));
        }
        let (mut heard, _) = book.open(Uuid::from_u128(1));
        book.hear(told(1, 3));
        let all: Vec<_> = std::iter::from_fn(|| heard.try_recv().ok()).collect();
        assert_eq!(all, [told(1, 1), told(1, 2), told(1, 3)]);
        assert_eq!(book.early, [told(2, 1)]);
    }

    #[tokio::test]
    async fn nothing_grows_without_bound_and_a_slow_line_is_to_look() {
        let mut book = Book::default();
        (0..10_000).for_each(|n| book.hear(told(9, n)));
        assert_eq!(book.early.len(), EARLY);
        let (heard, look) = book.open(Uuid::from_u128(1));
        (0..10_000).for_each(|n| book.hear(told(1, n)));
        assert_eq!(heard.len(), QUEUE);
        look.notified().await;
        book.look();
        look.notified().await;
        assert!(book.invite(Uuid::from_u128(1)) && !book.invite(Uuid::from_u128(1)));
        (0..1_000).for_each(|n| assert!(book.invite(Uuid::from_u128(n + 2))));
        assert_eq!(book.invited.len(), INVITED);
    }
}
