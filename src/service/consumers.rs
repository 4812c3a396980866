//! Customers' own TGs: where calls to a customer's numbers go on to.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use oauth2::url::{Host, Url};
use serde::{Deserialize, Serialize};

use super::{StoreHandle, read, write};
use crate::identity::canonical::covers_pattern;
use crate::identity::principal::Principal;
use crate::protocol::id::TgId;
use crate::protocol::number::{Destinations, Number};
use crate::protocol::problem::{Code, Problem};
use crate::store::{StoreError, Table, Write};

/// Registrations that one user may have.
const PER_USER: usize = 16;
/// The longest URI and the longest token.
const MAX_URI: usize = 2_048;
const MAX_TOKEN: usize = 8_192;

/// A customer's TG.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name here.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// The TG below which the customer is a customer.
    pub tg: TgId,
    /// Where calls go.
    pub target_uri: String,
    /// What they are placed with.
    pub token: String,
    /// The numbers that it takes.
    pub destinations: Destinations,
    /// Rises with each registration: of two that take a number the later one is called.
    pub order: u64,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither token nor numbers.
        f.debug_struct("Consumer")
            .field("id", &self.id)
            .field("target", &self.target_uri)
            .finish_non_exhaustive()
    }
}

/// What a customer asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Where its TG is.
    pub target_uri: String,
    /// What to place calls with.
    pub token: String,
    /// The numbers that it takes.
    pub destinations: Destinations,
}

/// All customers' TGs.
#[derive(Debug)]
pub struct Consumers {
    store: StoreHandle,
    all: RwLock<BTreeMap<String, Arc<Consumer>>>,
    /// Registrations are few: one at a time keeps the check and the write together.
    writing: tokio::sync::Mutex<u64>,
}

fn key(id: &str) -> String {
    format!("consumer:{id}")
}

fn no_such() -> Problem {
    Problem::new(Code::NotFound, "there is no such registration")
}

impl Consumers {
    /// Reads what the store holds.
    pub(crate) async fn load(store: StoreHandle) -> Result<Self, StoreError> {
        let mut all = BTreeMap::new();
        for (name, value) in store.0.load(Table::Meta).await? {
            if !name.starts_with("consumer:") {
                continue;
            }
            match serde_json::from_slice::<Consumer>(&value) {
                Ok(consumer) => drop(all.insert(consumer.id.clone(), Arc::new(consumer))),
                Err(error) => {
                    tracing::error!(name, %error, "a stored customer's TG can't be read; it is left out")
                }
            }
        }
        let newest = all.values().map(|consumer| consumer.order).max().unwrap_or_default();
        Ok(Self { store, all: RwLock::new(all), writing: tokio::sync::Mutex::new(newest) })
    }

    /// A registration as it would be, if what it says of itself holds. Nobody was asked whether its TG is there.
    pub fn check(
        &self,
        principal: &Principal,
        tg: &TgId,
        own: &str,
        wanted: Wanted,
    ) -> Result<Consumer, Problem> {
        check_uri(&wanted.target_uri, own)?;
        let size = 1..=MAX_TOKEN;
        if !size.contains(&wanted.token.len()) || !wanted.token.bytes().all(|b| b.is_ascii_graphic()) {
            let why = "the bearer token with which your TG takes our calls: 1 to 8192 visible characters";
            return Err(Problem::new(Code::BadJson, why).field("token"));
        }
        let field = "outbound.destinations";
        let included: Vec<String> = wanted.destinations.included().collect();
        if included.is_empty() {
            return Err(
                Problem::new(Code::BadNumber, "at least one number or pattern is expected").field(field)
            );
        }
        if !included.iter().all(|pattern| covers_pattern(&principal.numbers, pattern)) {
            let why = "these are not all among the numbers that your token names; the TG's description lists `numbers`";
            return Err(Problem::new(Code::NumberNotAllowed, why).field(field));
        }
        let Wanted { target_uri, token, destinations } = wanted;
        let (id, user) = (uuid::Uuid::new_v4().to_string(), principal.user().to_string());
        Ok(Consumer { id, user, tg: tg.clone(), target_uri, token, destinations, order: 0 })
    }

