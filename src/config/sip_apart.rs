//! Ways to telephone networks that share an address: whether what comes in there can be told apart.

use std::net::{IpAddr, SocketAddr};

use super::error::{ConfigError, Place};
use crate::adapter::ims::{AccountSettings, Settings, TrunkSettings, WaySettings};
use crate::adapter::sip::uri;

/// A way, and where its table says where it listens.
struct One<'a> {
    kind: Kind<'a>,
    place: &'a Place,
}

enum Kind<'a> {
    Account(&'a AccountSettings),
    Trunk(&'a TrunkSettings),
}

/// Refuses ways of which nobody could say whose a call is. `places`: of accounts, then of trunks.
pub(super) fn check(settings: &Settings, places: &[Place]) -> Result<(), ConfigError> {
    let kinds = settings.accounts.iter().map(Kind::Account).chain(settings.trunks.iter().map(Kind::Trunk));
    let all: Vec<_> = kinds.zip(places).map(|(kind, place)| One { kind, place }).collect();
    for (at, own) in all.iter().enumerate() {
        for other in &all[..at] {
            if let Some(why) = conflict(other, own) {
                let key = format!("{}.listen", own.table());
                return Err(ConfigError::BadValue { key, place: own.place.clone(), why });
            }
        }
    }
    Ok(())
}

impl One<'_> {
    fn table(&self) -> &'static str {
        match self.kind {
            Kind::Account(_) => "sip.account",
            Kind::Trunk(_) => "sip.trunk",
        }
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::Account(account) => format!("the account {}", account.user),
            Kind::Trunk(trunk) => format!("the trunk {}", trunk.name),
        }
    }

    fn way(&self) -> &WaySettings {
        match self.kind {
            Kind::Account(account) => &account.way,
            Kind::Trunk(trunk) => &trunk.way,
        }
    }

    /// The hosts of its servers.
    fn hosts(&self) -> Vec<String> {
        let servers = match self.kind {
            Kind::Account(account) => account.proxy.iter().chain([&account.registrar]).collect(),
            Kind::Trunk(trunk) => trunk.servers.iter().collect::<Vec<_>>(),
        };
        let hosts = servers.into_iter().filter_map(|server| uri(server).ok());
        hosts.map(|uri| uri.host_with_port.host.to_string().to_ascii_lowercase()).collect()
    }
}

fn conflict(one: &One<'_>, other: &One<'_>) -> Option<String> {
    let (a, b) = (one.way(), other.way());
    let name = one.name();
    if a.listen.port() == 0 || a.listen != b.listen {
        return apart(a, b).map(|address| {
            format!("{name} has {address} too; right is the same listen for both, or another port")
        });
    }
    let files = |way: &WaySettings| (way.files.certificate.clone(), way.files.key.clone());
    let same = (a.tls_listen, a.public, files(a)) == (b.tls_listen, b.public, files(b));
    if !same || a.files.roots != b.files.roots {
        return Some(format!(
            "{name} shares {} and has another tls-listen, public, certificate, key or ca; right are the same in \
             both, or another listen",
            a.listen
        ));
    }
    let clash = match (&one.kind, &other.kind) {
        (Kind::Account(a), Kind::Account(b)) => user(a) == user(b),
        (Kind::Trunk(a), Kind::Trunk(b)) => a.numbers.overlaps(&b.numbers) && share(one, other),
        (Kind::Account(account), Kind::Trunk(trunk)) | (Kind::Trunk(trunk), Kind::Account(account)) => {
            trunk.numbers.allow(&account.number) && share(one, other)
        }
    };
    clash.then(|| {
        let right = match (&one.kind, &other.kind) {
            (Kind::Account(_), Kind::Account(_)) => "identities with different users",
            (Kind::Trunk(_), Kind::Trunk(_)) => {
                "numbers that are not both's, peers (or peer-names) that are not"
            }
            _ => "a trunk whose numbers are without the account's, peers (or peer-names) that are not both's",
        };
        format!(
            "{name} shares {}, and calls could be for either; right are {right}, or another listen",
            a.listen
        )
    })
}

/// Before the @ of its Contact.
fn user(account: &AccountSettings) -> &str {
    let identity = account.identity.split_once(':').map_or("", |(_, rest)| rest);
    identity.split_once('@').map_or("", |(user, _)| user)
}

/// Whether the same sender may be a peer of both.
fn share(one: &One<'_>, other: &One<'_>) -> bool {
    let (a, b) = (one.way(), other.way());
    let (own, theirs) = (one.hosts(), other.hosts());
    let at = |hosts: &[String], way: &WaySettings| {
        let mut addresses = hosts.iter().filter_map(|host| host.parse::<IpAddr>().ok());
        addresses.any(|address| way.peers.iter().any(|peer| peer.contains(address)))
    };
    let names = |hosts: &[String], way: &WaySettings| [hosts, &way.peer_names[..]].concat();
    let (own_names, their_names) = (names(&own, a), names(&theirs, b));
    let certified = !a.files.roots.is_empty() && a.tls_listen.is_some();
    a.peers.iter().any(|peer| b.peers.iter().any(|other| other.overlaps(peer)))
        || at(&own, b)
        || at(&theirs, a)
        || own_names.iter().any(|name| their_names.contains(name))
        || certified && a.peer_names.is_empty() && b.peer_names.is_empty()
}

/// The address that two ends of different addresses would both want.
fn apart(a: &WaySettings, b: &WaySettings) -> Option<SocketAddr> {
    let own = [Some(a.listen), a.tls_listen];
    let theirs = [Some(b.listen), b.tls_listen];
    let same = |one: &SocketAddr, two: &SocketAddr| {
        let any = one.ip().is_unspecified() || two.ip().is_unspecified();
        one.port() != 0 && one.port() == two.port() && (any && one.is_ipv4() == two.is_ipv4() || one == two)
    };
    let taken = |one: &SocketAddr| theirs.iter().flatten().any(|two| same(one, two));
    own.into_iter().flatten().find(taken)
}
