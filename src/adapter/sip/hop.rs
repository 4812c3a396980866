//! Where requests go (RFC 3263): what DNS says, in the order in which it is tried.

use std::net::{IpAddr, SocketAddr};

use rsipstack::sip::uri::ParamsExt as _;
use rsipstack::sip::{Host, Scheme, Transport, Uri};

/// Records of one answer that are looked at.
const MOST_RECORDS: usize = 16;
/// Addresses of one name.
const MOST_ADDRESSES: usize = 8;
/// Places for one URI.
const MOST_HOPS: usize = 32;

/// RFC 3263 §4.1: the services that there are, by NAPTR's name and SRV's.
const SERVICES: [(&str, Transport, &str); 3] = [
    ("SIP+D2U", Transport::Udp, "_sip._udp"),
    ("SIP+D2T", Transport::Tcp, "_sip._tcp"),
    ("SIPS+D2T", Transport::Tls, "_sips._tcp"),
];

/// A place that requests are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hop {
    /// Its address.
    pub address: SocketAddr,
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// RFC 5922 §7.1: whose certificate it has to show.
    pub name: String,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHop {
    /// The URI is none of SIP.
    #[error("{0:?} is no SIP URI; right is sip:host:port;transport=tcp")]
    Uri(String),
    /// Another transport than ours.
    #[error("{0} is no transport of this server's SIP: udp, tcp and tls are")]
    Transport(String),
    /// DNS knows no address.
    #[error("{name} has no address: {why}")]
    Name {
        /// The name.
        name: String,
        /// What DNS said.
        why: String,
    },
    /// DNS says nothing at all.
    #[error("{name} can't be looked up: {why}")]
    Silent {
        /// The name.
        name: String,
        /// What was heard instead.
        why: String,
    },
}

/// RFC 3403 §4.1
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Naptr {
    pub(super) order: u16,
    pub(super) preference: u16,
    pub(super) flags: String,
    pub(super) service: String,
    pub(super) regexp: bool,
    pub(super) replacement: String,
}

/// RFC 2782
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Srv {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: String,
}

/// The records of a name, none if there are none; or why nobody answers.
pub(super) type Found<T> = Result<Vec<T>, String>;

/// DNS.
pub(super) trait Records: Sync {
    fn naptr(&self, domain: &str) -> impl Future<Output = Found<Naptr>> + Send;
    fn srv(&self, name: &str) -> impl Future<Output = Found<Srv>> + Send;
    fn addresses(&self, host: &str) -> impl Future<Output = Found<IpAddr>> + Send;
}

/// RFC 3261 §19.1.1: reads `sip:host:port;transport=tcp`.
pub fn uri(text: &str) -> Result<Uri, NoHop> {
    let bad = || NoHop::Uri(text.to_owned());
    let uri = rsipstack::sip::uri::parse_uri(text).map_err(|_| bad())?;
    match uri.scheme {
        Some(Scheme::Sip | Scheme::Sips) => Ok(uri),
        _ => Err(bad()),
    }
}

/// The places for a URI, the one to try first first (RFC 3263 §4). `random`: a number below the one given.
pub(super) async fn resolve(
    dns: &impl Records,
    uri: &Uri,
    random: impl Fn(u32) -> u32 + Send,
) -> Result<Vec<Hop>, NoHop> {
    let secure = uri.scheme == Some(Scheme::Sips);
    // RFC 3261 §26.2.2: sips is TLS, also where tcp is said.
    let said = match uri.transport() {
        Some(Transport::Udp | Transport::Tcp | Transport::Tls) if secure => Some(Transport::Tls),
        Some(transport @ (Transport::Udp | Transport::Tcp | Transport::Tls)) => Some(*transport),
        Some(other) => return Err(NoHop::Transport(other.to_string())),
        None => None,
    };
    let usual = said.unwrap_or(if secure { Transport::Tls } else { Transport::Udp });
    let port = uri.host_with_port.port.map(u16::from);
    let domain = match &uri.host_with_port.host {
        Host::IpAddr(address) => {
            let address = SocketAddr::new(*address, port.unwrap_or(default_port(usual)));
            return Ok(vec![Hop { address, transport: usual, name: address.ip().to_string() }]);
        }
        Host::Domain(domain) => domain.to_string().to_ascii_lowercase(),
    };
    let mut search = Search { dns, domain: &domain, hops: Vec::new() };
    let found = match port {
        // RFC 3263 §4.2: who names a port has chosen the host.
        Some(port) => search.host(&domain, port, usual).await,
        None => search.services(said, secure, &random).await,
    };
    let name = domain.clone();
    match (found, search.hops) {
        (_, hops) if !hops.is_empty() => Ok(hops),
        (Err(why), _) => Err(NoHop::Silent { name, why }),
        (Ok(()), _) => {
            Err(NoHop::Name { name, why: "DNS has no record of it for udp, tcp or tls".to_owned() })
        }
    }
}