    /// Takes a registration down. The same user's TG at the same place is the same registration. True: it is new.
    pub async fn put(&self, mut consumer: Consumer) -> Result<(Arc<Consumer>, bool), Problem> {
        let mut order = self.writing.lock().await;
        let (known, count) = {
            let all = read(&self.all);
            let mut mine = all.values().filter(|one| one.user == consumer.user);
            let count = mine.clone().count();
            let same = |one: &&Arc<Consumer>| one.id == consumer.id || one.target_uri == consumer.target_uri;
            (mine.find(same).map(|one| one.id.clone()), count)
        };
        let new = known.is_none();
        if new && count >= PER_USER {
            let why =
                format!("a user has at most {PER_USER} registrations; DELETE one that is no longer used");
            return Err(Problem::new(Code::TooMany, why));
        }
        consumer.id = known.unwrap_or(consumer.id);
        consumer.order = *order + 1;
        self.store.0.write(vec![record(&consumer)?]).await?;
        *order += 1;
        let consumer = Arc::new(consumer);
        write(&self.all).insert(consumer.id.clone(), consumer.clone());
        Ok((consumer, new))
    }

    /// Forgets a registration; live calls go on.
    pub async fn remove(&self, user: &str, id: &str) -> Result<(), Problem> {
        let _one = self.writing.lock().await;
        self.own(user, id)?;
        self.store.0.write(vec![Write::delete(Table::Meta, key(id))]).await?;
        write(&self.all).remove(id);
        Ok(())
    }

    /// A registration, if it is this user's.
    pub fn own(&self, user: &str, id: &str) -> Result<Arc<Consumer>, Problem> {
        read(&self.all).get(id).filter(|one| one.user == user).cloned().ok_or_else(no_such)
    }

    /// A user's registrations.
    pub fn list(&self, user: &str) -> Vec<Arc<Consumer>> {
        read(&self.all).values().filter(|one| one.user == user).cloned().collect()
    }

    /// Whose TG takes a number.
    pub fn find(&self, number: &Number) -> Option<Arc<Consumer>> {
        let all = read(&self.all);
        all.values().filter(|one| one.destinations.allow(number)).max_by_key(|one| one.order).cloned()
    }
}

fn record(consumer: &Consumer) -> Result<Write, Problem> {
    let value = serde_json::to_vec(consumer).map_err(|error| {
        Problem::new(Code::Internal, format!("a customer's TG can't be written down: {error}"))
    })?;
    Ok(Write::put(Table::Meta, key(&consumer.id), value))
}

/// Whether a URI may be another server's TG: https, a domain name, and not this server (`own`, an authority).
fn check_uri(uri: &str, own: &str) -> Result<(), Problem> {
    let bad = |why: &str| Err(Problem::new(Code::BadTargetUri, why).field("target-uri"));
    if uri.len() > MAX_URI {
        return bad("a URI is at most 2048 bytes");
    }
    let Ok(parsed) = Url::parse(uri) else {
        return bad(
            "the URI of your TG is expected: https://ript.example/.well-known/ript/v1/providertgs/main",
        );
    };
    if parsed.scheme() != "https" {
        return bad("calls go over https only");
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return bad("a URI with a user or password is not taken; the bearer goes into `token`");
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return bad("a TG's URI has neither query nor fragment");
    }
    let domain = match parsed.host() {
        Some(Host::Domain(domain)) if !domain.is_empty() => domain,
        _ => return bad("a domain name is expected, no address: the certificate is checked against it"),
    };
    let port = parsed.port().unwrap_or(443);
    let own = Url::parse(&format!("https://{own}")).ok();
    let is_own = own.is_some_and(|own| {
        own.host_str().is_some_and(|host| host.eq_ignore_ascii_case(domain))
            && own.port().unwrap_or(443) == port
    });
    if is_own {
        return bad("this is our own address: name the TG of your server, to which calls are to go");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_tg_of_another_server_by_name() {
        let field = |uri: &str| check_uri(uri, "ript.example:4433").unwrap_err().field;
        for bad in [
            "",
            "nonsense",
            "http://e.example/.well-known/ript/v1/providertgs/x",
            "https://192.0.2.1/tg",
            "https://[2001:db8::1]/tg",
            "https://3232235777/tg",
            "https://0x7f.1/tg",
            "https://user@e.example/tg",
            "https://e.example/tg?x=1",
            "https://e.example/tg#x",
            "https://ript.example:4433/tg",
            "https://RIPT.example:4433/tg",
            "ftp://e.example/tg",
        ] {
            assert_eq!(field(bad).as_deref(), Some("target-uri"), "{bad}");
        }
        for good in
            ["https://e.example/tg", "https://ript.example/tg", "https://e.example:4433/.well-known/x"]
        {
            check_uri(good, "ript.example:4433").unwrap();
        }
    }
}
