//! The handlers: each user's devices, what they can do, and the numbers at which they are called.

use std::collections::{BTreeMap, HashMap};
use std::sync::RwLock;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{StoreHandle, read, write};
use crate::call::Device;
use crate::identity::canonical::Identity;
use crate::identity::principal::Principal;
use crate::protocol::advertisement::{Advertisement, Form};
use crate::protocol::id::{HandlerKey, TgId};
use crate::protocol::number::Number;
use crate::protocol::problem::{Code, Problem};
use crate::protocol::resource::{HandlerDescription, handler_path, split_path};
use crate::store::{StoreError, Table, Write};

/// A registered device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handler {
    /// The server's name for it.
    pub key: HandlerKey,
    /// Where it is registered.
    pub tg: TgId,
    /// Whose it is.
    pub user: String,
    /// Its own name for itself.
    pub handler_id: String,
    /// What it can send and render.
    pub advertisement: Advertisement,
    /// Whether it speaks text or the JSON twin.
    pub form: Form,
    /// A name for people.
    pub name: Option<String>,
    /// The numbers of its user's token.
    pub numbers: Vec<String>,
    /// Rises with each registration: of two users with one number the later one is called.
    pub order: u64,
}

impl Handler {
    /// As a call needs it.
    pub fn device(&self) -> Device {
        Device {
            key: self.key,
            tg: self.tg.clone(),
            advertisement: self.advertisement.clone(),
            form: self.form,
        }
    }

    /// As the wire describes it.
    pub fn describe(&self, base: &str) -> HandlerDescription {
        HandlerDescription {
            uri: Some(format!("{base}{}", handler_path(&self.tg, self.key))),
            handler_id: self.handler_id.clone(),
            advertisement: self.advertisement.to_value(self.form),
            name: self.name.clone(),
            inbound: self.numbers.is_empty().then_some(false),
        }
    }
}

/// All handlers.
#[derive(Debug)]
pub struct Registry {
    store: StoreHandle,
    handlers: RwLock<Index>,
    /// Registrations are few: one at a time keeps the check and the write together.
    writing: tokio::sync::Mutex<u64>,
    per_user: usize,
    /// Rises with each change.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Index {
    by_key: HashMap<HandlerKey, Handler>,
    by_user: HashMap<String, Vec<HandlerKey>>,
    /// Handlers by each exact number, and those whose token holds a pattern.
    by_number: HashMap<String, Vec<HandlerKey>>,
    by_pattern: BTreeMap<HandlerKey, ()>,
}

impl Index {
    fn insert(&mut self, handler: Handler) {
        self.remove(handler.key);
        self.by_user.entry(handler.user.clone()).or_default().push(handler.key);
        for number in &handler.numbers {
            if number.contains('*') {
                self.by_pattern.insert(handler.key, ());
            } else {
                self.by_number.entry(number.to_ascii_lowercase()).or_default().push(handler.key);
            }
        }
        self.by_key.insert(handler.key, handler);
    }

    fn remove(&mut self, key: HandlerKey) {
        let Some(old) = self.by_key.remove(&key) else { return };
        if let Some(keys) = self.by_user.get_mut(&old.user) {
            keys.retain(|k| *k != key);
            if keys.is_empty() {
                self.by_user.remove(&old.user);
            }
        }
        for number in old.numbers.iter().map(|n| n.to_ascii_lowercase()) {
            if let Some(keys) = self.by_number.get_mut(&number) {
                keys.retain(|k| *k != key);
                if keys.is_empty() {
                    self.by_number.remove(&number);
                }
            }
        }
        self.by_pattern.remove(&key);
    }

    fn of_user<'a>(&'a self, user: &str) -> impl Iterator<Item = &'a Handler> + use<'a> {
        let keys = self.by_user.get(user).map(Vec::as_slice).unwrap_or_default();
        keys.iter().filter_map(|key| self.by_key.get(key))
    }
}

fn record(handler: &Handler) -> Result<Write, Problem> {
    let value = serde_json::to_vec(handler)
        .map_err(|error| Problem::new(Code::Internal, format!("a handler can't be written down: {error}")))?;
    Ok(Write::put(Table::Handlers, handler.key.to_string(), value))
}

/// The longest advertisement: two of them have to fit an event.
const MAX_ADVERTISEMENT: usize = 16 * 1024;