const fn default_port(transport: Transport) -> u16 {
    if matches!(transport, Transport::Tls) { 5061 } else { 5060 }
}

struct Search<'a, D> {
    dns: &'a D,
    domain: &'a str,
    hops: Vec<Hop>,
}

impl<D: Records> Search<'_, D> {
    async fn host(&mut self, host: &str, port: u16, transport: Transport) -> Result<(), String> {
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.dns.addresses(host).await?,
        };
        for address in addresses.into_iter().take(MOST_ADDRESSES) {
            let name = self.domain.to_owned();
            let hop = Hop { address: SocketAddr::new(address, port), transport, name };
            if self.hops.len() < MOST_HOPS && !self.hops.contains(&hop) {
                self.hops.push(hop);
            }
        }
        Ok(())
    }

    async fn services(
        &mut self,
        said: Option<Transport>,
        secure: bool,
        random: &(impl Fn(u32) -> u32 + Send),
    ) -> Result<(), String> {
        let services = match said {
            Some(transport) => usual_services(self.domain, |known| known == transport),
            None => {
                let found = self.dns.naptr(self.domain).await?;
                let ours = ordered_services(found, secure);
                match ours.is_empty() {
                    false => ours,
                    // RFC 3263 §4.1: TLS is for those who ask for it, or whose NAPTR does.
                    true => usual_services(self.domain, |known| (known == Transport::Tls) == secure),
                }
            }
        };
        let (mut silent, mut any) = (None, false);
        for (transport, name) in &services {
            match self.dns.srv(name).await {
                Ok(records) => {
                    any |= !records.is_empty();
                    for Srv { port, target, .. } in ordered(records, random) {
                        // RFC 2782: a target of "." is a service that there isn't.
                        if !target.is_empty() {
                            silent = self.host(&target, port, *transport).await.err().or(silent);
                        }
                    }
                }
                Err(why) => silent = Some(why),
            }
        }
        if !any && silent.is_none() {
            let transport = services.first().map_or(Transport::Udp, |(transport, _)| *transport);
            let domain = self.domain;
            return self.host(domain, default_port(transport), transport).await;
        }
        silent.map_or(Ok(()), Err)
    }
}

fn usual_services(domain: &str, fits: impl Fn(Transport) -> bool) -> Vec<(Transport, String)> {
    let ours = SERVICES.iter().filter(|(_, transport, _)| fits(*transport));
    ours.map(|(_, transport, service)| (*transport, format!("{service}.{domain}"))).collect()
}

/// Those of the services that are ours, the preferred one first.
fn ordered_services(mut found: Vec<Naptr>, secure: bool) -> Vec<(Transport, String)> {
    found.truncate(MOST_RECORDS);
    found.sort_by_key(|record| (record.order, record.preference));
    let ours = found.into_iter().filter_map(|record| {
        let known = SERVICES.iter().find(|(name, ..)| name.eq_ignore_ascii_case(&record.service));
        let (_, transport, _) = known.filter(|(_, transport, _)| !secure || *transport == Transport::Tls)?;
        let named =
            record.flags.eq_ignore_ascii_case("s") && !record.regexp && !record.replacement.is_empty();
        named.then_some((*transport, record.replacement))
    });
    ours.collect()
}

/// RFC 2782: by priority; of one priority, each comes first as often as its weight says.
fn ordered(mut records: Vec<Srv>, random: &impl Fn(u32) -> u32) -> Vec<Srv> {
    records.truncate(MOST_RECORDS);
    // Those without weight stand in front, so that they come first once in a while.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut out = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let end = records.iter().position(|record| record.priority != priority).unwrap_or(records.len());
        let total: u32 = records[..end].iter().map(|record| u32::from(record.weight)).sum();
        let mut left = random(total + 1);
        let chosen = records[..end].iter().position(|record| {
            let weight = u32::from(record.weight);
            let here = left <= weight;
            left = left.saturating_sub(weight);
            here
        });
        out.push(records.remove(chosen.unwrap_or(end - 1)));
    }
    out
}

#[cfg(test)]
#[path = "hop_tests.rs"]
mod tests;
