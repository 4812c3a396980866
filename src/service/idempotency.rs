//! `Idempotency-Key`: the same key and body give the same call.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde::{Deserialize, Serialize};

use super::lock;
use crate::protocol::id::LegId;

/// What a key stands for, once its call exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Whose key it is.
    pub user: String,
    /// The key.
    pub key: String,
    /// The body's hash.
    pub body: String,
    /// The call that came of it.
    pub leg: LegId,
}

type Slot = Arc<tokio::sync::Mutex<Option<Used>>>;

/// All keys of calls that can still be read.
#[derive(Debug, Default)]
pub struct Keys(Mutex<HashMap<(String, String), Slot>>);

impl Keys {
    /// The key's slot; who holds its lock is the only one at work on it.
    pub(crate) fn slot(&self, user: &str, key: &str) -> Slot {
        lock(&self.0).entry((user.to_owned(), key.to_owned())).or_default().clone()
    }

    pub(crate) fn restore(&self, used: Used) {
        let slot = Arc::new(tokio::sync::Mutex::new(Some(used.clone())));
        lock(&self.0).insert((used.user, used.key), slot);
    }

    /// Forgets a key: its call is gone, or never came to be.
    pub(crate) fn forget(&self, user: &str, key: &str) {
        lock(&self.0).remove(&(user.to_owned(), key.to_owned()));
    }
}