impl Registry {
    /// Reads what the store holds.
    pub async fn load(store: StoreHandle, per_user: usize) -> Result<Self, StoreError> {
        let mut index = Index::default();
        let mut order = 0;
        for (key, value) in store.0.load(Table::Handlers).await? {
            match serde_json::from_slice::<Handler>(&value) {
                Ok(handler) => {
                    order = order.max(handler.order);
                    index.insert(handler);
                }
                Err(error) => tracing::error!(key, %error, "a stored handler can't be read; it is left out"),
            }
        }
        let writing = tokio::sync::Mutex::new(order);
        Ok(Self { store, handlers: RwLock::new(index), writing, per_user, changes: watch::Sender::new(0) })
    }

    /// Tells of changes: which, one has to look.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn keep(&self, handler: &Handler) {
        write(&self.handlers).insert(handler.clone());
        self.changes.send_modify(|count| *count += 1);
    }

    fn forget(&self, key: HandlerKey) {
        write(&self.handlers).remove(key);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Registers a device, or answers the one that the user registered under the same id. True: it is new.
    pub async fn register(
        &self,
        principal: &Principal,
        tg: &TgId,
        wanted: &HandlerDescription,
    ) -> Result<(Handler, bool), Problem> {
        let numbers = numbers(principal, wanted);
        self.enter(principal.user().to_string(), numbers, tg, wanted).await
    }

    /// The same for a user whose rights were looked at elsewhere.
    pub(crate) async fn enter(
        &self,
        user: String,
        numbers: Vec<String>,
        tg: &TgId,
        wanted: &HandlerDescription,
    ) -> Result<(Handler, bool), Problem> {
        let (advertisement, form) = advertisement(wanted)?;
        check_text(wanted)?;
        let mut order = self.writing.lock().await;
        let (same, count) = {
            let index = read(&self.handlers);
            let same =
                index.of_user(&user).find(|h| h.tg == *tg && h.handler_id == wanted.handler_id).cloned();
            (same, index.of_user(&user).count())
        };
        if let Some(mut same) = same {
            if same.numbers != numbers {
                // The token may speak for other numbers by now.
                same.numbers = numbers;
                self.store.0.write(vec![record(&same)?]).await?;
                self.keep(&same);
            }
            return Ok((same, false));
        }
        if count >= self.per_user {
            return Err(Problem::new(
                Code::TooMany,
                format!("a user has at most {} handlers; DELETE one that is no longer used", self.per_user),
            ));
        }
        let handler = Handler {
            key: HandlerKey::random(),
            tg: tg.clone(),
            user,
            handler_id: wanted.handler_id.clone(),
            advertisement,
            form,
            name: wanted.name.clone(),
            numbers,
            order: *order + 1,
        };
        self.store.0.write(vec![record(&handler)?]).await?;
        *order += 1;
        self.keep(&handler);
        Ok((handler, true))
    }

    /// Forgets a user's device, whoever asks.
    pub(crate) async fn withdraw(&self, key: HandlerKey) -> Result<(), Problem> {
        let _one = self.writing.lock().await;
        self.store.0.write(vec![Write::delete(Table::Handlers, key.to_string())]).await?;
        self.forget(key);
        Ok(())
    }

    /// Changes what a device says of itself.
    pub async fn change(
        &self,
        principal: &Principal,
        key: HandlerKey,
        wanted: &HandlerDescription,
    ) -> Result<Handler, Problem> {
        let (advertisement, form) = advertisement(wanted)?;
        check_text(wanted)?;
        let _one = self.writing.lock().await;
        let mut handler = self.own(principal, key).ok_or_else(no_such)?;
        handler.advertisement = advertisement;
        handler.form = form;
        handler.name.clone_from(&wanted.name);
        handler.numbers = numbers(principal, wanted);
        self.store.0.write(vec![record(&handler)?]).await?;
        self.keep(&handler);
        Ok(handler)
    }

    /// Forgets a device.
    pub async fn remove(&self, principal: &Principal, key: HandlerKey) -> Result<(), Problem> {
        let _one = self.writing.lock().await;
        self.own(principal, key).ok_or_else(no_such)?;
        self.store.0.write(vec![Write::delete(Table::Handlers, key.to_string())]).await?;
        self.forget(key);
        Ok(())
    }

    /// A device, if it is this user's.
    pub fn own(&self, principal: &Principal, key: HandlerKey) -> Option<Handler> {
        let user = principal.user();
        read(&self.handlers).by_key.get(&key).filter(|h| h.user == user.as_str()).cloned()
    }

    /// The device that a client names by URI, by path or by its own id, if it is this user's.
    pub fn resolve(&self, user: &str, tg: Option<&TgId>, named: &str) -> Option<Handler> {
        let index = read(&self.handlers);
        if let Some((tg, key)) = split_path(named, "handlers") {
            let handler = index.by_key.get(&key.parse().ok()?)?;
            return (handler.user == user && handler.tg.as_str() == tg).then(|| handler.clone());
        }
        let by_id = |h: &&Handler| h.handler_id == named;
        let mut found = index.of_user(user).filter(by_id);
        let first = found.next()?;
        let here = if tg.is_none_or(|tg| first.tg == *tg) { None } else { found.find(|h| Some(&h.tg) == tg) };
        Some(here.unwrap_or(first).clone())
    }

    /// A user's devices on a TG.
    pub fn list(&self, user: &str, tg: &TgId) -> Vec<Handler> {
        read(&self.handlers).of_user(user).filter(|h| h.tg == *tg).cloned().collect()
    }

    /// A user's devices on all TGs.
    pub fn list_all(&self, user: &str) -> Vec<Handler> {
        read(&self.handlers).of_user(user).cloned().collect()
    }

    /// Devices whose own names begin so.
    pub(crate) fn named(&self, prefix: &str) -> Vec<Handler> {
        let index = read(&self.handlers);
        index.by_key.values().filter(|h| h.handler_id.starts_with(prefix)).cloned().collect()
    }

    /// Whether somebody's token names just this number, not a pattern that takes it.
    pub fn is_exact(&self, number: &Number) -> bool {
        read(&self.handlers).by_number.contains_key(&number.to_string().to_ascii_lowercase())
    }

    /// Who is called at a number: the user, by their devices.
    pub fn find(&self, number: &Number) -> Vec<Handler> {
        let text = number.to_string();
        let index = read(&self.handlers);
        let exact = index.by_number.get(&text.to_ascii_lowercase()).into_iter().flatten();
        let latest = |keys: &mut dyn Iterator<Item = &HandlerKey>| {
            keys.filter_map(|key| index.by_key.get(key)).max_by_key(|h| h.order)
        };
        let mut exact = exact;
        let found = latest(&mut exact).or_else(|| {
            let identity = Identity::from_number(&text)?;
            let mut covered = index
                .by_pattern
                .keys()
                .filter(|key| index.by_key.get(key).is_some_and(|h| identity.is_covered_by(&h.numbers)));
            latest(&mut covered)
        });
        match (found, Identity::from_number(&text)) {
            (Some(found), Some(identity)) => {
                index.of_user(&found.user).filter(|h| identity.is_covered_by(&h.numbers)).cloned().collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The numbers at which a device is called.
fn numbers(principal: &Principal, wanted: &HandlerDescription) -> Vec<String> {
    let only_calls = principal.is_trunk() || wanted.inbound == Some(false);
    if only_calls { Vec::new() } else { principal.numbers.clone() }
}

fn no_such() -> Problem {
    Problem::new(Code::NotFound, "there is no such handler")
}

fn check_text(wanted: &HandlerDescription) -> Result<(), Problem> {
    if wanted.handler_id.is_empty() || wanted.handler_id.len() > 256 || wanted.handler_id.contains('/') {
        return Err(
            Problem::new(Code::BadJson, "a handler-id is 1 to 256 bytes without '/'").field("handler-id")
        );
    }
    if wanted.name.as_ref().is_some_and(|name| name.len() > 256) {
        return Err(Problem::new(Code::BadJson, "a name is at most 256 bytes").field("name"));
    }
    Ok(())
}

fn advertisement(wanted: &HandlerDescription) -> Result<(Advertisement, Form), Problem> {
    let bad = |detail: String| Problem::new(Code::BadAdvertisement, detail).field("advertisement");
    let (advertisement, form) =
        Advertisement::from_value(&wanted.advertisement).map_err(|error| bad(error.to_string()))?;
    if advertisement.to_string().len() > MAX_ADVERTISEMENT {
        return Err(bad(format!("an advertisement is at most {MAX_ADVERTISEMENT} bytes")));
    }
    Ok((advertisement, form))
}

#[cfg(test)]
mod tests;
