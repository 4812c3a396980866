//! Who is a way's peer, and which requests are for it.

use rsipstack::sip::Request;

use super::account::Account;
use super::caller::Incoming;
use super::way::{Kind, Way};
use crate::adapter::sip::{Beginning, Hop, uri};
use crate::service::lock;

/// Addresses at which servers have been found.
const MOST_KNOWN: usize = 256;

impl Way {
    /// Takes in where its servers are: what comes from there is theirs.
    pub(super) fn know(&self, hops: &[Hop]) {
        self.stack.know(hops);
        let mut known = lock(&self.known);
        for hop in hops {
            if known.len() < MOST_KNOWN {
                known.insert(hop.address.ip());
            }
        }
    }

    /// Whether who sent this is a peer of its own.
    pub(super) fn knows(&self, beginning: &Beginning) -> bool {
        let from = beginning.from.ip();
        let named =
            |name: &String| self.settings.peer_names.contains(name) || self.domains().any(|own| own == *name);
        self.settings.peers.iter().any(|peer| peer.contains(from))
            || lock(&self.known).contains(&from.to_canonical())
            || beginning.names.as_ref().is_some_and(|names| names.iter().any(named))
    }

    /// Whether everybody with a certificate is.
    pub(super) fn takes_any(&self, beginning: &Beginning) -> bool {
        self.settings.peer_names.is_empty() && beginning.names.is_some()
    }

    /// Whether a request is for a number of its own.
    pub(super) fn is_called(&self, request: &Request) -> bool {
        let called = || Incoming::read(request, false, &self.home()).to;
        match &self.kind {
            Kind::Account(account) => {
                let user = request.uri.auth.as_ref().map(|auth| auth.user.as_str());
                user == Some(account.user()) || called().as_ref() == Some(&account.settings.number)
            }
            Kind::Trunk(_) => called().is_some_and(|number| self.owns(&number)),
        }
    }

    /// The hosts of its servers.
    fn domains(&self) -> impl Iterator<Item = String> {
        let servers = match &self.kind {
            Kind::Trunk(trunk) => trunk.settings.servers.iter().collect(),
            Kind::Account(Account { settings, .. }) => {
                settings.proxy.iter().chain([&settings.registrar]).collect::<Vec<_>>()
            }
        };
        let hosts = servers.into_iter().filter_map(|server| uri(server).ok());
        hosts.map(|uri| uri.host_with_port.host.to_string().to_ascii_lowercase())
    }
}
